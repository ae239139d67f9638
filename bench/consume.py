# SPDX-License-Identifier: BSD-2-Clause
"""Eunomia's side of the yardstick: takes the flood's events through the library, as a child of its own.

    .venv/bin/python bench/consume.py count|columns|json OBJECT PID

Like baseline/ring.c it says "ready", drains every 5 ms until SIGTERM, and prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

EVERY = 0.005
# A container that the flood is said to run in, so that rows carry a whole identity.
CONTAINER = ("4f1c" * 16, "web-1", "registry.example/shop/web:2.31", "docker")
TOUCHED = ("time", "cgroup", "pid", "uid", "syscall")

Take = Callable[[Any], None]


def _cpu_ns() -> int:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return round((use.ru_utime + use.ru_stime) * 1e9)


def _registry() -> Any:
    from eunomia.containers.registry import Registry

    registry = Registry()
    registry.start()
    return registry


def _join(registry: Any, batch: Any) -> None:
    batch.identities = list(map(registry.__getitem__, batch.raw("cgroup")))


def _columns(_schema: Any) -> Take:
    """Schema and join: the columns that ring.c touches, as numpy arrays, and each row's identity."""
    import numpy as np

    registry = _registry()

    def take(batch: Any) -> None:
        _join(registry, batch)
        for name in TOUCHED:
            np.bitwise_xor.reduce(batch[name])

    return take


class _Rows:
    """Rows to /dev/null through the JSON sink; keeps a batch to compare with bare msgspec."""

    def __init__(self, schema: Any) -> None:
        from eunomia.sinks import StreamInfo, open_sink
        from eunomia.sinks.writer import open_writer

        self.registry = _registry()
        self.sink = open_sink("json", open_writer("/dev/null"), [StreamInfo("flood", "events", schema)])
        self.largest: Any = None

    def __call__(self, batch: Any) -> None:
        from eunomia.identity import RESOLVED, Container, Identity

        cgroup = batch.raw("cgroup")[0]
        if self.registry[cgroup].state != RESOLVED:
            self.registry[cgroup] = Identity(RESOLVED, Container(*CONTAINER))
        _join(self.registry, batch)
        self.sink.write([batch])
        if self.largest is None or len(batch) > len(self.largest):
            self.largest = batch

    def prepared(self) -> dict[str, Any]:
        """Nanoseconds a row of ``encode_lines`` alone, on the same rows already made."""
        import msgspec

        rows = list(self.largest.rows())
        encode = msgspec.json.Encoder().encode_lines
        best = []
        for _ in range(9):
            began = time.thread_time_ns()
            lines = encode(rows)
            best.append((time.thread_time_ns() - began) / len(rows))
        return {"encode_ns_per_row": sorted(best)[4], "rows": len(rows), "bytes_per_row": len(lines) / len(rows)}


def _nothing(_batch: Any) -> None:
    pass


def _loop(live: Any, stream: Any, take: Take, count: list[int]) -> None:
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    print("ready", flush=True)
    while going:
        time.sleep(EVERY)
        _step(stream, take, count)
    _step(stream, take, count)


def _step(stream: Any, take: Take, count: list[int]) -> None:
    while True:
        batch = stream.drain()
        if not batch:
            return
        count[0] += len(batch)
        take(batch)


def main() -> None:
    mode, path, pid = sys.argv[1:]
    from eunomia.kernel.spec import Spec

    count = [0]
    with Spec.open(path).load(settings={"target": int(pid)}) as live:
        stream = live.streams["events"]
        schema = stream.schema
        take: Take = {"count": lambda _: _nothing, "columns": _columns, "json": _Rows}[mode](schema)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        began = _cpu_ns()
        _loop(live, stream, take, count)
        spent = _cpu_ns() - began
    told = {"events": count[0], "cpu_ns": spent, "cpu_ns_per_event": spent / max(1, count[0])}
    if isinstance(take, _Rows) and take.largest is not None:
        told |= take.prepared()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
