# SPDX-License-Identifier: BSD-2-Clause
"""Sizes and maps are found whichever way the compiler arranged the code."""

import pytest

from eunomia.kernel.foreign.bytecode import uses

RING = "MAP(BPF_MAP_TYPE_RINGBUF, rb);"
TWO = RING + "MAP(BPF_MAP_TYPE_RINGBUF, other);"
START = 'SEC("raw_tp/sys_enter") int f(struct bpf_raw_tracepoint_args *ctx) {'


def sizes(data, name="rb"):
    return {o.size for o in uses(data)[name].outputs}


@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("cpu", ["v1", "v2", "v3"])
def test_finds_the_size_reserved_and_the_size_sent(bpf, level, cpu):
    data = bpf(
        TWO + START + "void *p = bpf_ringbuf_reserve(&rb, 40, 0); if (p) bpf_ringbuf_discard(p, 0);"
        "char b[24] = {}; bpf_ringbuf_output(&other, b, sizeof b, 0); return 0; }",
        level,
        f"-mcpu={cpu}",
    )
    assert sizes(data) == {40}
    assert sizes(data, "other") == {24}
    assert uses(data)["rb"].outputs[0].section == "raw_tp/sys_enter"
    assert uses(data)["rb"].outputs[0].functions == ("f",)


def test_keeps_each_size_with_its_map_where_the_compiler_merged_the_calls(bpf):
    data = bpf(
        TWO + START + "char b[32] = {}; if (ctx->args[1] > 7) bpf_ringbuf_output(&rb, b, 16, 0);"
        "else bpf_ringbuf_output(&other, b, 32, 0); return 0; }"
    )
    assert sizes(data) == {16}
    assert sizes(data, "other") == {32}


def test_finds_both_sizes_of_one_merged_call(bpf):
    data = bpf(
        RING
        + START
        + "char b[32] = {}; bpf_ringbuf_output(&rb, b, ctx->args[1] > 7 ? 16 : 32, 0); return 0; }"
    )
    assert sizes(data) == {16, 32}


def test_follows_map_and_size_into_functions(bpf):
    data = bpf(
        TWO
        + "static __noinline long emit(void *m, void *p, int n) { return bpf_ringbuf_output(m, p, n, 0); }"
        "static __noinline long twice(void *m, void *p) { return emit(m, p, 8) + emit(m, p, 12); }"
        + START
        + "char b[32] = {}; twice(&rb, b); emit(&other, b, 20); return 0; }"
    )
    assert sizes(data) == {8, 12}
    assert sizes(data, "other") == {20}
    assert {o.functions for o in uses(data)["rb"].outputs} == {("emit", "twice", "f")}


def test_calls_a_size_unknown_that_a_loop_or_a_helper_changes(bpf):
    grown = "char b[64] = {}; long n = 4; for (int i = 0; i < ctx->args[1] && n < 60; i++) n += 4;"
    assert sizes(
        bpf(RING + START + grown + "bpf_ringbuf_output(&rb, b, n, 0); return 0; }", "-fno-unroll-loops")
    ) == {None}
    read = "char b[64] = {}; __u64 n = 8; bpf_probe_read_kernel(&n, sizeof n, (void *)ctx->args[0]);"
    assert sizes(bpf(RING + START + read + "bpf_ringbuf_output(&rb, b, n & 63, 0); return 0; }")) == {None}


def test_finds_static_maps_by_their_place(bpf):
    data = bpf(
        "static MAP(BPF_MAP_TYPE_RINGBUF, rb); static MAP(BPF_MAP_TYPE_RINGBUF, other);"
        + START
        + "char b[8] = {}; bpf_ringbuf_output(&other, b, 8, 0); return 0; }"
    )
    assert sizes(data, "other") == {8}


def test_finds_calls_in_call_backs(bpf):
    data = bpf(
        RING + "static long each(__u32 i, void *p) {"
        "char b[48] = {}; bpf_ringbuf_output(&rb, b, 48, 0); return 0; }"
        + START
        + "bpf_loop(3, each, 0, 0); return 0; }"
    )
    assert sizes(data) == {48}


def test_sees_what_is_sent_through_a_ring_in_a_map(bpf):
    data = bpf(
        'struct inner { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } one SEC(".maps");'
        "struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, int);"
        '__array(values, struct inner); } outer SEC(".maps") = { .values = { &one } };'
        + START
        + "int k = 0; void *r = bpf_map_lookup_elem(&outer, &k); char b[8] = {};"
        "if (r) bpf_ringbuf_output(r, b, 8, 0); return 0; }"
    )
    assert sizes(data, "outer") == {8}


def test_names_the_map_or_global_that_is_sent_as_it_is(bpf):
    data = bpf(
        "struct e { long a[40]; } event; TABLE(BPF_MAP_TYPE_PERCPU_ARRAY, heap, int, struct e);"
        + TWO
        + START
        + "int k = 0; struct e *p = bpf_map_lookup_elem(&heap, &k); if (!p) return 0;"
        "p->a[3] = 1; bpf_ringbuf_output(&rb, p, sizeof *p, 0); event.a[1] = 2;"
        "bpf_ringbuf_output(&other, &event, sizeof event, 0); return 0; }"
    )
    assert [(o.size, o.map_value) for o in uses(data)["rb"].outputs] == [(320, "heap")]
    assert [(o.size, o.variable) for o in uses(data)["other"].outputs] == [(320, "event")]


def test_tells_settings_from_counters_and_working_memory(bpf):
    tables = "".join(f"TABLE(BPF_MAP_TYPE_HASH, {n}, int, long);" for n in ("allowed", "counts", "start"))
    found = uses(
        bpf(
            tables
            + START
            + "int k = 1; long one = 1, *c, *a = bpf_map_lookup_elem(&allowed, &k); if (!a || !*a) return 0;"
            "c = bpf_map_lookup_elem(&counts, &k); if (c) __sync_fetch_and_add(c, 1);"
            "bpf_map_update_elem(&start, &k, &one, 0); bpf_map_delete_elem(&start, &k); return 0; }"
        )
    )
    kinds = {name: (u.lookups, u.updates, u.deletes, u.writes) for name, u in found.items()}
    assert kinds == {
        "allowed": (True, False, False, False),
        "counts": (True, False, False, True),
        "start": (False, True, True, False),
    }
