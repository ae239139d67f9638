# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel writes is what arrives: every record once, every count exact, nothing left behind."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tests import needs
from tests.kernel import compiled

from eunomia.batch import Batch
from eunomia.kernel.errors import BadSetting, KernelError, Unsupported, VerifierError
from eunomia.kernel.libbpf import ffi, lib
from eunomia.kernel.loaded import Loaded, load_first
from eunomia.kernel.map_snapshot import Snapshot
from eunomia.kernel.wait import Waiter


@pytest.fixture(autouse=True)
def _as_root():
    needs.root()


def drained(live, stream="r") -> Batch | None:
    batches = []
    while True:
        batches += live.readers[stream].drain()
        if not live.readers[stream].waiting:
            return Batch.concatenate(batches) if batches else None


def rows(live, stream="r"):
    batch = drained(live, stream)
    return list(batch.rows()) if batch else []


HEAD = """
#include <eunomia/probe.h>
const volatile __u32 target = 0;
static bool mine(void) { return bpf_get_current_pid_tgid() >> 32 == target; }
#define ON_GETPPID SEC("tp/syscalls/sys_enter_getppid") int on_getppid(void *ctx)
"""
ME = {"target": os.getpid()}


def load(source, **options):
    return Loaded.attached(compiled.spec(HEAD + source), set_={**ME, **options.pop("set_", {})}, **options)


FLOOD = """
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	long calls = atol(argv[1]);
	getchar();
	for (long i = 0; i < calls; i++) syscall(SYS_getppid);
	return 0;
}
"""


class Flood:
    """A program of its own that calls getppid so many times once told to."""

    def __init__(self, calls):
        self.process = subprocess.Popen([compiled.native(FLOOD), str(calls)], stdin=subprocess.PIPE)
        self.pid = self.process.pid

    def go(self):
        self.process.stdin.close()

    def running(self):
        return self.process.poll() is None


# Rings

SIZES = """
struct record { __u64 number; str_t text; };
STREAM(r, struct record, 16384);
__u64 number;
struct room { struct record r; char text[2048]; };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct room); } room SEC(".maps");
ON_GETPPID {
	__u32 zero = 0; struct room *x = bpf_map_lookup_elem(&room, &zero);
	if (!mine() || !x) return 0;
	__u64 n = __sync_fetch_and_add(&number, 1), size = (n * 37) & 1023;
	x->r.number = n; x->r.text.off = sizeof(struct record); x->r.text.len = size;
	x->text[0] = 'a' + n % 26; x->text[size & 1023] = 'Z';
	stream_output(r, x, sizeof(struct record) + size);
	return 0;
}
"""


def test_records_of_all_sizes_arrive_whole_and_in_order_round_and_round_the_ring():
    with load(SIZES) as live:
        seen = []
        for _ in range(2000):
            for _ in range(8):
                os.getppid()
            seen += [(r.number, len(r.text), r.text[:1]) for r in rows(live)]
        count = live.count("r")
        assert (count.emitted, count.lost) == (16000, 0)
        assert [n for n, _, _ in seen] == list(range(16000))
        assert all(size == n * 37 % 1024 for n, size, _ in seen)
        assert all(first in (chr(97 + n % 26), "Z") for n, size, first in seen if size)


def test_what_a_full_ring_refuses_is_counted():
    with load(SIZES) as live:
        for _ in range(5000):
            os.getppid()
        count = live.count("r")
        assert count.lost > 0
        assert count.emitted + count.lost == 5000
        numbers = [r.number for r in rows(live)]
        assert (len(numbers), numbers) == (count.emitted, sorted(set(numbers)))
        os.getppid()
        assert len(rows(live)) == 1


def test_a_flood_beside_the_drain_is_emitted_or_lost_to_the_last_call():
    flood = Flood(300_000)
    with load(SIZES, set_={"target": flood.pid}) as live:
        flood.go()
        got = 0
        while flood.running():
            batch = drained(live)
            got += len(batch) if batch else 0
        got += len(rows(live))
        count = live.count("r")
        assert count.emitted + count.lost == 300_000
        assert got == count.emitted


DISCARD = """
struct record { __u64 number; };
STREAM(r, struct record, 4096);
__u64 number;
ON_GETPPID {
	if (!mine()) return 0;
	struct record *x = bpf_ringbuf_reserve(&r, sizeof(*x), 0);
	if (!x) return 0;
	x->number = number++;
	if (x->number & 1) bpf_ringbuf_discard(x, 0); else bpf_ringbuf_submit(x, 0);
	return 0;
}
"""


def test_discarded_records_are_passed_over():
    with load(DISCARD) as live:
        seen = []
        for _ in range(100):
            for _ in range(50):
                os.getppid()
            seen += [r.number for r in rows(live)]
        assert seen == list(range(0, 5000, 2))


HOSTILE = """
struct record { __u64 number; str_t one; path_t two; argv_t three; };
STREAM(r, struct record, 1 << 20);
__u64 number;
struct room { struct record r; char text[16]; };
ON_GETPPID {
	if (!mine()) return 0;
	struct room x = {};
	__u64 n = number++;
	x.r.number = n;
	__builtin_memcpy(x.text, "abcdefghijklmno", 16);
	x.r.one.off = n % 3 ? bpf_get_prandom_u32() : sizeof(struct record) + n % 20;
	x.r.one.len = n % 2 ? bpf_get_prandom_u32() : n % 40;
	x.r.two.off = n & 4 ? 0 : 0xffffffff; x.r.two.len = 0xffffffff;
	x.r.three.off = sizeof(struct record) + 16; x.r.three.len = 0xfffffff0;
	stream_output(r, &x, sizeof(x));
	return 0;
}
"""


def test_texts_that_point_outside_their_record_show_nothing_of_others():
    with load(HOSTILE) as live:
        for _ in range(3000):
            os.getppid()
        seen = rows(live)
        assert [r.number for r in seen] == list(range(3000))
        for row in seen:
            assert row.one in "abcdefghijklmno\0"
            assert row.two == "" or (row.two.endswith("fghijklmno\0") and row.two.count("abcdef") == 1)
            assert row.three == []
            if row.number % 6 == 0:
                at, size = row.number % 20, row.number % 40
                assert row.one == "abcdefghijklmno\0"[at : at + size]


SHORT = """
struct record { __u64 number; __u32 more; str_t text; };
STREAM(r, struct record, 1 << 16);
__u64 number;
ON_GETPPID {
	if (!mine()) return 0;
	struct record x = { .number = number, .more = 7, .text = { sizeof(x), 9 } };
	if (number++ % 2) stream_output(r, &x, 8); else stream_output(r, &x, sizeof(x));
	return 0;
}
"""


def test_records_shorter_than_their_struct_are_filled_with_zeros_and_counted():
    with load(SHORT) as live:
        for _ in range(10):
            os.getppid()
        assert [(r.number, r.more, r.text) for r in rows(live)] == [
            (n, 0 if n % 2 else 7, "") for n in range(10)
        ]
        assert live.readers["r"].odd == 5


LARGE = """
struct record { __u64 number; __u8 bytes[300000]; };
STREAM(r, struct record, 1 << 20);
ON_GETPPID {
	if (!mine()) return 0;
	struct record *x = bpf_ringbuf_reserve(&r, sizeof(*x), 0);
	if (!x) return 0;
	x->number = 5; x->bytes[299999] = 0xab;
	bpf_ringbuf_submit(x, 0);
	return 0;
}
"""


def test_records_larger_than_one_drain_arrive_whole():
    with load(LARGE) as live:
        for _ in range(2):
            os.getppid()
        deadline = time.monotonic() + 5
        batches = []
        while (more := live.readers["r"].drain()) or live.readers["r"].waiting:
            batches += more
            assert time.monotonic() < deadline, "the drain does not get on"
        values = [value for b in batches for value in b.values("bytes")]
        assert [v[-2:] for v in values] == ["ab", "ab"]


PERF = """
struct record { __u64 number; char pad[200]; };
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __type(key, __u32); __type(value, struct record); } r SEC(".maps");
__u64 number;
ON_GETPPID {
	if (!mine()) return 0;
	struct record x = { .number = number++ };
	bpf_perf_event_output(ctx, &r, BPF_F_CURRENT_CPU, &x, sizeof(x));
	return 0;
}
"""


def test_what_a_perf_buffer_loses_is_counted():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    try:
        with load(PERF) as live:
            for _ in range(10_000):
                os.getppid()
            first = [r.number for r in rows(live)]
            os.getppid()  # losses are told before the next record that finds room
            more = [r.number for r in rows(live)]
            count = live.count("r")
            assert first == list(range(len(first)))
            assert more == [10_000]
            assert count.lost == 10_001 - len(first) - 1 > 0
            assert count.emitted == len(first) + 1
    finally:
        os.sched_setaffinity(0, range(os.cpu_count()))


SEVERAL = """
struct a { __u32 number; }; struct b { __u64 wide; char text[4]; };
STREAM(r, struct a, 4096); STREAM(s, struct b, 4096); TABLE(t, __u32, __u64, 16);
ON_GETPPID {
	if (!mine()) return 0;
	struct a a = { 1 }; struct b b = { 2, "hey" };
	__u32 zero = 0; __u64 one = 1;
	stream_output(r, &a, sizeof(a)); stream_output(s, &b, sizeof(b));
	void *map = bpf_map_lookup_elem(&t, &zero);
	if (map) bpf_map_update_elem(map, &zero, &one, 0);
	return 0;
}
"""


def test_an_object_s_streams_stay_apart():
    with load(SEVERAL) as live:
        assert set(live.readers) == {"r", "s", "t"}
        os.getppid()
        assert [r.number for r in rows(live, "r")] == [1]
        assert [(r.wide, r.text) for r in rows(live, "s")] == [(2, "hey")]
        assert [(r.key, r.value) for r in rows(live, "t")] == [(0, 1)]


# Tables

COUNTS = """
TABLE(t, __u32, __u64, 64);
ON_GETPPID {
	__u32 zero = 0, key = bpf_get_prandom_u32() % 8; __u64 none = 0, *count;
	void *map = bpf_map_lookup_elem(&t, &zero);
	if (!mine() || !map) return 0;
	count = bpf_map_lookup_elem(map, &key);
	if (!count) { bpf_map_update_elem(map, &key, &none, BPF_NOEXIST); count = bpf_map_lookup_elem(map, &key); }
	if (count) __sync_fetch_and_add(count, 1); else eunomia_count(&ledger_t, true);
	return 0;
}
"""


def test_a_table_swapped_under_load_counts_each_call_once():
    calls = 3_000_000
    flood = Flood(calls)
    with load(COUNTS, set_={"target": flood.pid}) as live:
        flood.go()
        total, swaps = 0, 0
        while flood.running():
            total += sum(r.value for r in rows(live, "t"))
            swaps += 1
        total += sum(r.value for r in rows(live, "t")) + sum(r.value for r in rows(live, "t"))
        assert total + live.count("t").lost == calls
        assert swaps > 20, "the machine was too slow for this to say anything"


BIG = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 100000); __type(key, __u64); __type(value, __u32); } big SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, struct { __u64 count; __s32 down; __u8 pair[2]; char name[8]; __u16 list[2]; }); } cpus SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 8); __type(key, __u32); __type(value, __u32); } devices SEC(".maps");
SEC("raw_tp/sys_enter") int nothing(void *ctx) { __u64 zero = 0; bpf_map_lookup_elem(&big, &zero); bpf_map_lookup_elem(&cpus, &zero); return bpf_redirect_map(&devices, 0, 0) < 0; }
"""
FOREIGN = '#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC("license") = "GPL";\n'


def test_a_table_of_100_000_entries_is_read_whole():
    source = FOREIGN + BIG.replace("return bpf_redirect_map(&devices, 0, 0) < 0;", "return 0;")
    with Loaded.attached(compiled.spec(source)) as live:
        for i in range(100_000):
            live.maps["big"].update((i * 7919).to_bytes(8, "little"), i.to_bytes(4, "little"))
        (batch,) = live.readers["big"].drain()
        assert dict(zip(batch.values("key"), batch.values("value"), strict=True)) == {
            i * 7919: i for i in range(100_000)
        }


def test_per_cpu_values_are_added_up_and_texts_kept():
    source = FOREIGN + BIG.replace("return bpf_redirect_map(&devices, 0, 0) < 0;", "return 0;")
    with Loaded.attached(compiled.spec(source)) as live:
        cpus = lib.libbpf_num_possible_cpus()
        one = (
            (3).to_bytes(8, "little")
            + (-2).to_bytes(4, "little", signed=True)
            + b"\1\2"
            + b"nginx\0\0\0"
            + b"\1\0\2\0"
        )
        live.maps["cpus"].update((9).to_bytes(4, "little"), one.ljust(32, b"\0") * cpus)
        (batch,) = live.readers["cpus"].drain()
        (row,) = batch.rows()
        assert (row.key, row.count, row.down, row.name) == (9, 3 * cpus, -2 * cpus, "nginx")
        assert row.list == [cpus, 2 * cpus]


def test_a_map_without_batches_is_read_key_by_key():
    source = FOREIGN + BIG.replace('SEC("raw_tp/sys_enter") int nothing', 'SEC("xdp") int nothing')
    with Loaded.attached(compiled.spec(source), targets={"nothing": ["lo"]}) as live:
        for i in range(8):
            live.maps["devices"].update(i.to_bytes(4, "little"), (1).to_bytes(4, "little"))
        devices = live.spec.maps["devices"]
        read = Snapshot(devices, live.spec.streams["big"]).read(live.maps["devices"].fd)
        assert read == b"".join(struct.pack("=I4xI4x", i, 1) for i in range(8))


def test_maps_can_be_read_and_written_by_key():
    source = FOREIGN + BIG.replace("return bpf_redirect_map(&devices, 0, 0) < 0;", "return 0;")
    with Loaded.attached(compiled.spec(source)) as live:
        big = live.maps["big"]
        assert big.lookup(bytes(8)) is None
        big.update(bytes(8), b"abcd")
        assert big.lookup(bytes(8))[:4] == b"abcd"
        big.delete(bytes(8))
        big.delete(bytes(8))
        assert big.lookup(bytes(8)) is None


# Settings

SETTINGS = """
enum mode { OFF, SLOW = 5, BACK = -1 };
const volatile __u8 u8 = 1; const volatile __s8 s8 = -1; const volatile __u16 u16 = 2; const volatile __s16 s16 = -2;
const volatile __u32 u32 = 3; const volatile __s32 s32 = -3; const volatile __u64 u64 = 4; const volatile __s64 s64 = -4;
const volatile bool flag = false; const volatile enum mode mode = OFF; const volatile char text[8] = "hi";
const volatile __u32 list[3] = {1, 2, 3}; const volatile uid_t uid = 0;
struct record { __u8 u8; __s8 s8; __u16 u16; __s16 s16; __u32 u32; __s32 s32; __u64 u64; __s64 s64; bool flag; enum mode mode; char text[8]; __u32 list[3]; uid_t uid; };
STREAM(r, struct record, 4096);
ON_GETPPID {
	if (!mine()) return 0;
	struct record x = {};
	x.u8 = u8; x.s8 = s8; x.u16 = u16; x.s16 = s16; x.u32 = u32; x.s32 = s32; x.u64 = u64; x.s64 = s64;
	x.flag = flag; x.mode = mode; x.uid = uid;
	for (int i = 0; i < 8; i++) x.text[i] = text[i];
	for (int i = 0; i < 3; i++) x.list[i] = list[i];
	stream_output(r, &x, sizeof(x));
	return 0;
}
"""
NAMES = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "flag", "mode", "text", "list", "uid")


def settings_seen(**given):
    with load(SETTINGS, set_=given) as live:
        os.getppid()
        (row,) = rows(live)
        return tuple(getattr(row, n) for n in NAMES)


def test_settings_have_the_defaults_that_c_gives_them():
    defaults = (1, -1, 2, -2, 3, -3, 4, -4, False, "OFF", "hi", [1, 2, 3], 0)
    spec = compiled.spec(HEAD + SETTINGS)
    assert tuple(spec.settings[n].default for n in NAMES) == defaults
    assert settings_seen() == defaults


def test_settings_of_every_type_reach_the_program():
    given = {
        "u8": "255", "s8": "-128", "u16": 65535, "s16": "-0x8000", "u32": "0xffffffff", "s32": -(2**31), "u64": str(2**64 - 1),
        "s64": -(2**63), "flag": "yes", "mode": "SLOW", "text": "1234567", "list": "7,8", "uid": "1000",
    }  # fmt: skip
    assert settings_seen(**given) == (
        255, -128, 65535, -32768, 2**32 - 1, -(2**31), 2**64 - 1, -(2**63), True, "SLOW", "1234567", [7, 8, 0], 1000,
    )  # fmt: skip
    assert settings_seen(mode="-1", list=[9], text="", flag=True)[8:12] == (True, "BACK", "", [9, 0, 0])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("u8", 256, "256 is not between 0 and 255"), ("s8", "-129", "-129 is not between -128 and 127"),
        ("u64", -1, "-1 is not between"), ("u32", "many", "'many' is not a number"), ("flag", 2, "2 is not between 0 and 1"),
        ("mode", "FAST", "'FAST' is none of OFF, SLOW, BACK"), ("text", "12345678", "longer than 7 bytes"),
        ("list", "1,2,3,4", "4 values for 3 elements"), ("list", "1,x", "'x' is not a number"), ("u16", "", "'' is not a number"),
        ("mode", str(2**40), "1099511627776 is not between"), ("list", "1,-1", "-1 is not between"), ("u32", 1.5, "1.5"),
        ("nothing", 1, "no setting 'nothing': it has"),
    ],
)  # fmt: skip
def test_a_setting_that_does_not_fit_is_refused_with_the_reason(name, value, says):
    with pytest.raises(BadSetting, match=says.replace("(", r"\(")):
        settings_seen(**{name: value})


# What kernels refuse

HOOKS = """
SEC("kprobe/do_nanosleep") int by_kprobe(void *ctx) { return 0; }
SEC("fentry/do_nanosleep") int by_fentry(void *ctx) { return 0; }
SEC("lsm/file_open") int by_lsm(void *ctx) { return 0; }
SEC("tp/syscalls/sys_enter_getppid") int by_tracepoint(void *ctx) { return 0; }
SEC("tp/syscalls/sys_enter_no_such_call") int by_nothing(void *ctx) { return 0; }
SEC("raw_tp/no_such_tracepoint") int by_no_raw(void *ctx) { return 0; }
"""


@pytest.mark.parametrize(
    ("program", "names"),
    [("by_kprobe", "kprobe"), ("by_fentry", "fentry"), ("by_lsm", "LSM"), ("by_nothing", "sys_enter_no_such_call"),
     ("by_no_raw", "no_such_tracepoint")],
)  # fmt: skip
def test_a_hook_is_there_or_named_as_missing(program, names):
    try:
        Loaded.attached(compiled.spec(FOREIGN + HOOKS), programs=[program]).close()
    except Unsupported as error:
        told = error.missing
    else:
        told = "" if program in {"by_nothing", "by_no_raw"} else names
    assert names in told


def test_hooks_are_tried_in_the_order_given():
    variants = [("none", ["by_nothing"]), ("best", ["by_tracepoint"]), ("worse", ["by_no_raw"])]
    name, live = load_first(compiled.spec(FOREIGN + HOOKS), variants)
    live.close()
    assert name == "best"


def test_where_no_variant_works_the_best_one_s_lack_is_told():
    with pytest.raises(Unsupported, match="sys_enter_no_such_call"):
        load_first(compiled.spec(FOREIGN + HOOKS), [("a", ["by_nothing"]), ("b", ["by_no_raw"])])


FUNCTIONS = """
struct record { __u32 way; kstack_id_t stack; };
STREAM(r, struct record, 4096);
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(key_size, 4); __uint(value_size, 127 * 8); __uint(max_entries, 64); } stacks SEC(".maps");
static int emit(void *ctx, __u32 way)
{
	struct record x = { way };
	if (!mine()) return 0;
	x.stack = bpf_get_stackid(ctx, &stacks, 0);
	stream_output(r, &x, sizeof(x));
	return 0;
}
SEC("kprobe/do_nanosleep") int by_kprobe(void *ctx) { return emit(ctx, 1); }
SEC("fentry/do_nanosleep") int by_fentry(void *ctx) { return emit(ctx, 2); }
SEC("kretprobe/do_nanosleep") int by_kretprobe(void *ctx) { return emit(ctx, 3); }
SEC("fexit/do_nanosleep") int by_fexit(void *ctx) { return emit(ctx, 4); }
SEC("lsm/file_open") int BPF_PROG(by_lsm, void *file, int ret) { emit(ctx, 5); return ret; }
"""


@pytest.mark.parametrize(
    ("way", "program"), list(enumerate(["by_kprobe", "by_fentry", "by_kretprobe", "by_fexit", "by_lsm"], start=1))
)
def test_kernel_functions_are_traced_where_the_kernel_allows_it(way, program):
    try:
        live = load(FUNCTIONS, programs=[program])
    except Unsupported as error:
        pytest.skip(f"this kernel lacks {error.missing}")
    with live:
        libc_usleep(1000)
        open("/dev/null").close()
        seen = rows(live)
        if not seen and program == "by_lsm" and "bpf" not in Path("/sys/kernel/security/lsm").read_text():
            pytest.skip("this kernel lacks bpf in its lsm= list")
        assert {r.way for r in seen} == {way}
        assert ";" in seen[0].stack


def libc_usleep(microseconds):
    import ctypes

    ctypes.CDLL(None).usleep(microseconds)


REFUSED = {
    "null": ("__u32 k = 0; __u64 *v = bpf_map_lookup_elem(&m, &k); return *v;", "invalid mem access"),
    "loop": ("for (volatile int i = 0;; i++) ; return 0;", "infinite loop|too large"),
    "stack": ('asm volatile("*(u64 *)(r10 - 4096) = r1"); return 0;', "invalid .*stack"),
    "helper": ("return bpf_msg_apply_bytes(ctx, 1);", "bpf_msg_apply_bytes|unknown func|cannot use helper"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_verifier_refuses_comes_with_its_telling_line_and_its_log(kind):
    body, telling = REFUSED[kind]
    source = FOREIGN + (
        "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }"
        f' m SEC(".maps");\nSEC("raw_tp/sys_enter") int refused(void *ctx) {{ {body} }}'
    )
    if kind == "helper":
        with pytest.raises(Unsupported, match="bpf_msg_apply_bytes"):
            Loaded.attached(compiled.spec(source))
        return
    with pytest.raises(VerifierError, match=telling) as raised:
        Loaded.attached(compiled.spec(source))
    assert raised.value.program == "refused"
    assert raised.value.line in raised.value.log
    assert "processed" in raised.value.log
    assert "\n" not in str(raised.value)


# Other hooks


def test_a_cgroup_and_a_device_and_a_clock_can_be_attached_to():
    source = (
        FOREIGN
        + """
    __u64 packets, samples, sent;
    SEC("xdp") int on_packet(void *ctx) { __sync_fetch_and_add(&packets, 1); return 2; }
    SEC("cgroup_skb/egress") int on_send(void *ctx) { __sync_fetch_and_add(&sent, 1); return 1; }
    SEC("perf_event") int on_tick(void *ctx) { __sync_fetch_and_add(&samples, 1); return 0; }
    """
    )
    import socket

    with Loaded.attached(compiled.spec(source), targets={"on_packet": ["lo"], "on_tick": ["1000"]}) as live:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for _ in range(10):
                one.sendto(b"x", ("127.0.0.1", 9))
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        (batch,) = live.readers["bss"].drain()
        (row,) = batch.rows()
        assert (row.packets >= 10, row.sent >= 10, row.samples >= 20) == (True, True, True), row


@pytest.mark.parametrize(
    ("target", "says"), [("nowhere0", "no network device 'nowhere0'"), ("", "needs a network device")]
)
def test_a_device_that_is_not_there_is_named(target, says):
    source = FOREIGN + 'SEC("xdp") int on_packet(void *ctx) { return 2; }'
    with pytest.raises(BadSetting, match=says):
        Loaded.attached(compiled.spec(source), targets={"on_packet": [target]} if target else None)


# The end


def _ours(name):
    bpftool = needs.program("bpftool", "bpftool")
    shown = [
        subprocess.run([bpftool, what, "show"], capture_output=True, text=True, check=False).stdout
        for what in ("prog", "map")
    ]
    return sum(text.count(name) for text in shown)


LEFT = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME); } left_over_m SEC(".maps");
SEC("tp/syscalls/sys_enter_getppid") int left_over(void *ctx) { __u32 k = 0; return bpf_map_lookup_elem(&left_over_m, &k) != 0; }
"""


def gone(name, seconds=10):
    end = time.monotonic() + seconds
    while _ours(name) and time.monotonic() < end:
        time.sleep(0.05)
    return not _ours(name)


def test_nothing_is_left_in_the_kernel_after_the_context_ends():
    with Loaded.attached(compiled.spec(FOREIGN + LEFT)):
        assert _ours("left_over") >= 2
    assert gone("left_over")
    with pytest.raises(KeyError), Loaded.attached(compiled.spec(FOREIGN + LEFT)):
        raise KeyError
    assert gone("left_over")
    assert not Path("/sys/fs/bpf/left_over_m").exists()


def test_nothing_is_left_in_the_kernel_after_sigkill(tmp_path):
    path = tmp_path / "left.bpf.o"
    path.write_bytes(compiled.bpf(FOREIGN + LEFT))
    code = (
        "import sys, time; from eunomia.kernel.spec import Spec; from eunomia.kernel.loaded import Loaded\n"
        "live = Loaded.attached(Spec.open(sys.argv[1])); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    assert _ours("left_over") >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert gone("left_over")


def test_objects_that_come_and_go_leave_no_descriptors():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    load(SEVERAL).close()
    gc.collect()  # what earlier tests left to it
    before = descriptors()
    for _ in range(5):
        load(SEVERAL).close()
        with pytest.raises(KernelError):
            Loaded.attached(compiled.spec(FOREIGN + HOOKS), programs=["by_tracepoint", "by_nothing"])
        with pytest.raises(BadSetting):
            load(SETTINGS, set_={"u8": 300})
    assert descriptors() == before


def test_other_threads_run_while_a_wait_sleeps():
    with load(SIZES) as live:
        waiter = Waiter()
        waiter.take(live)
        waited = threading.Thread(target=waiter.wait, args=(400,))
        waited.start()
        turns = 0
        while waited.is_alive() and turns < 10_000_000:
            turns += 1
        waited.join()
        waiter.close()
        assert turns > 1000


def test_a_wait_ends_when_something_is_written():
    flood = Flood(1)
    with load(SIZES, set_={"target": flood.pid}) as live:
        waiter = Waiter()
        waiter.take(live)
        threading.Timer(0.1, flood.go).start()
        start = time.monotonic()
        waiter.wait(5000)
        assert time.monotonic() - start < 2
        assert len(rows(live)) == 1
        waiter.close()


# Stacks

STACKS = """
struct record { kstack_id_t kernel; ustack_id_t user; __s32 plain; };
STREAM(r, struct record, 4096);
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(key_size, 4); __uint(value_size, 127 * 8); __uint(max_entries, 1024); } kern SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(key_size, 4); __uint(value_size, 127 * 8); __uint(max_entries, 1024); } user_stacks SEC(".maps");
const volatile __u64 getppid_number = 0;
/* up to 6.1, a tp/syscalls program is given the registers of user space, and finds no kernel stack */
SEC("raw_tp/sys_enter") int on_call(struct bpf_raw_tracepoint_args *ctx) {
	if (ctx->args[1] != getppid_number) return 0;
	if (!mine()) return 0;
	struct record x = {};
	x.kernel = x.plain = bpf_get_stackid(ctx, &kern, 0);
	x.user = bpf_get_stackid(ctx, &user_stacks, BPF_F_USER_STACK);
	stream_output(r, &x, sizeof(x));
	return 0;
}
"""


GETPPID = {"getppid_number": {"x86_64": 110, "aarch64": 173}[os.uname().machine]}


def test_stack_ids_are_shown_as_functions_and_addresses():
    with load(STACKS, set_=GETPPID) as live:
        os.getppid()
        os.getppid()
        batch = drained(live)
        one, two = batch.rows()
        assert one.kernel.endswith("entry_SYSCALL_64_after_hwframe") or platform.machine() != "x86_64", (
            one.kernel
        )
        assert "do_syscall" in one.kernel or "el0_svc" in one.kernel
        assert one.kernel == two.kernel
        assert all(int(a, 16) for a in one.user.split(";"))
        assert list(batch["kernel"]) == list(batch.values("kernel"))
        late = batch[:1]
    assert list(late.values("plain")) == [one.plain]
    fresh = Batch(late.schema, bytes(late.data).replace(late.data[:4], (99).to_bytes(4, "little")))
    assert list(fresh.values("kernel")) == [99]


def test_stacks_that_cannot_be_had_are_shown_by_their_id(monkeypatch):
    from eunomia.kernel import stacks

    monkeypatch.setattr(stacks, "kernel_symbols", lambda: None)
    with load(STACKS, set_=GETPPID) as live:
        os.getppid()
        (row,) = rows(live)
        assert row.kernel == row.plain


def test_symbols_are_looked_up_by_where_they_start(tmp_path):
    from eunomia.kernel.stacks import Symbols

    path = tmp_path / "kallsyms"
    path.write_text(
        "0000000000000000 A fixed\n0000000000001000 T one\n0000000000003000 t three\t[mod]\n0000000000002000 D data\n0000000000002000 W two\n"
    )
    symbols = Symbols(str(path))
    assert [symbols.name(a) for a in (0xFFF, 0x1000, 0x1FFF, 0x2000, 0x9999)] == [
        "0xfff",
        "one",
        "one",
        "two",
        "three",
    ]


# The native part, under sanitizers


def test_the_ring_s_reader_touches_nothing_it_should_not():
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt install gcc")
    here = Path(__file__).parent
    native = Path(__file__).parents[2] / "src/eunomia/native"
    program = compiled.native(
        f'#include "{native}/ring.c"\n' + (here / "ring_harness.c").read_text(),
        "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{native}", "-lbpf",
    )  # fmt: skip
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Counter(done.stdout.split())["ok"] == 1, done.stdout
    assert ffi is not None
