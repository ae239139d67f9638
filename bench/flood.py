# SPDX-License-Identifier: BSD-2-Clause
"""One flood of getppid() and one consumer of its events: ring.c, consume.py or `eunomia run`."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from machine import BUILT, FLOOD, LOAD_CPU, ROOT, NotMeasured, cpu_ns, eunomia, running, wait_attached

IN_C = "C callback"
CLI = "eunomia run"
_PATIENCE = 60.0


class Outcome(NamedTuple):
    """Calls made, events that the consumer got, its CPU in ns an event and in percent of a core."""

    made: int
    events: int
    per_second: float
    cpu_ns_per_event: float
    cpu_percent: float
    told: dict[str, Any]

    @property
    def lost(self) -> int:
        return self.made - self.events


def losses(outcomes: Iterable[Outcome]) -> str:
    """Say so where a figure rests on fewer events than there were."""
    outcomes = list(outcomes)
    made, lost = sum(o.made for o in outcomes), sum(o.lost for o in outcomes)
    return f"{100 * lost / made:.1f} % of events lost" if lost else ""


def _command(consumer: str, pid: int) -> list[str]:
    if consumer == IN_C:
        return [str(BUILT / "ring"), str(FLOOD), str(pid)]
    if consumer == CLI:
        flags = ["--set", f"target={pid}", "-o", "json", "--output", "/dev/null"]
        return [eunomia(), "run", str(FLOOD), *flags]
    if importlib.util.find_spec("eunomia") is None:
        raise NotMeasured("this Python has no eunomia: make build, then .venv/bin/python bench/run.py")
    return [sys.executable, str(ROOT / "bench" / "consume.py"), consumer, str(FLOOD), str(pid)]


def flood(consumer: str, *, count: int = 0, seconds: float = 0, rate: float = 0) -> Outcome:
    """Run both; the load waits until the consumer is attached, and is its only source of events."""
    options = ["-w", "-c", str(LOAD_CPU), "-n", str(count), "-t", str(seconds), "-r", str(rate)]
    load_argv = [str(BUILT / "getppid"), *options]
    both = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(load_argv, **both) as load, tempfile.TemporaryFile() as errors:
        argv = _command(consumer, load.pid)
        with running(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as watcher:
            _wait_ready(consumer, watcher, errors)
            before = cpu_ns(watcher.pid)
            began = time.monotonic()
            out, _ = load.communicate(b"\n", timeout=_PATIENCE)
            made = json.loads(out)
            time.sleep(0.02)  # the last of them is in the ring; let the timer come round
            spent, wall = cpu_ns(watcher.pid) - before, time.monotonic() - began
            watcher.send_signal(signal.SIGINT if consumer == CLI else signal.SIGTERM)
            told, _ = watcher.communicate(timeout=_PATIENCE)
        errors.seek(0)
        said = errors.read()
    result = _ledger(said) if consumer == CLI else _last_line(told, said)
    events = int(result["events"])
    per_event = float(result.get("cpu_ns_per_event") or spent / max(1, events))
    per_second = made["ops"] / made["wall_ns"] * 1e9
    return Outcome(made["ops"], events, per_second, per_event, 100 * spent / 1e9 / wall, result)


def _wait_ready(consumer: str, watcher: subprocess.Popen[bytes], errors: Any) -> None:
    if consumer == CLI:
        try:
            wait_attached(watcher)
        except NotMeasured as why:
            raise NotMeasured(f"{why}; {_complaint(errors)}") from None
        return
    assert watcher.stdout is not None
    if watcher.stdout.readline() != b"ready\n":
        raise NotMeasured(f"{Path(str(consumer)).name} did not start: {_complaint(errors)}")


def _complaint(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _last_line(out: bytes, said: bytes) -> dict[str, Any]:
    try:
        return json.loads(out.strip().splitlines()[-1])  # type: ignore[no-any-return]
    except (IndexError, ValueError):
        words = said.decode(errors="replace").strip().splitlines()
        raise NotMeasured(f"the consumer ended without a word: {words[-1] if words else ''}") from None


def _ledger(said: bytes) -> dict[str, Any]:
    for line in said.splitlines():
        if line.startswith(b'{"ledger"'):
            entry = json.loads(line)
            return {"events": entry["delivered"], **entry}
    raise NotMeasured("eunomia run left no ledger on stderr")
