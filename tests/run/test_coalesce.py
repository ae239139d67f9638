# SPDX-License-Identifier: BSD-2-Clause
"""``--coalesce``: equal events are counted in the kernel, and the sum of the counts is the number of calls."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import needs

THREADS, TIMES = 4, 4000
MANY = f"""
import threading
cpus = sorted(os.sched_getaffinity(0))

def opens(cpu):
    os.sched_setaffinity(0, {{cpu}})
    for n in range({TIMES}):
        os.close(os.open('/dev/null', os.O_RDONLY))
        os.close(os.open('/dev/zero', os.O_RDONLY))
        try:
            os.open('/nowhere', os.O_RDONLY)
        except OSError:
            pass

threads = [threading.Thread(target=opens, args=(cpus[n % len(cpus)],)) for n in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
PATHS = ("/dev/null", "/dev/zero", "/nowhere")


def counts(rows):
    """How many events the rows stand for, by process and path."""
    found = Counter()
    for row in rows:
        found[row["pid"], row["resolved"]] += row["count"]
    return found


def test_the_sum_of_counts_is_the_number_of_calls_of_several_threads_and_processes(start, worker):
    workers = [worker(MANY) for _ in range(2)]
    pids = ",".join(str(one.pid) for one in workers)
    running = start("opensnoop", "-o", "json", "--coalesce", "50ms", "--pid", pids).attached()
    for one in workers:
        one.process.stdin.write("\n")
        one.process.stdin.flush()
    for one in workers:
        assert one.process.stdout.readline() == "done\n"
    ended = running.end()
    expected = {(one.pid, path): THREADS * TIMES for one in workers for path in PATHS}
    found = counts(ended.rows)
    assert {key: found[key] for key in expected} == expected
    entry = ended.ledger["opensnoop/open"]
    assert entry["lost"] == 0
    assert entry["events"] == sum(found.values())
    assert entry["emitted"] == entry["delivered"] == len(ended.rows) < entry["events"] / 10
    assert all(row["first"] <= row["time"] for row in ended.rows)


class Shown:
    """Rows that are written to a file, read while the run goes on."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "rows.jsonl"

    def rows(self):
        whole = self.path.read_bytes().rpartition(b"\n")[0] if self.path.exists() else b""
        return [json.loads(line) for line in whole.splitlines()]

    def until(self, holds):
        deadline = time.monotonic() + 60 * needs.PATIENCE
        while not holds(rows := self.rows()):
            assert time.monotonic() < deadline, rows
            time.sleep(0.01)


@pytest.fixture
def shown(tmp_path) -> Shown:
    return Shown(tmp_path)


def test_the_first_event_is_shown_at_once_and_the_end_of_the_run_ends_the_window(start, worker, shown):
    calls = worker("for _ in range(1000): os.close(os.open('/dev/null', 0))")
    to = f"json:{shown.path}"
    running = start("opensnoop", "-o", to, "--coalesce", "1m", "--pid", str(calls.pid)).attached()
    calls.go()
    shown.until(lambda rows: [row["count"] for row in rows] == [1])
    assert running.end(signal.SIGINT).code == 0
    assert [row["count"] for row in shown.rows()] == [1, 999]


def test_windows_end_by_themselves_while_nothing_more_happens(start, worker, shown):
    calls = worker("for _ in range(500): os.close(os.open('/dev/null', 0))")
    to = f"json:{shown.path}"
    running = start("opensnoop", "-o", to, "--coalesce", "100ms", "--pid", str(calls.pid)).attached()
    calls.go()
    shown.until(lambda rows: sum(row["count"] for row in rows) == 500)
    running.end()


def test_a_stopped_consumer_and_a_full_ring_cost_what_the_ledger_says(start, worker):
    calls = worker(
        "for n in range(300):\n"
        "  for path in ('/dev/null', f'/nowhere/{n}'):\n"
        "    try: os.close(os.open(path, 0))\n"
        "    except OSError: pass\n"
        "for _ in range(5000): os.close(os.open('/dev/zero', 0))"
    )
    limits = ("--coalesce", "1m", "--ring-size", "4KiB")
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid), *limits).attached()
    os.kill(running.pid, signal.SIGSTOP)
    calls.go()
    os.kill(running.pid, signal.SIGCONT)
    ended = running.end()
    entry = ended.ledger["opensnoop/open"]
    found = counts(ended.rows)
    assert entry["lost"] > 0
    assert entry["events"] + entry["lost"] == 5600
    assert sum(found.values()) == entry["events"]
    assert found[calls.pid, "/dev/null"] == 300, "what was first in the ring stands for the others"


def test_an_event_that_the_ring_refused_is_tried_again(start, worker, shown):
    fill = "for n in range(200):\n  try: os.open(f'/nowhere/{n}', 0)\n  except OSError: pass\n"
    calls = worker(
        fill + "os.close(os.open('/dev/zero', 0))\nprint('full', flush=True)\nsys.stdin.readline()\n"
        "for _ in range(1000): os.close(os.open('/dev/zero', 0))"
    )
    limits = ("--coalesce", "1m", "--ring-size", "4KiB")
    to = f"json:{shown.path}"
    running = start("opensnoop", "-o", to, "--pid", str(calls.pid), *limits).attached()
    os.kill(running.pid, signal.SIGSTOP)
    calls.process.stdin.write("\n")
    calls.process.stdin.flush()
    assert calls.process.stdout.readline() == "full\n"
    os.kill(running.pid, signal.SIGCONT)
    shown.until(len)  # the ring was read
    calls.go()
    entry = running.end().ledger["opensnoop/open"]
    rows = shown.rows()
    assert entry["events"] + entry["lost"] == 1201
    assert entry["lost"] > 0
    assert sum(row["count"] for row in rows) == entry["events"]
    assert counts(rows)[calls.pid, "/dev/zero"] == 1000


@pytest.mark.parametrize("kind", ["table", "csv", "json"])
def test_every_format_shows_the_count(start, worker, kind):
    calls = worker("for _ in range(77): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "-o", kind, "--coalesce", "1m", "--pid", str(calls.pid)).attached()
    calls.go()
    out = running.end().out.decode()
    if kind == "json":
        assert '"count":76,"first":"' in out
        return
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [row["count"] for row in rows] == ["1", "76"]
        assert all(row["first"].endswith("Z") for row in rows)
        return
    head, *lines = [line.split() for line in out.splitlines()]
    assert head[-2:] == ["COUNT", "RESOLVED"]
    assert [line[-2:] for line in lines] == [["1", "/dev/null"], ["76", "/dev/null"]]


def test_people_read_how_many_events_rows_stand_for(start, worker):
    calls = worker("for _ in range(77): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "--coalesce", "1m", "--pid", str(calls.pid)).attached()
    calls.go()
    assert "opensnoop/open: emitted 2 for 77 events, lost 0, filtered 0, delivered 2, dropped 0" in running.end().err


def test_without_it_no_row_speaks_of_counts(start, worker):
    calls = worker("for _ in range(5): os.close(os.open('/dev/null', 0))")
    running = start("opensnoop", "-o", "json", "--pid", str(calls.pid)).attached()
    calls.go()
    ended = running.end()
    assert len(ended.rows) == 5
    assert not {"count", "first", "coalesced_id"} & set(ended.rows[0])
    assert "events" not in ended.ledger["opensnoop/open"]


def test_what_is_filtered_in_the_kernel_is_not_counted(start, worker):
    wanted, other = worker("for _ in range(50): os.close(os.open('/dev/null', 0))"), worker("open('/dev/null')")
    running = start("opensnoop", "-o", "json", "--coalesce", "1m", "--pid", str(wanted.pid)).attached()
    other.go()
    wanted.go()
    ended = running.end()
    assert counts(ended.rows) == {(wanted.pid, "/dev/null"): 50}


def test_a_stream_that_cannot_is_shown_beside_one_that_can(start):
    child = [sys.executable, "-S", "-c", "for _ in range(40): open('/dev/zero').close()"]
    running = start("opensnoop", "process", "-o", "json", "--coalesce", "1m").attached()
    done = subprocess.Popen(child)
    done.wait()
    rows = [row for row in running.end().rows if row["pid"] == done.pid]
    assert sum(row["stream"] == "exec" for row in rows) == 1
    assert sum(row["count"] for row in rows if row.get("resolved") == "/dev/zero") == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("process", "--coalesce", "1s"), "none of these streams says which of its events are equal: process/exec"),
        (("opensnoop", "process", "--streams", "exec", "--coalesce", "1s"), "are equal: process/exec;"),
        (("opensnoop", "--coalesce", "5ms"), "--coalesce: '5ms' is not a time"),
        (("opensnoop", "--coalesce", "2m"), "'2m' is not between 10ms and 1m"),
        (("opensnoop", "--coalesce", "often"), "--coalesce: 'often'"),
        (("opensnoop", "--coalesce", ""), "--coalesce: it is empty"),
    ],
)
def test_what_cannot_be_counted_is_refused(run, arguments, words):
    run(*arguments).refused(2, words)
