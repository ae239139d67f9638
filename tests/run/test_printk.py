# SPDX-License-Identifier: BSD-2-Clause
"""What a stranger's programs print by bpf_printk() is a stream, whatever they hang on, and whoever else prints."""

import os
import sys

PRINTS = """
SEC("tp/syscalls/sys_enter_getppid") int by_tracepoint(void *ctx) { bpf_printk("NAME %d", 42); return 0; }
static __attribute__((noinline)) int inner(int pid) { return bpf_printk("NAME inner %d", pid); }
SEC("raw_tp/sys_enter") int by_raw(struct bpf_raw_tracepoint_args *ctx) {
    if (ctx->args[1] == GETSID) inner(bpf_get_current_pid_tgid() >> 32);
    return 0; }
"""
GETSID = {"x86_64": 124, "aarch64": 156}[os.uname().machine]
CALL = "os.getppid(); " * 3 + "os.getsid(0)"


def source(name: str) -> str:
    return PRINTS.replace("NAME", name).replace("GETSID", str(GETSID))


def test_each_print_is_a_row_with_its_program_and_process(compiled, start, worker):
    calls = worker(CALL)
    running = start(compiled("says", source("says")), "-o", "json", "--pid", str(calls.pid)).attached()
    calls.go()
    ended = running.end()
    texts = [(r["program"], r["text"]) for r in ended.rows]
    assert texts == [("by_tracepoint", "says 42")] * 3 + [("by_raw", f"says inner {calls.pid}")]
    (row, *_) = ended.rows
    assert (row["stream"], row["pid"], row["comm"]) == ("printk", calls.pid, os.path.basename(sys.executable)[:15])
    assert row["identity"] != "unknown"
    entry = ended.ledger["says/printk"]
    assert entry["lost"] == 0
    assert entry["emitted"] == entry["filtered"] + entry["delivered"]


def test_two_objects_that_print_at_once_are_told_apart(compiled, start, worker):
    calls = worker(CALL)
    objects = [compiled(name, source(name)) for name in ("one", "other")]
    running = start(*objects, "-o", "json", "--pid", str(calls.pid)).attached()
    calls.go()
    rows = running.end().rows
    for name in ("one", "other"):
        mine = [r["text"] for r in rows if r["tracker"] == name]
        assert mine == [f"{name} 42"] * 3 + [f"{name} inner {calls.pid}"]


def test_prints_that_a_full_ring_refused_are_lost(compiled, start, worker):
    calls = worker("for _ in range(20_000): os.getppid()")
    running = start(compiled("says", source("says")), "-o", "json").attached()
    os.kill(running.pid, 19)
    calls.go()
    os.kill(running.pid, 18)
    ended = running.end()
    entry = ended.ledger["says/printk"]
    assert entry["lost"] > 0
    assert entry["emitted"] + entry["lost"] >= 20_000
    assert entry["emitted"] == entry["delivered"] == len(ended.rows)


def test_an_object_that_prints_nothing_has_no_such_stream(compiled, run):
    silent = compiled("silent", '__u64 n; SEC("raw_tp/sys_enter") int f(void *c) { n++; return 0; }'.replace("__u64", "unsigned long long"))
    assert set(run(silent, "-o", "json", "--duration", "100ms").ledger) == {"silent/bss"}
