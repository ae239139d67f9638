# SPDX-License-Identifier: BSD-2-Clause
"""Streams that are not asked for cost their reader nothing, and change nothing for who writes them."""

import os
from pathlib import Path

TWO = """
#include <linux/types.h>
struct rare { __u64 number; };
struct often { __u64 sent, refused; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct rare); } rare SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); __type(value, struct often); } often SEC(".maps");
__u64 sent, refused;
SEC("raw_tp/sys_enter") int busy(struct bpf_raw_tracepoint_args *ctx) {
    struct often e = { sent, refused };
    if (bpf_ringbuf_output(&often, &e, sizeof e, 0)) refused++; else sent++;
    return 0; }
SEC("raw_tp/sched_process_exec") int seldom(void *ctx) {
    struct rare e = { sent }; bpf_ringbuf_output(&rare, &e, sizeof e, 0); return 0; }
"""
CALLS = 3_000_000
RECORDS = 65536 // 24  # that the ring of `often` holds


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent(running, worker) -> tuple[float, float]:
    """The CPU seconds of Eunomia, and of a process that keeps the other stream busy, in the same time."""
    before = cpu_seconds(running.pid), cpu_seconds(worker.pid)
    worker.go()
    return cpu_seconds(running.pid) - before[0], cpu_seconds(worker.pid) - before[1]


def test_a_stranger_s_busy_stream_that_is_not_shown_takes_no_time(compiled, start, worker):
    busy = worker(f"for _ in range({CALLS}): os.getppid()")
    running = start(compiled("two", TWO), "-o", "json", "--streams", "rare").attached()
    ours, theirs = spent(running, busy)
    assert ours < theirs / 2
    busy.end()
    ended = running.end()
    assert set(ended.ledger) == {"two/rare"}
    assert {row["stream"] for row in ended.rows} <= {"rare"}


def test_a_tracker_s_busy_streams_that_are_not_shown_take_no_time(start, worker):
    busy = worker("for _ in range(1500):\n    pid = os.fork()\n    if not pid: os._exit(0)\n    os.waitpid(pid, 0)")
    running = start("process", "-o", "json", "--streams", "exec").attached()
    ours, theirs = spent(running, busy)
    assert ours < theirs
    os.waitpid(os.posix_spawn("/bin/true", ["true", "seen"], {}), 0)
    ended = running.end()
    assert {row["stream"] for row in ended.rows} == {"exec"}
    assert ["true", "seen"] in [row["argv"] for row in ended.rows]
    entry = ended.ledger["process/exec"]
    assert (entry["lost"], entry["emitted"]) == (0, len(ended.rows))


def test_a_ring_that_is_not_shown_is_emptied_so_that_its_program_goes_on(compiled, start, worker):
    source = TWO.replace("raw_tp/sched_process_exec", "tp/syscalls/sys_enter_getpgrp")
    some = worker("import time\nfor _ in range(60):\n    for _ in range(100): os.getppid()\n    time.sleep(0.05)\nos.getpgrp()")
    running = start(compiled("two", source), "-o", "json", "--streams", "rare").attached()
    some.go()
    some.end()
    assert running.end().rows[-1]["number"] > RECORDS
