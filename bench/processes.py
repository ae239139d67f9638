# SPDX-License-Identifier: BSD-2-Clause
"""Many short lives under few pids: is each row put down to the right one, and does the table end as it began?

    .venv/bin/python bench/processes.py [LIVES] [--pid-max N]

Has LIVES (100,000) processes forked, execed and ended, one after the other, while kernel.pid_max is N (8192; it
is set back after), so that each pid is given many times. Rows of the tracker `process` carry the kernel's own
word for who did it: what the table says is held against it. A minute or two.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from eunomia.batch import Batch
from eunomia.engine import Engine
from eunomia.engine.output import Output
from eunomia.processes.process_table import GRACE, ProcessTable
from eunomia.processes.running_processes import batch_of
from eunomia.source import open_source

PID_MAX = Path("/proc/sys/kernel/pid_max")
LOAD = """
import os, sys
print(os.getpid(), flush=True)
for n in range(int(sys.argv[1])):
    os.waitpid(os.posix_spawn("/bin/true", ["true", str(n)], {}), 0)
"""


class Judge:
    """A sink that compares what the table says with what the kernel said, and counts."""

    wants: frozenset[str] = frozenset()
    closed = False

    def __init__(self) -> None:
        self.delivered: dict[tuple[str, str], int] = {}
        self.dropped: dict[tuple[str, str], dict[str, int]] = {}
        self.waiting: dict[tuple[str, str], int] = {}
        self.rows = self.unknown = self.wrong = self.wrong_argv = self.orphans = 0
        self.pids: dict[int, int] = {}
        self.lives: dict[str, list[str]] = {}
        self.loader = 0

    def write(self, batches: Sequence[Batch]) -> None:
        for batch in sorted(batches, key=lambda b: b.stream):  # an exec before its exit
            truth, told = batch.values("exec_id"), batch.values("process.exec_id")
            argv = batch.values("process.argv")
            self.rows += batch.count
            self.unknown += told.count("")
            self.wrong += sum(a != b for a, b in zip(truth, told, strict=True) if b)
            ours = [i for i, p in enumerate(batch.values("ppid")) if p == self.loader]
            if batch.stream == "exec":
                pids, own = batch.values("pid"), batch.values("argv")
                parents = batch.values("process.parent_exec_id")
                for i in ours:
                    self.pids[pids[i]] = self.pids.get(pids[i], 0) + 1
                    self.lives[truth[i]] = own[i]
                    self.wrong_argv += own[i] != argv[i]
                    self.orphans += not parents[i].endswith(f":{self.loader}")
            elif batch.stream == "exit":
                self.wrong_argv += sum(self.lives.get(truth[i]) != argv[i] for i in ours)

    def flush(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def pid_max(number: int) -> Iterator[None]:
    before = PID_MAX.read_text()

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        PID_MAX.write_text(str(number))
        yield
    finally:
        PID_MAX.write_text(before)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def bytes_each(engine: Engine, copies: int = 100) -> float:
    """What the table holds for a process: of so many tables of what runs now."""
    lives = engine._joins._lives
    assert lives is not None
    found = batch_of(lives.readers["life"].schema, lives.iterate("found"))
    gc.collect()
    before, tables = resident(), []
    for _ in range(copies):
        tables.append(ProcessTable(look_up=lambda _pid, _start: None))
        tables[-1].fill(found)
    return (resident() - before) / sum(map(len, tables))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lives", nargs="?", type=int, default=100_000)
    parser.add_argument("--pid-max", type=int, default=8192)
    asked = parser.parse_args()
    judge = Judge()
    with pid_max(asked.pid_max), Engine() as engine:
        engine.add(open_source("process"))
        engine.connect(Output("judge", lambda _: judge, processes=True))
        engine.start()
        table = engine._joins.processes
        assert table is not None
        began, cpu = time.monotonic(), time.process_time()
        before, memory = len(table), resident()
        command = [sys.executable, "-S", "-c", LOAD, str(asked.lives)]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert load.stdout is not None
        judge.loader = int(load.stdout.readline())
        while load.poll() is None:
            if not engine.step():
                time.sleep(0.005)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        peak = table.remembered
        until = time.monotonic() + GRACE / 1e9 + 0.5
        while time.monotonic() < until:
            engine.step()
            time.sleep(0.05)
        gc.collect()
        figures = {
            "lives": len(judge.lives),
            "lives_a_second": round(asked.lives / seconds),
            "pids": len(judge.pids),
            "lives_a_pid_most": max(judge.pids.values(), default=0),
            "rows": judge.rows,
            "rows_of_others": judge.wrong,
            "rows_of_nobody": judge.unknown,
            "wrong_argv": judge.wrong_argv,
            "wrong_parent": judge.orphans,
            "table_before": before,
            "table_after": len(table),
            "running_now": sum(name.isdigit() for name in os.listdir("/proc")),
            "remembered_most": peak,
            "remembered_after": table.remembered,
            "cut": table.cut,
            "refills": table.refills,
            "cpu_share": round(cpu / seconds, 3),
            "grown_kib": (resident() - memory) // 1024,
        }
        figures["bytes_a_process"] = round(bytes_each(engine))
        engine.finish()
        figures["lost"] = sum(entry.lost or 0 for entry in engine.ledger())
    print(json.dumps(figures, indent=2))
    wrong = judge.wrong + judge.wrong_argv + judge.orphans + judge.unknown
    return int(bool(wrong or len(judge.lives) != asked.lives))


if __name__ == "__main__":
    raise SystemExit(main())
