# SPDX-License-Identifier: BSD-2-Clause
"""Eunomia's side of the yardstick: takes the flood's events through the library, as a child of its own.

    .venv/bin/python bench/consume.py count|columns|touched|json OBJECT PID

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
    registry.join(batch, "cgroup")


def _columns(schema: Any) -> Take:
    """Schema and join: each field as a numpy array, times of the wall clock, and each row's identity."""
    import numpy as np  # noqa: F401 - now, not when the first batch asks for it

    registry = _registry()
    names = list(schema.fields)
    names.remove("comm")  # text is decoded when somebody reads it; so it is in C

    def take(batch: Any) -> None:
        _join(registry, batch)
        for name in names:
            batch[name]

    return take


def _touched(schema: Any) -> Take:
    """As above, and what ring.c's callback reads of each event is read here too."""
    import numpy as np

    columns = _columns(schema)

    def take(batch: Any) -> None:
        columns(batch)
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
        return {
            "encode_ns_per_row": sorted(best)[4],
            "rows": len(rows),
            "bytes_per_row": len(lines) / len(rows),
        }


def _nothing(_batch: Any) -> None:
    pass


MODES: dict[str, Callable[[Any], Take]] = {
    "count": lambda _schema: _nothing,
    "columns": _columns,
    "touched": _touched,
    "json": _Rows,
}


def _loop(reader: Any, take: Take) -> None:
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    print("ready", flush=True)
    while going:
        time.sleep(EVERY)
        _step(reader, take)
    _step(reader, take)


def _step(reader: Any, take: Take) -> None:
    taken = time.time_ns()
    clock = taken - time.monotonic_ns()
    while True:
        for batch in reader.drain(clock, taken):
            take(batch)
        if not reader.waiting:
            return


def main() -> None:
    mode, path, pid = sys.argv[1:]
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    with Loaded(Spec.open(path), set_={"target": int(pid)}) as live:
        reader = live.readers["events"]
        take = MODES[mode](reader.schema)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        began = _cpu_ns()
        _loop(reader, take)
        spent = _cpu_ns() - began
        count = reader.drained
    told = {"events": count, "cpu_ns": spent, "cpu_ns_per_event": spent / max(1, count)}
    if isinstance(take, _Rows) and take.largest is not None:
        told |= take.prepared()
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
