# SPDX-License-Identifier: BSD-2-Clause
"""What a stranger's programs count is shown; what they keep for themselves, or are told, is not."""

import pytest

from eunomia.kernel.spec import Spec

ON = 'SEC("tp_btf/sched_process_exec") int f(void *ctx)'
LOOK = "__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&m, &k); if (!v) return 0;"
RB = "MAP(BPF_MAP_TYPE_RINGBUF, rb);"
SEND = "__u32 r = 1; bpf_ringbuf_output(&rb, &r, 4, 0);"
SINGLE = """struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32);
    __type(value, __u64[4]); } m SEC(".maps");"""


def streams(bpf, source):
    return {name: list(s.schema.fields) for name, s in Spec(bpf(source), "x").streams.items()}


@pytest.mark.parametrize(
    ("declared", "body", "shown"),
    [
        ("__u64 n;", "__sync_fetch_and_add(&n, 1);", ["n"]),
        ("__u64 n, m;", "n++; m += 2;", ["n", "m"]),
        ("__u64 n[8];", "n[bpf_get_smp_processor_id() & 7]++;", ["n"]),
        ("struct { __u32 slots[8]; } h[4];", "__u32 c = bpf_get_smp_processor_id(); h[c & 3].slots[c & 7]++;", ["h"]),
        ("char who[16];", "bpf_get_current_comm(who, 16);", ["who"]),
        ("int my_pid; __u64 n;", "if (bpf_get_current_pid_tgid() >> 32 == my_pid) n++;", ["n"]),
        ("struct s { int a; } *unused; __u64 n;", "n++;", ["n"]),
        ("__u64 from, sum;", "__u64 t = bpf_ktime_get_ns(); sum += t - from; from = t;", ["sum"]),
        ("__u64 biggest;", "__u64 t = bpf_ktime_get_ns(); if (t > biggest) biggest = t;", ["biggest"]),
    ],
)
def test_globals_that_programs_write_are_results(bpf, declared, body, shown):
    assert streams(bpf, f"{declared} {ON} {{ {body} return 0; }}") == {"bss": shown}


def test_globals_are_shown_beside_buffers_and_tables_and_from_sections_of_any_name(bpf):
    source = f"""{RB} TABLE(BPF_MAP_TYPE_HASH, m, __u32, __u64); __u64 here SEC(".bss.here"), there SEC(".data.there") = 1;
        __u64 event; __u64 dropped;
        {ON} {{ {LOOK} ++*v; here++; there++; event = 1; if (bpf_ringbuf_output(&rb, &event, 8, 0)) dropped++; return 0; }}"""
    found = streams(bpf, source)
    assert found.pop("rb")
    assert found == {
        "m": ["key", "value"], "bss": ["dropped"], "bss.here": ["here"], "data.there": ["there"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (f"{LOOK} v[1]++;", {"m"}),  # counts, beside the buffer
        (f"{LOOK} v[1] = 3; bpf_ringbuf_output(&rb, v, 32, 0);", set()),  # a record is put together in it
        (f"{LOOK} v[0] = bpf_ktime_get_ns();", set()),
    ],
)
def test_a_single_entry_beside_a_buffer_is_shown_if_it_counts(bpf, body, shown):
    found = streams(bpf, f"{RB} {SINGLE} {ON} {{ {SEND} {body} return 0; }}")
    assert set(found) - {"rb"} == shown


def test_a_single_entry_in_which_a_key_is_put_together_is_not_shown(bpf):
    source = f"""{SINGLE} TABLE(BPF_MAP_TYPE_HASH, h, __u64[4], __u64);
        {ON} {{ {LOOK} __u64 one = 1; v[0] = bpf_get_current_pid_tgid(); bpf_map_update_elem(&h, v, &one, 0); return 0; }}"""
    assert set(streams(bpf, source)) == {"h"}


@pytest.mark.parametrize("kind", ["BPF_MAP_TYPE_LRU_HASH", "BPF_MAP_TYPE_PERCPU_ARRAY"])
def test_what_keeps_when_something_began_is_not_shown(bpf, kind):
    source = f"""TABLE({kind}, m, __u32, __u64); __u64 total;
        SEC("tp_btf/sched_process_exec") int e(void *ctx) {{ {LOOK} *v = bpf_ktime_get_ns(); return 0; }}
        SEC("tp_btf/sched_process_exit") int x(void *ctx) {{ {LOOK} if (*v)
            __sync_fetch_and_add(&total, bpf_ktime_get_ns() - *v); return 0; }}"""
    assert set(streams(bpf, source)) == {"bss"}


def test_a_greatest_value_is_shown(bpf):
    source = f"""TABLE(BPF_MAP_TYPE_HASH, m, __u32, __u64);
        {ON} {{ __u64 now = bpf_ktime_get_ns(); {LOOK} if (now > *v) *v = now; return 0; }}"""
    assert set(streams(bpf, source)) == {"m"}
