# SPDX-License-Identifier: BSD-2-Clause
"""Hot replacement under load: each event has a number, and each number has to come once, whatever was swapped."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from figures import Figure
from loads import run_load
from machine import BUILT, FLOOD, LOAD_CPU, NotMeasured, running, say

RATE = 500_000  # events a second
WIDE = BUILT / "flood_wide.bpf.o"  # the same with one member more
_RING = 64 << 20  # bytes: 1.6 s of events, for machines that have other work
_PATIENCE = 60.0


class Numbers:
    """A sink that counts how often each number came."""

    wants: frozenset[str] = frozenset()
    closed = False

    def __init__(self) -> None:
        import numpy as np

        self._np = np
        self.times = np.zeros(1 << 20, np.uint8)
        self.delivered: dict[tuple[str, str], int] = {}
        self.dropped: dict[tuple[str, str], dict[str, int]] = {}
        self.waiting: dict[tuple[str, str], int] = {}

    def write(self, batches: Sequence[Any]) -> None:
        for batch in batches:
            numbers = self._np.asarray(batch.raw("sequence"), dtype=self._np.int64)
            while numbers.max() >= len(self.times):
                self.times = self._np.concatenate([self.times, self._np.zeros_like(self.times)])
            self._np.add.at(self.times, numbers, 1)
            key = (batch.tracker, batch.stream)
            self.delivered[key] = self.delivered.get(key, 0) + batch.count

    def flush(self) -> None: ...

    def close(self) -> None: ...


@contextlib.contextmanager
def engine(pid: int, numbers: Numbers) -> Iterator[Any]:
    """An engine that runs in a thread and reads the flood of a process."""
    from eunomia.engine import Engine
    from eunomia.engine.output import Output
    from eunomia.source import Options, open_source

    with Engine() as made:
        made.add(open_source(str(FLOOD)), Options({"target": pid}, ring_size=_RING))
        made.connect(Output("numbers", lambda _: numbers))
        made.start()
        thread = threading.Thread(target=made.run, kwargs={"forever": True})
        thread.start()
        try:
            yield made
        finally:
            made.stop()
            thread.join()


def swapped(swaps: int, objects: Sequence[Any]) -> dict[str, Any]:
    """Swap so many times, and count."""
    from eunomia.source import open_source

    numbers = Numbers()
    argv = [str(BUILT / "getppid"), "-w", "-c", str(LOAD_CPU), "-r", str(RATE)]
    with running(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load, engine(load.pid, numbers) as live:
        assert load.stdin is not None
        load.stdin.write(b"\n")
        load.stdin.flush()
        whole, stopped, stored = [], [], []
        hold = live._swap

        def timed(trial: Any) -> None:
            store = trial.handover._put

            def put(*given: Any, **more: Any) -> None:
                at = time.perf_counter()
                store(*given, **more)
                stored.append(time.perf_counter() - at)

            trial.handover._put = put
            began = time.perf_counter()
            hold(trial)
            stopped.append(time.perf_counter() - began)

        live._swap = timed
        for number in range(swaps):
            source = open_source(str(objects[number % len(objects)]))
            source.name = "flood"
            began = time.perf_counter()
            live.replace("flood", source)
            whole.append(time.perf_counter() - began)
        load.terminate()
        out, _ = load.communicate(timeout=_PATIENCE)
        made = json.loads(out)
        deadline = time.monotonic() + _PATIENCE
        while sum(numbers.delivered.values()) < made["ops"] and time.monotonic() < deadline:
            lost = sum(entry.lost or 0 for entry in live.ledger())
            if sum(numbers.delivered.values()) + lost >= made["ops"]:
                break
            time.sleep(0.05)
        ledger = live.ledger()
    times = numbers.times[1 : made["ops"] + 1]  # the first is 1
    refused = sum(entry.lost or 0 for entry in ledger)
    return {
        "swaps": swaps, "calls": made["ops"], "rate": made["ops"] / made["wall_ns"] * 1e9,
        "missing": int((times == 0).sum()), "doubled": int((times > 1).sum()),
        "beyond": int(numbers.times.sum()) - int(times.sum()),
        "refused_by_the_ring": refused, "emitted": sum(entry.emitted for entry in ledger),
        "replace_ms": [1000 * t for t in whole], "engine_ms": [1000 * t for t in stopped],
        "store_ms": [1000 * t for t in stored],
    }  # fmt: skip


def stub_cost(rounds: int, calls: int) -> dict[str, float]:
    """Return what a stub before an empty program costs a call, in ns: the program itself, and behind a stub."""
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    costs: dict[str, list[float]] = {"": [], "program": [], "behind a stub": []}
    for _ in range(rounds):
        for name, each in costs.items():
            with contextlib.ExitStack() as ends:
                if name:
                    spec = Spec.open(BUILT / "tax.bpf.o")
                    ends.enter_context(Loaded.attached(spec, programs=["raw_exit"], swappable=name == "behind a stub"))
                each.append(float(run_load("getppid", "-n", str(calls), "-c", str(LOAD_CPU))["cpu_ns_per_op"]))
    return {name: statistics.median(each) for name, each in costs.items()}


def measure(quick: bool) -> tuple[list[Figure], Any]:
    if not WIDE.exists():
        raise NotMeasured("the objects are not built")
    raw: dict[str, Any] = {}
    figures = []
    for what, objects in {"same ring": [FLOOD], "new ring each": [WIDE, FLOOD]}.items():
        raw[what] = told = swapped(50 if quick else 500, objects)
        rate = f"{told['swaps']} swaps in {told['calls']:,} events at {told['rate']:,.0f}/s"
        say(f"swap: {what}: {rate}")
        full = f"refused by a full ring: {told['refused_by_the_ring']:,}"
        figures += [
            Figure(f"swap: {what}: lost", told["missing"] - told["refused_by_the_ring"], "", 0, "", f"{rate}; {full}"),
            Figure(f"swap: {what}: doubled", told["doubled"] + told["beyond"], "", 0),
        ]
        parts = {"replace": "replace_ms", "its part on the engine's thread": "engine_ms", "the store": "store_ms"}
        for name, key in parts.items():
            median, worst = statistics.median(told[key]), max(told[key])
            figures.append(Figure(f"swap: {what}: {name}, median", median, "ms", None, "", f"worst {worst:.3g} ms"))
    raw["stub"] = cost = stub_cost(*((3, 300_000) if quick else (9, 1_000_000)))
    more = cost["behind a stub"] - cost["program"]
    note = f"bare {cost['']:.1f} ns, an empty program on raw_tp {cost['program']:.1f}"
    figures.append(Figure("swap: a stub of its own costs a call", more, "ns more", None, note))
    return figures, raw
