# SPDX-License-Identifier: BSD-2-Clause
"""What several CPUs hold becomes one value: counts are added up, all else is one CPU's."""

import random
import struct

import pytest

from eunomia.batch import Batch
from eunomia.kernel import percpu
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.spec import Spec

PROGRAM = """
struct {{ __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, __u32);
         __type(value, {value}); }} {name} SEC(".maps");
SEC("raw_tp/sys_enter") int go(void *ctx) {{ __u32 k = 0; char *v = bpf_map_lookup_elem(&{name}, &k);
    if (v) ++*v; return 0; }}
"""


def spec_of(bpf, source, value="struct v", name="stats"):
    return Spec(bpf(source + PROGRAM.format(value=value, name=name)), "x")


def row(stream, each):
    """Return a row as people read it, out of what each CPU holds."""
    size = (stream.map.value_size + 7) // 8 * 8
    record = bytes(8) + percpu.merged(stream.cpus, [raw.ljust(size, b"\0") for raw in each])
    batch = Batch(stream.schema, record)
    assert batch.count == 1
    return {name: batch.values(name)[0] for name in stream.schema.fields if name != "key"}


def merged(bpf, source, *each):
    """Return the row of CPUs that hold these, by column: numbers for a struct code, or bytes."""
    spec = spec_of(bpf, source)
    plain = spec._entries("stats", spec.maps["stats"]).fields
    raws = []
    for columns in each:
        raw = bytearray(spec.maps["stats"].value_size)
        for name, (code, *values) in columns.items():
            struct.pack_into(f"={code}", raw, plain[name].offset - 8, *values)
        raws.append(bytes(raw))
    return row(spec.streams["stats"], raws)


def test_numbers_are_summed_at_any_depth(bpf):
    source = """struct pair { __u64 n; __u16 m; }; struct v { __u64 plain; __u8 tiny[3]; __u32 grid[2][2];
        struct pair pairs[2]; struct { struct { __s16 deep; } in; } out; unsigned __int128 wide; double d;
        unsigned few : 3, rest : 29; __u8 cube[1][1][3]; };"""

    def cpu(k):
        return {
            "plain": ("Q", k), "tiny": ("3B", 200, 0, k), "grid": ("4I", 4_000_000_000, 1, 2, k),
            "pairs": ("QH6xQH", k, 60000, 3, k), "out.in.deep": ("h", -k), "wide": ("16s", (k << 70).to_bytes(16, "little")),
            "d": ("d", k / 2), "few": ("I", 7 | k << 3), "cube": ("3B", k, 200, 0),
        }  # fmt: skip

    assert merged(bpf, source, cpu(3), cpu(4), {}) == {
        "plain": 7,
        "tiny": [400, 0, 7],
        "grid": [[8_000_000_000, 2], [4, 7]],
        "pairs": [{"n": 7, "m": 120000}, {"n": 6, "m": 7}],
        "out.in.deep": -7,
        "wide": str(7 << 70),
        "d": 3.5,
        "few": 14,
        "rest": 7,
        "cube": [[[7, 400, 0]]],
    }


def test_what_is_no_count_is_one_cpus(bpf):
    source = """enum state { IDLE, BUSY }; struct who { int pid; __u64 hits; char comm[4]; };
        struct v { __u32 ifindex; __u8 mac[6]; _Bool on; enum state state; void *sk; __u64 flags; char comm[8];
        struct who top[1]; __u16 ports[2]; float load; unsigned mode : 4; __u64 count; };"""
    one = {
        "ifindex": ("I", 2), "mac": ("6s", b"\1\2\3\4\5\6"), "on": ("?", True), "state": ("I", 1), "sk": ("Q", 0xFF),
        "flags": ("Q", 6), "comm": ("8s", b"nginx"), "top": ("i4xQ4s", 70, 5, b"abc"), "ports": ("2H", 80, 81),
        "load": ("f", 0.5), "mode": ("I", 3), "count": ("Q", 10),
    }  # fmt: skip
    assert merged(bpf, source, one, one, {}) == {
        "ifindex": 2, "mac": "01:02:03:04:05:06", "on": True, "state": "BUSY", "sk": "0xff", "flags": 6, "comm": "nginx",
        "top": [{"pid": 70, "hits": 10, "comm": "abc"}], "ports": [80, 81], "load": 0.5, "mode": 3, "count": 20,
    }  # fmt: skip


def test_times_are_the_latest_or_the_first_and_who_is_of_the_latest_cpu(bpf):
    source = "struct v { __u64 first_seen, last_seen, min_ns, max_ns; __u32 last_pid, min_len; __u64 runs; };"
    early, late = ({"first_seen": ("4Q2IQ", *numbers)} for numbers in ((5, 10, 3, 40, 77, 9, 1), (8, 20, 2, 30, 88, 11, 2)))
    assert merged(bpf, source, {}, early, late) == {
        "first_seen": 5, "last_seen": 20, "min_ns": 2, "max_ns": 40, "last_pid": 88, "min_len": 9, "runs": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        *(("packets", "sum"), ("rx_bytes", "sum"), ("value", "sum"), ("errors", "sum"), ("total_ns", "sum")),
        *(("state_changes", "sum"), ("nr_pages", "sum"), ("packets_by_port", "sum"), ("cpu_time", "sum")),
        *(("new_conns", "sum"), ("slots", "sum"), ("runtime", "sum"), ("cpu_ns", "sum"), ("start_count", "sum")),
        *(("drop_reason", "one"), ("event_type", "one"), ("tx_ifindex", "one"), ("pid", "one"), ("net_ns", "one")),
        *(("srcPort", "one"), ("ino", "one"), ("avg_rtt", "one"), ("start_pid", "one"), ("last_len", "one")),
        *(("ts", "max"), ("last_ns", "max"), ("lastSeenNs", "max"), ("timestamp", "max"), ("peak_depth", "max")),
        *(("start_time", "min"), ("created_at", "min"), ("min_latency", "min"), ("first_ns", "min")),
    ],
)
def test_a_name_says_whether_a_number_is_a_count(bpf, name, rule):
    spec = spec_of(bpf, f"struct v {{ __u64 {name}; }};")
    assert spec.streams["stats"].cpus.rules == {name: rule}


def test_a_single_number_is_what_its_map_is_called(bpf):
    spec = spec_of(bpf, "", "__u64", "last_seen")
    assert spec.streams["last_seen"].cpus.rules == {"value": "max"}


def test_the_user_says_how_a_column_becomes_one(bpf):
    spec = spec_of(bpf, "struct v { __u32 a; __u32 pid; __u8 b[2]; };")
    spec.choose_cpus({"stats.a": "max", "stats.pid": "sum", "stats.b": "one"}, ())
    each = [struct.pack("=II2B", 5, 7, 1, 2), struct.pack("=II2B", 9, 7, 3, 4)]
    assert row(spec.streams["stats"], each) == {"a": 9, "pid": 14, "b": "0102"}


@pytest.mark.parametrize(
    ("word", "rule", "said"),
    [
        ("stats.c", "sum", "no value called 'c': there are a, comm"),
        ("stats.key", "sum", "no value called 'key'"),
        ("stats.a", "add", "'add' is none of sum, max, min, one"),
        ("stats.comm", "sum", "comm is no number"),
        ("other.a", "sum", "no per-CPU map 'other': there are stats"),
    ],
)
def test_refuses_what_cannot_become_one_so(bpf, word, rule, said):
    spec = spec_of(bpf, "struct v { __u32 a; char comm[16]; };")
    with pytest.raises(BadSetting, match=said):
        spec.choose_cpus({word: rule}, ())


def test_a_row_for_each_cpu_has_a_column_cpu_ahead_of_the_values(bpf):
    spec = spec_of(bpf, "struct v { __u32 cpu, n; };")
    spec.choose_cpus({}, ["stats"])
    shape = spec.streams["stats"].schema
    assert list(shape.fields) == ["key", "cpu", "cpu_", "n"]
    batch = Batch(shape, struct.pack("=I4xIIQ", 7, 8, 9, 1))
    assert [batch.values(name)[0] for name in shape.fields] == [7, 1, 8, 9]


def test_one_cpu_alone_is_shown_as_it_is(bpf):
    """Whatever the columns mean: the layout is another, the values are not."""
    source = """struct p { __u8 a; __u32 b[2]; char c[3]; }; struct v { __s8 x; struct p ps[3]; __u16 y[5]; _Bool z[2];
        __s64 w : 40; __u32 names[2][3]; union { __u32 u; float f; } either; __int128 big; };"""
    spec = spec_of(bpf, source)
    plain = spec._entries("stats", spec.maps["stats"])
    for seed in range(20):
        raw = bytearray(random.Random(seed).randbytes(spec.maps["stats"].value_size))
        batch = Batch(plain, bytes(8) + bytes(raw).ljust(plain.size - 8, b"\0"))
        expected = {name: batch.values(name)[0] for name in plain.fields if name != "key"}
        assert row(spec.streams["stats"], [bytes(raw), bytes(len(raw))]) == expected
