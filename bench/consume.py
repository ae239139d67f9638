# SPDX-License-Identifier: BSD-2-Clause
"""Eunomia's side of the yardstick: takes the flood's events through the library, as a child of its own.

    .venv/bin/python bench/consume.py count|columns|touched|json|discard-N|json-N OBJECT PID

Like baseline/ring.c it says "ready", takes events until SIGTERM, and prints one line of JSON. "count" drains
and counts; "columns" runs the engine and looks at every number as a numpy array, "touched" also reads some;
"json" runs the engine with the JSON sink. "discard-4" and "json-4" have four such outputs; the first discard.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `eunomia` does: they spin for a while, idle

EVERY = 0.005  # seconds, as in ring.c; the engine has a pause of its own, of 1 to 10 ms
# A container that the flood is said to run in, so that rows carry a whole identity.
CONTAINER = ("4f1c" * 16, "web-1", "registry.example/shop/web:2.31", "docker")
TOUCHED = ("time", "cgroup", "pid", "uid", "syscall")


def _cpu_ns() -> int:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return round((use.ru_utime + use.ru_stime) * 1e9)


class _Counting:
    """A sink that keeps no account; the events that came are the output's to count."""

    wants: frozenset[str] = frozenset()
    closed = False
    delivered: ClassVar[dict[Any, int]] = {}
    dropped: ClassVar[dict[Any, dict[str, int]]] = {}
    waiting: ClassVar[dict[Any, int]] = {}

    def flush(self) -> None:
        pass

    close = flush


class _Discarding(_Counting):
    """A sink that takes rows and does nothing."""

    def write(self, batches: Sequence[Any]) -> None:
        pass


class _Columns(_Counting):
    """A sink that looks at each number as a numpy array.

    Text is decoded when somebody reads it, and so it is in C. ``touched``: what ring.c's callback reads of
    each event is read here too.
    """

    def __init__(self, schema: Any, touched: bool) -> None:
        import numpy as np

        from eunomia.batch import Batch

        # not "comm", and not the clock's offset added to "time": C does neither
        self._names = [name for name in schema.fields if name not in {"comm", "time"}]
        self._touched = TOUCHED if touched else ()
        self._read = np.bitwise_xor.reduce
        self.write([Batch(schema, bytes(schema.size))])  # what happens once is not an event's cost

    def write(self, batches: Sequence[Any]) -> None:
        for batch in batches:
            for name in self._names:
                batch[name]
            for name in self._touched:
                self._read(batch[name])


class _Rows(_Counting):
    """The JSON sink, over a container that the flood is said to run in; keeps one batch to compare with."""

    def __init__(self, engine: Any, streams: Any) -> None:
        from eunomia.identity import RESOLVED, Container, Identity
        from eunomia.sinks import open_sink
        from eunomia.sinks.writer import open_writer

        for cgroup in list(engine.registry):
            engine.registry[cgroup] = Identity(RESOLVED, Container(*CONTAINER))
        self._sink = open_sink("json", open_writer("/dev/null"), streams)
        self.largest: Any = None

    def write(self, batches: Sequence[Any]) -> None:
        self._sink.write(batches)
        self.largest = max(self.largest or batches[0], *batches, key=len)

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()

    def prepared(self) -> dict[str, Any]:
        """Nanoseconds a row of ``encode_lines`` alone, on the same rows already made."""
        import msgspec

        rows = list(self.largest.rows())
        encode = msgspec.json.Encoder().encode_lines
        each = []
        for _ in range(9):
            began = time.thread_time_ns()
            lines = encode(rows)
            each.append((time.thread_time_ns() - began) / len(rows))
        return {
            "encode_ns_per_row": sorted(each)[4],
            "rows": len(rows),
            "bytes_per_row": len(lines) / len(rows),
        }


def by_engine(mode: str, path: str, pid: int) -> dict[str, Any]:
    """The real loop: drain, join, filter, sink."""
    from eunomia.engine import Engine
    from eunomia.engine.output import Output
    from eunomia.source import Options, open_source

    source = open_source(path)
    schema = source.spec.streams["events"].schema
    with Engine() as engine:
        engine.add(source, Options({"target": pid}))
        kind, _, outputs = mode.partition("-")

        def sink_for(streams: Any) -> Any:
            if kind == "discard":
                return _Discarding()
            return _Rows(engine, streams) if kind == "json" else _Columns(schema, kind == "touched")

        connected = [Output(f"{kind} {n}", sink_for) for n in range(int(outputs or 1))]
        for output in connected:
            engine.connect(output)
        signal.signal(signal.SIGTERM, lambda *_: engine.stop())
        engine.start()
        output, sink = connected[0], connected[0].sink
        ends: list[int] = []
        # as in ring.c: what detaching costs is not an event's
        detach, engine.finish = engine.finish, lambda **how: (ends.append(_cpu_ns()), detach(**how))[1]
        began = _cpu_ns()
        print("ready", flush=True)
        engine.run()
        told = {"events": output.counted, "cpu_ns": ends[0] - began}
    whole = isinstance(sink, _Rows) and len(connected) == 1 and sink.largest is not None
    return told | (sink.prepared() if whole else {})


def by_drain(path: str, pid: int) -> dict[str, Any]:
    """The drain alone, counting rows."""
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    with Loaded.attached(Spec.open(path), set_={"target": pid}) as live:
        reader = live.readers["events"]
        began = _cpu_ns()
        print("ready", flush=True)
        while going:
            time.sleep(EVERY)
            while reader.drain() and reader.waiting:
                pass
        while reader.drain():
            pass
        return {"events": reader.drained, "cpu_ns": _cpu_ns() - began}


def main() -> None:
    mode, path, pid = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = by_drain(path, int(pid)) if mode == "count" else by_engine(mode, path, int(pid))
    told["cpu_ns_per_event"] = told["cpu_ns"] / max(1, told["events"])
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
