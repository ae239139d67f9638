# SPDX-License-Identifier: BSD-2-Clause
"""The sum of the ledger is the number of calls that were made, whatever became of the rows."""

import os
import signal
import subprocess
import time

import pytest

FLOOD = 60_000


def balanced(entry):
    return entry["emitted"] == entry["filtered"] + entry["delivered"] + entry["dropped"]


def test_a_flood_of_opens_with_a_stopped_consumer_is_accounted_for_to_the_call(start, worker):
    calls = worker(f"for _ in range({FLOOD}): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid), "--ring-size", "64KiB").attached()
    os.kill(running.pid, signal.SIGSTOP)
    calls.go()
    os.kill(running.pid, signal.SIGCONT)
    ended = running.end()
    entry = ended.ledger["opensnoop/open"]
    assert entry["lost"] > FLOOD / 2, "a ring of 64 KiB does not hold it"
    assert entry["emitted"] + entry["lost"] == FLOOD
    assert balanced(entry)
    assert len(ended.rows) == entry["delivered"] == entry["emitted"]


def test_a_flood_past_a_live_consumer_is_accounted_for_to_the_call(start, worker):
    calls = worker(f"for _ in range({FLOOD}): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid), "--ring-size", "64KiB").attached()
    calls.go()
    ended = running.end()
    entry = ended.ledger["opensnoop/open"]
    assert entry["emitted"] + entry["lost"] == FLOOD
    assert balanced(entry)
    assert len(ended.rows) == entry["delivered"]


def test_execs_forks_and_exits_are_accounted_for_to_the_call(start, worker):
    times = 400
    calls = worker(f"for _ in range({times}): os.waitpid(os.posix_spawn('/bin/true', ['true', 'x' * 900], {{}}), 0)")
    running = start("process", "-o", "json", "--comm", "true", "--ring-size", "4KiB").attached()
    os.kill(running.pid, signal.SIGSTOP)
    calls.go()
    os.kill(running.pid, signal.SIGCONT)
    ended = running.end()
    ours = [r for r in ended.rows if r["ppid"] == calls.pid]
    for stream in ("exec", "exit"):
        entry = ended.ledger[f"process/{stream}"]
        others = sum(r["stream"] == stream for r in ended.rows) - sum(r["stream"] == stream for r in ours)
        assert entry["lost"] > 0
        # other tests on this machine may run /bin/true as well: theirs can only add
        assert times <= entry["emitted"] + entry["lost"] <= times + others + 50
        assert balanced(entry)


def test_counts_of_system_calls_add_up(start, worker):
    calls = worker(f"for _ in range({FLOOD}): os.getppid()")
    running = start("syscall", "-o", "json", "--pid", str(calls.pid), "--interval", "100ms").attached()
    calls.go()
    ended = running.end()
    assert sum(r["count"] for r in ended.rows if r["syscall"] == "getppid") == FLOOD
    assert ended.ledger["syscall/syscall"]["lost"] == 0
    assert balanced(ended.ledger["syscall/syscall"])


@pytest.mark.parametrize("count", [1, 7])
def test_count_writes_exactly_so_many_rows_the_earliest(start, worker, count):
    calls = worker("for _ in range(50): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid), "--count", str(count)).attached()
    calls.go()
    ended = running.wait()
    assert ended.code == 0
    assert len(ended.rows) == count
    entry = ended.ledger["opensnoop/open"]
    assert entry["delivered"] == count
    assert balanced(entry)


def test_the_rows_that_count_keeps_begin_with_the_cause(start, worker):
    calls = worker("os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)")
    running = start("process", "-o", "json", "--pid", str(calls.pid), "--count", "1").attached()
    os.kill(running.pid, signal.SIGSTOP)
    calls.go()
    calls.end()
    os.kill(running.pid, signal.SIGCONT)
    assert [r["stream"] for r in running.wait().rows] == ["fork"]


def test_a_stalled_reader_costs_rows_that_are_counted_with_the_reason(start, worker):
    calls = worker("for _ in range(100_000): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid), "--ring-size", "64MB").attached()
    calls.go()
    time.sleep(0.5)
    running.process.send_signal(signal.SIGINT)
    time.sleep(2.5)  # it waits two seconds for its reader
    ended = running.wait()
    entry = ended.ledger["opensnoop/open"]
    assert ended.code == 0
    assert entry["emitted"] + entry["lost"] == 100_000
    assert entry["dropped"] == sum(entry["dropped_reasons"].values()) > 0
    assert list(entry["dropped_reasons"]) == ["slow reader"]
    assert balanced(entry)
    assert ended.out.count(b"\n") == entry["delivered"]


def test_people_get_the_ledger_as_sentences(run):
    said = run("process", "opensnoop", "--duration", "300ms").err
    assert said.count("\n") == 4
    for stream in ("process/exec", "process/fork", "process/exit", "opensnoop/open"):
        assert f"eunomia: {stream}: emitted " in said


def test_a_full_disk_is_said_and_counted(run):
    with open("/dev/full", "wb") as full:
        busy = subprocess.Popen(["sh", "-c", "while :; do /bin/true; sleep 0.05; done"])
        try:
            ended = run("process", "-o", "json", "--duration", "700ms", stdout=full)
        finally:
            busy.kill()
            busy.wait()
    assert ended.err.count("No space left on device; rows are dropped") == 1
    entry = ended.ledger["process/exec"]
    assert entry["dropped_reasons"] == {"No space left on device": entry["emitted"]}
    assert entry["emitted"] > 0
    assert ended.code == 0
