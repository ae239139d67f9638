# SPDX-License-Identifier: BSD-2-Clause
"""What `eunomia run` takes of a processor while nothing happens."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from figures import Figure
from machine import BUILT, NotMeasured, cpu_ns, eunomia, running, say, wait_attached

BOUND = 0.5  # percent of one processor

_ALL = ["process", "opensnoop", "syscall", "container"]
_COMMANDS = {
    "process": ["process"],
    "four trackers": _ALL,
    "four trackers, --add process.argv,process.ancestors": [*_ALL, "--add", "process.argv,process.ancestors"],
    "four trackers, --columns, every 100 ms": [*_ALL, "--columns", "pid,container.name", "--interval", "100ms"],
    "four trackers, two outputs": [*_ALL, "-o", "table", "-o", "json:/dev/null"],
    "another's ring": [str(BUILT / "stranger.bpf.o")],
    "another's table": [str(BUILT / "tables.bpf.o")],
}


def _forks() -> int:
    """How many processes and threads the machine has begun."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes"))


def _percent(argv: list[str], settle: float, seconds: float) -> tuple[float, float]:
    """Percent of one processor in user and system time, and processes that began each second, of anybody's."""
    nowhere: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with running(argv, **nowhere) as process:
        wait_attached(process)
        time.sleep(settle)  # the start is over
        began, before, forks = time.monotonic(), cpu_ns(process.pid), _forks()
        time.sleep(seconds)
        took, spent, forks = time.monotonic() - began, cpu_ns(process.pid) - before, _forks() - forks
        if process.poll() is not None:
            raise NotMeasured("it ended meanwhile")
    return spent / took / 1e7, forks / took


def measure(quick: bool) -> tuple[list[Figure], Any]:
    seconds = 5.0 if quick else 20.0
    figures, raw = [], {}
    for name, words in _COMMANDS.items():
        say(f"idle: {name}: {seconds:.0f} s")
        try:
            percent, forks = _percent([eunomia(), "run", *words], 2.0, seconds)
        except NotMeasured as why:
            figures.append(Figure(f"idle: {name}", None, "%", BOUND, note=str(why)))
            continue
        raw[name] = {"percent": percent, "forks_per_s": forks}
        note = f"{forks:.1f} processes began each second" if forks >= 1 else ""
        figures.append(Figure(f"idle: {name}", percent, "%", BOUND, note=note))
    return figures, raw
