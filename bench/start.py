# SPDX-License-Identifier: BSD-2-Clause
"""From the command to its first printed event, resident memory, and the wheel's size."""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from figures import Figure
from machine import BUILT, LOAD_CPU, ROOT, NotMeasured, eunomia, running, say, stop, tool

ONE_EXEC = 'tracepoint:sched:sched_process_exec { printf("%s\\n", comm); exit(); }'
EACH_EXEC = 'tracepoint:sched:sched_process_exec { printf("%s\\n", comm); }'


def _commands(one: bool) -> dict[str, Callable[[], list[str]]]:
    """Name -> command; with ``one`` it may end after its first event."""
    last = ["--count", "1"] if one else []
    return {
        "eunomia": lambda: [eunomia(), "run", "process", "-o", "json", *last],
        "C opensnoop": lambda: [tool("opensnoop")],
        "bpftrace": lambda: [tool("bpftrace"), "-e", ONE_EXEC if one else EACH_EXEC],
    }


def _is_event(line: bytes) -> bool:
    """Tell events from headings: opensnoop's column names, bpftrace's "Attaching 1 probe..."."""
    return bool(line.strip()) and not line.startswith((b"PID ", b"Attaching"))


@contextlib.contextmanager
def _background(rate: int) -> Iterator[None]:
    """Something to see: execs and opens, each ``rate`` times a second."""
    with tempfile.TemporaryDirectory(prefix="eunomia-bench-") as where, contextlib.ExitStack() as stack:
        existing = Path(where) / "existing"
        existing.touch()
        for load, operand in (("execs", BUILT / "noop"), ("openclose", existing)):
            argv = [str(BUILT / load), "-r", str(rate), "-c", str(LOAD_CPU), str(operand)]
            stack.enter_context(running(argv, stdout=subprocess.DEVNULL))
        yield


def first_event_ms(argv: list[str], patience: float = 20.0) -> float:
    """Milliseconds from spawn to the end of the first line with an event, on a terminal."""
    ours, theirs = os.openpty()
    try:
        began = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            os.close(theirs)
            theirs = -1
            return _until_event(ours, began, patience)
        finally:
            os.close(ours)
            ours = -1
            stop(process)
    finally:
        for fd in (ours, theirs):
            if fd >= 0:
                os.close(fd)


def _until_event(terminal: int, began: float, patience: float) -> float:
    seen = b""
    while (left := began + patience - time.monotonic()) > 0:
        if not select.select([terminal], [], [], left)[0]:
            break
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the last writer is gone
            piece = b""
        now = time.monotonic()
        if not piece:
            raise NotMeasured("it ended without an event")
        seen += piece
        if any(_is_event(line) for line in seen.split(b"\n")[:-1]):
            return (now - began) * 1000
    raise NotMeasured(f"no event within {patience:.0f} s")


def starts(rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Milliseconds by tool, interleaved; the first round warms the page cache and is left out."""
    times: dict[str, list[float]] = {}
    why: dict[str, str] = {}
    with _background(1000):
        for n in range(rounds + 1):
            for name, command in _commands(one=True).items():
                if name in why:
                    continue
                try:
                    took = first_event_ms(command())
                except NotMeasured as reason:
                    why[name] = str(reason)
                    continue
                if n:
                    times.setdefault(name, []).append(took)
    return times, why


def memory_mb(argv: list[str], seconds: float) -> tuple[float, float]:
    """Resident memory now and at its peak, in MB, after some seconds of light load."""
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(argv, **nowhere) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = Path(f"/proc/{process.pid}/status").read_text()
        else:
            raise NotMeasured("it ended at once")
    kilobytes = {line.split()[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
    return int(kilobytes["VmRSS:"]) / 1024, int(kilobytes["VmHWM:"]) / 1024


def memories(seconds: float) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    found: dict[str, tuple[float, float]] = {}
    why: dict[str, str] = {}
    with _background(100):
        for name, command in _commands(one=False).items():
            try:
                found[name] = memory_mb(command(), seconds)
            except NotMeasured as reason:
                why[name] = str(reason)
    return found, why


def wheel() -> Figure:
    wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda p: p.stat().st_mtime)
    if not wheels:
        return Figure("size: wheel", None, "MB", 4.0, note="no wheel in dist/")
    return Figure("size: wheel", wheels[-1].stat().st_size / 1e6, "MB", 4.0, note=wheels[-1].name)


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds = 5 if quick else 10
    say(f"start: {rounds} rounds of three tools")
    times, why_not = starts(rounds)
    say("start: memory")
    sizes, why_no_size = memories(2.0 if quick else 5.0)

    def started(name: str) -> str:
        if name not in times:
            return f"{name}: {why_not[name]}"
        return f"{name} {statistics.median(times[name]):.0f} ms"

    def sized(name: str) -> str:
        if name not in sizes:
            return f"{name}: {why_no_size[name]}"
        return f"{name} {sizes[name][0]:.1f} (peak {sizes[name][1]:.1f})"

    ours = statistics.median(times["eunomia"]) if "eunomia" in times else None
    theirs = statistics.median(times["bpftrace"]) if "bpftrace" in times else None
    mine = sizes.get("eunomia")
    peak = f"peak {mine[1]:.1f}" if mine else why_no_size.get("eunomia", "")
    figures = [
        Figure(
            "start: `run process` to first event, over bpftrace's",
            ours / theirs if ours and theirs else None, "x", 1.0,
            f"{started('eunomia')}, {started('C opensnoop')}, {started('bpftrace')}",
        ),
        Figure(
            "memory: `run process`, resident",
            mine[0] if mine else None, "MB", 22.0, f"{sized('C opensnoop')}, {sized('bpftrace')}", peak,
        ),
        wheel(),
    ]  # fmt: skip
    return figures, {"start_ms": times, "memory_mb": sizes}
