# SPDX-License-Identifier: BSD-2-Clause
"""What several CPUs hold becomes one value: counts are added up, all else is one CPU's."""

import struct
from random import Random

import pytest
from tests.kernel import merged_in_python

from eunomia.batch import Batch
from eunomia.kernel import percpu
from eunomia.kernel.errors import BadObject, BadSetting
from eunomia.kernel.map_snapshot import Snapshot
from eunomia.kernel.spec import Spec

PROGRAM = """
struct {{ __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, __u32);
         __type(value, {value}); }} {name} SEC(".maps");
SEC("raw_tp/sys_enter") int go(void *ctx) {{ __u32 k = 0; char *v = bpf_map_lookup_elem(&{name}, &k);
    if (v) ++*v; return 0; }}
"""


def spec_of(bpf, source, value="struct v", name="stats"):
    return Spec(bpf(source + PROGRAM.format(value=value, name=name)), "x")


def rows(stream, entries):
    """Return the rows of entries whose keys are their numbers, each given as what each CPU holds."""
    size = (stream.map.value_size + 7) // 8 * 8
    keys = b"".join(struct.pack("=I", i) for i in range(len(entries)))
    values = b"".join(raw.ljust(size, b"\0") for each in entries for raw in each)
    cpus = len(entries[0])
    made = Snapshot(stream.map, stream, cpus).rows(keys, values, len(entries))
    assert made == merged_in_python.rows(stream, cpus, keys, values, len(entries))
    return made


def row(stream, each):
    """Return a row as people read it, out of what each CPU holds."""
    batch = Batch(stream.schema, rows(stream, [each]))
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
        ("stats.a", "add", "'add' is not one of sum, max, min, one"),
        ("stats.comm", "sum", "comm is not a number"),
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


EVERYTHING = """enum e { A, B }; struct p { __u64 n; __u8 m; char c[3]; }; struct v {
    __u64 plain; __s64 less; __u32 four[3]; __s32 minus; __u16 two; __s16 small; __u8 tiny[3]; __s8 byte; __u32 grid[2][2];
    struct p pairs[2]; unsigned __int128 wide; __int128 below; double d; float f[2]; unsigned few : 3; int some : 29;
    __s64 long_bits : 40; __u64 last_seen, first_seen; _Bool on; enum e e; void *at; char text[5]; __u16 ports[2]; };"""


@pytest.mark.parametrize("cpus", [1, 2, 3, 7])
@pytest.mark.parametrize("rule", ["", "sum", "max", "min", "one"])
def test_what_c_makes_of_any_values_is_what_the_rules_say(bpf, cpus, rule):
    spec = spec_of(bpf, EVERYTHING)
    schema = spec._entries("stats", spec.maps["stats"])
    random = Random(cpus)
    chosen = {}
    for name in [n for n in schema.fields if n != "key" and rule]:
        try:
            percpu.check(schema, 8, {name: rule})
        except BadSetting:
            continue
        chosen[f"stats.{name}"] = rule
    spec.choose_cpus(chosen, ())
    stream = spec.streams["stats"]
    size = (stream.map.value_size + 7) // 8 * 8

    def value():
        raw = bytearray(random.choice((bytes(size), random.randbytes(size))))
        for _ in range(random.randrange(60)):
            at = random.randrange(size)
            raw[at : at + 8] = random.choice((bytes(8), b"\xff" * 8, struct.pack("=Q", 1)))[: size - at]
        plain = schema.fields
        for name in ("d", "f"):  # of these the order of adding would matter, but for small whole numbers
            field = plain[name]
            struct.pack_into(f"={field.code}", raw, field.offset - 8, *[random.randrange(-9, 9)] * (field.size // 4 if name == "f" else 1))
        return bytes(raw)

    zeros = [bytes(size)] * cpus
    rows(stream, [zeros, *([value() for _ in range(cpus)] for _ in range(150)), zeros])


@pytest.mark.parametrize(
    ("kind", "per_cpu", "kept"),
    [
        *(("HASH", False, [0, 1, 2]), ("LRU_HASH", False, [0, 1, 2]), ("ARRAY", False, [1])),
        *(("PERCPU_HASH", False, [0, 1, 2]), ("LRU_PERCPU_HASH", False, [0, 1, 2]), ("PERCPU_ARRAY", False, [1])),
        *(("PERCPU_HASH", True, [1, 1]), ("PERCPU_ARRAY", True, [1, 1])),
    ],
)
def test_zeros_are_no_rows_where_nobody_made_the_entry(bpf, kind, per_cpu, kept):
    """An array has all of its entries from the beginning; an entry of a hash is there since somebody made it."""
    spec = Spec(bpf(PROGRAM.replace("PERCPU_HASH", kind).format(value="__u64", name="hits")), "x")
    spec.choose_cpus({}, ["hits"] if per_cpu else ())
    stream = spec.streams["hits"]
    cpus = 4 if "PERCPU" in kind else 1
    each = [[bytes(8)] * cpus, [struct.pack("=q", 3), *[bytes(8)] * 2, struct.pack("=q", 2)][:cpus], [bytes(8)] * cpus]
    batch = Batch(stream.schema, rows(stream, each))
    assert batch.values("key") == kept
    if per_cpu:
        assert batch.values("cpu") == [0, 3]


def test_counts_that_cancel_out_on_an_array_are_a_row(bpf):
    """That the sum is zero does not say that nothing happened."""
    spec = Spec(bpf(PROGRAM.replace("PERCPU_HASH", "PERCPU_ARRAY").format(value="__s64", name="balance")), "x")
    stream = spec.streams["balance"]
    batch = Batch(stream.schema, rows(stream, [[struct.pack("=q", 3), struct.pack("=q", -3)]]))
    assert batch.values("value") == [0]


def test_values_that_are_not_of_their_types_size_are_refused(bpf):
    spec = spec_of(bpf, "struct v { __u64 a[4]; };")
    stream = spec.streams["stats"]
    with pytest.raises(BadObject, match="map stats: its values are not of the size of their type"):
        Snapshot(stream.map._replace(value_size=24), stream)


def test_one_cpu_alone_is_shown_as_it_is(bpf):
    """Whatever the columns mean: the layout is another, the values are not."""
    source = """struct p { __u8 a; __u32 b[2]; char c[3]; }; struct v { __s8 x; struct p ps[3]; __u16 y[5]; _Bool z[2];
        __s64 w : 40; __u32 names[2][3]; union { __u32 u; float f; } either; __int128 big; };"""
    spec = spec_of(bpf, source)
    plain = spec._entries("stats", spec.maps["stats"])
    for seed in range(20):
        raw = bytearray(Random(seed).randbytes(spec.maps["stats"].value_size))
        batch = Batch(plain, bytes(8) + bytes(raw).ljust(plain.size - 8, b"\0"))
        expected = {name: batch.values(name)[0] for name in plain.fields if name != "key"}
        assert row(spec.streams["stats"], [bytes(raw), bytes(len(raw))]) == expected
