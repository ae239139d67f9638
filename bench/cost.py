# SPDX-License-Identifier: BSD-2-Clause
"""What being watched costs a workload: CPU per operation, watched over bare, interleaved pair by pair."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from figures import Figure
from loads import Load, workloads
from machine import NotMeasured, eunomia, running, say, stop, tool, wait_attached

COALESCED = "opensnoop --coalesce 1s"
UNTIMED = "syscall --set latency=false"
OURS = ("opensnoop", COALESCED, "process", "syscall", UNTIMED)
OPENING = ("openclose", "nginx")  # the loads whose events COALESCED counts
# Debian's tool in C that answers the same question; syscount times calls only if asked to.
TWINS = {
    "opensnoop": "opensnoop", COALESCED: "opensnoop", "process": "execsnoop",
    "syscall": "syscount -i 1 --latency", UNTIMED: "syscount -i 1",
}  # fmt: skip
TIMES_TWIN = 1.1  # what `syscall` may cost, over its twin, of these loads
LIKE_TWIN = {(load, watcher) for load in ("getppid", "readwrite") for watcher in ("syscall", UNTIMED)}

RATIO_BOUNDS = {
    ("openclose", "opensnoop"): 1.5, ("nginx", "opensnoop"): 1.12, ("exec", "process"): 1.03,
    ("openclose", COALESCED): 1.25, ("nginx", COALESCED): 1.06,
}  # fmt: skip
EXTRA_NS_BOUNDS = {("getppid", "opensnoop"): 15.0, ("getppid", "process"): 15.0}
NONE_LOST = {(load, watcher) for load in OPENING for watcher in ("opensnoop", COALESCED)}


class Pair(NamedTuple):
    """CPU ns an operation without and with the watcher, one right after the other."""

    bare: float
    watched: float


class Cell:
    """All pairs of one workload under one watcher."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.emitted = 0
        self.lost = 0
        self.why = ""

    @property
    def ratio(self) -> float | None:
        return statistics.median(p.watched / p.bare for p in self.pairs) if self.pairs else None

    @property
    def extra_ns(self) -> float | None:
        return statistics.median(p.watched - p.bare for p in self.pairs) if self.pairs else None

    @property
    def bare_ns(self) -> float | None:
        return statistics.median(p.bare for p in self.pairs) if self.pairs else None


def _command(watcher: str) -> list[str]:
    if watcher.startswith("C "):
        name, *options = watcher[2:].split()
        return [tool(name), *options]
    return [eunomia(), "run", *watcher.split(), "-o", "json", "--output", "/dev/null"]


def _told(stderr: bytes) -> tuple[int, int]:
    """Events shown or counted, and lost: from our ledger, or from the twin's complaints."""
    emitted = lost = 0
    for line in stderr.splitlines():
        if line.startswith(b'{"ledger"'):
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                emitted += entry.get("events") or entry.get("emitted") or 0
                lost += entry.get("lost") or 0
        elif found := re.search(rb"[Ll]ost (\d+) events", line):
            lost += int(found[1])
    return emitted, lost


@contextlib.contextmanager
def watched_by(watcher: str, cell: Cell) -> Iterator[None]:
    """Run the watcher, output to /dev/null, and add to the cell what it says it lost."""
    with tempfile.TemporaryFile() as stderr:
        argv = _command(watcher)
        with running(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr) as process:
            try:
                wait_attached(process)
            except NotMeasured as why:
                stderr.seek(0)
                last = stderr.read().decode(errors="replace").strip().splitlines()[-1:]
                raise NotMeasured("; ".join([str(why), *last])) from None
            yield
            stop(process)
        stderr.seek(0)
        emitted, lost = _told(stderr.read())
        cell.emitted += emitted
        cell.lost += lost


def _pair(load: Load, watcher: str, cell: Cell, seconds: float) -> None:
    bare = load(seconds)
    with watched_by(watcher, cell):
        watched = load(seconds)
    cell.pairs.append(Pair(bare, watched))


def matrix(rounds: int, seconds: float, nginx_rounds: int) -> dict[tuple[str, str], Cell]:
    """Every workload under every watcher; a watcher that cannot run says why in its cells."""
    watchers = list(dict.fromkeys(w for ours in OURS for w in (ours, f"C {TWINS[ours]}")))
    cells: dict[tuple[str, str], Cell] = {}
    with workloads() as loads:
        for name, load in loads.items():
            times = nginx_rounds if name == "nginx" else rounds  # wrk runs for a second at least
            for n in range(times):
                say(f"cost: {name}, round {n + 1} of {times}")
                for watcher in watchers:
                    if watcher == COALESCED and name not in OPENING:
                        continue
                    cell = cells.setdefault((name, watcher), Cell())
                    if cell.why:
                        continue
                    try:
                        _pair(load, watcher, cell, seconds)
                    except NotMeasured as why:
                        cell.why = str(why)
    return cells


def figures(cells: dict[tuple[str, str], Cell]) -> list[Figure]:
    found = []
    for (load, watcher), cell in cells.items():
        if watcher.startswith("C "):
            continue
        beside = _beside(load, watcher, cells)
        what = f"{load} under {watcher}"
        extra_bound = EXTRA_NS_BOUNDS.get((load, watcher))
        if load == "getppid":
            found.append(Figure(f"cost: {what}", cell.extra_ns, "ns more", extra_bound, beside, cell.why))
        else:
            bound = RATIO_BOUNDS.get((load, watcher))
            found.append(Figure(f"cost: {what}", cell.ratio, "x", bound, beside, cell.why))
        if (load, watcher) in LIKE_TWIN:
            twin = cells[load, f"C {TWINS[watcher]}"]
            over = cell.extra_ns / twin.extra_ns if cell.extra_ns is not None and twin.extra_ns else None
            found.append(Figure(f"cost: {what}, what it adds over what the twin adds", over, "x", TIMES_TWIN, beside))
        if (load, watcher) in NONE_LOST:
            lost = float(cell.lost) if cell.pairs else None
            note = f"of {cell.emitted + cell.lost:,}" if cell.pairs else cell.why
            found.append(Figure(f"cost: events lost, {what}", lost, "", 0.0, "", note))
    return found


def _beside(load: str, watcher: str, cells: dict[tuple[str, str], Cell]) -> str:
    name = f"C {TWINS[watcher]}"
    twin = cells[load, name]
    if not twin.pairs:
        return f"{name}: {twin.why}"
    told = f"+{twin.extra_ns:.0f} ns" if load == "getppid" else f"{twin.ratio:.2f} x"
    lost = f", {twin.lost:,} lost" if twin.lost else ""
    return f"{name} {told}{lost}; bare {twin.bare_ns:,.0f} ns"


def measure(quick: bool) -> tuple[list[Figure], Any]:
    cells = matrix(2, 0.2, 1) if quick else matrix(5, 0.4, 5)
    raw = {
        f"{load} under {watcher}": {
            "pairs": cell.pairs,
            "emitted": cell.emitted,
            "lost": cell.lost,
            "why": cell.why,
        }
        for (load, watcher), cell in cells.items()
    }
    return figures(cells), raw
