# SPDX-License-Identifier: BSD-2-Clause
"""Several structs on one buffer: each record is shown as what was sent, or as bytes with a hint, never as another."""

import pytest

RING = "struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } out SEC(\".maps\");\n"
PERF = (
    "struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); }"
    " out SEC(\".maps\");\n"
)
# two structs of one length on a ring, and of one length once padded on a perf buffer; `pid` is elsewhere in each
STRUCTS = """
#include <linux/types.h>
enum kind { STARTED = 7, STOPPED = 9 };
struct head { __u32 kind; __u32 cpu; };
struct started { struct head h; __u32 pid; __u32 why; };
struct stopped { struct head h; __u32 code; __u32 pid; };
enum kind kinds;
"""
SENDS = """
static __always_inline __u32 me(void) { return bpf_get_current_pid_tgid() >> 32; }
SEC("tp/syscalls/sys_enter_getppid") int a(void *ctx) {
    struct started e = { { KIND_A, 0 }, me(), 5 }; SEND; return 0; }
SEC("tp/syscalls/sys_enter_getsid") int b(void *ctx) {
    struct stopped e = { { KIND_B, 0 }, 77, me() }; SEND; return 0; }
"""
RESERVED = """
SEC("tp/syscalls/sys_enter_getppid") int a(void *ctx) {
    struct started *e = bpf_ringbuf_reserve(&out, sizeof *e, 0); if (!e) return 0;
    e->h.kind = KIND_A; e->h.cpu = 0; e->pid = bpf_get_current_pid_tgid() >> 32; e->why = 5;
    bpf_ringbuf_submit(e, 0); return 0; }
SEC("tp/syscalls/sys_enter_getsid") int b(void *ctx) {
    struct stopped *e = bpf_ringbuf_reserve(&out, sizeof *e, 0); if (!e) return 0;
    e->h.kind = KIND_B; e->h.cpu = 0; e->code = 77; e->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_ringbuf_submit(e, 0); return 0; }
"""
RING_SEND = "bpf_ringbuf_output(&out, &e, sizeof e, 0)"
PERF_SEND = "bpf_perf_event_output(ctx, &out, BPF_F_CURRENT_CPU, &e, sizeof e)"
CALLS = "os.getppid(); os.getsid(0)"


def source(structs: str, buffer: str, programs: str, send: str = "", a: str = "STARTED", b: str = "STOPPED") -> str:
    return structs + buffer + programs.replace("SEND", send).replace("KIND_A", a).replace("KIND_B", b)


TAGGED = {
    "ring, sent from the stack": source(STRUCTS, RING, SENDS, RING_SEND),
    "ring, reserved": source(STRUCTS, RING, RESERVED),
    "perf buffer, of equal length": source(STRUCTS, PERF, SENDS, PERF_SEND),
    "perf buffer, of equal length once padded": source(
        STRUCTS.replace("{ struct head h; __u32 pid; __u32 why; }", "{ struct head h; __u32 pid, why, more, last; }")
        .replace("{ struct head h; __u32 code; __u32 pid; }", "{ struct head h; __u32 code, pid, more, last, end; }"),
        PERF,
        SENDS,
        PERF_SEND,
    ),
}
# a number that the code does not store as a constant: nobody can know
UNKNOWN = source(STRUCTS + "volatile __u32 base;\n", RING, SENDS, RING_SEND, "base + 7", "base + 9")


@pytest.mark.parametrize("kind", TAGGED)
def test_structs_of_one_length_are_known_by_the_constant_that_their_senders_store(compiled, start, worker, kind):
    calls = worker(CALLS)
    running = start(compiled("two", TAGGED[kind]), "-o", "json").attached()
    calls.go()
    rows = running.end().rows
    assert [r["h.kind"] for r in rows if r.get("pid") == calls.pid] == [7, 9]
    assert all(r["identity"] != "unknown" for r in rows if r.get("pid") == calls.pid)
    assert {r["why"] for r in rows if r["h.kind"] == 7} == {5}
    assert {r["code"] for r in rows if r["h.kind"] == 9} == {77}


def test_what_nothing_tells_apart_is_shown_as_bytes_and_asked_for(compiled, start, worker):
    calls = worker(CALLS)
    running = start(compiled("two", UNKNOWN), "-o", "json", "--streams", "out").attached()
    calls.go()
    ended = running.end()
    assert "started, stopped have the same length" in ended.err
    assert "--event out=h.kind:VALUE=started" in ended.err
    assert ended.rows
    assert all(set(r) >= {"size", "data"} and "pid" not in r for r in ended.rows)


@pytest.mark.parametrize("values", [("7", "9"), ("0x7", "STOPPED"), ("STARTED", "9")])
def test_the_user_says_which_value_is_which_struct(compiled, start, worker, values):
    calls = worker(CALLS)
    first, second = values
    said = ["--event", f"out=h.kind:{first}=started", "--event", f"out=h.kind:{second}=stopped"]
    running = start(compiled("two", UNKNOWN), "-o", "json", "--streams", "out", *said).attached()
    calls.go()
    ended = running.end()
    assert "have the same length" not in ended.err
    mine = [r for r in ended.rows if r["pid"] == calls.pid]
    assert [r.get("why", r.get("code")) for r in mine] == [5, 77]
    assert all(r["identity"] != "unknown" for r in mine)


def test_all_other_values_have_the_struct_that_is_named_without_one(compiled, start, worker):
    calls = worker(CALLS)
    running = start(
        compiled("two", UNKNOWN), "-o", "json", "--streams", "out", "--event", "out=h.kind:7=started,stopped"
    ).attached()
    calls.go()
    mine = [r for r in running.end().rows if r["pid"] == calls.pid]
    assert [r.get("why", r.get("code")) for r in mine] == [5, 77]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("out=kind:7=started", "kind is not a number at the same offset in struct started (there are: h.kind"),
        ("out=why:7=started,why:8=stopped", "why is not a number at the same offset"),
        ("out=h.kind:NOTHING=started", "NOTHING is neither a number nor an enumeration's name"),
        ("out=h.kind:0x100000000=started", "does not fit h.kind, which has 4 bytes"),
        ("out=h.kind=started", "write out=FIELD:VALUE=STRUCT"),
        ("out=h.kind:7=start", "the object has no such type"),
    ],
)
def test_what_makes_no_sense_is_refused(compiled, run, said, words):
    run(compiled("two", UNKNOWN), "--event", said, "--duration", "100ms").refused(2, words)
