# SPDX-License-Identifier: BSD-2-Clause
"""An engine that runs in a thread of its own, sinks that keep rows, processes that open files when told to."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from eunomia.batch import Batch
from eunomia.engine import Engine
from eunomia.engine.output import EVERYTHING, Output, Queue
from eunomia.faults import Faults
from eunomia.filters import Filters
from tests import needs

CODE = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        os.close(os.open("/dev/null", os.O_RDONLY))
    print("done", flush=True)
"""


class Kept:
    """A sink that keeps who did what, and takes all at once."""

    wants: frozenset[str] = frozenset()
    closed = False

    def __init__(self) -> None:
        self.pids: Counter[int] = Counter()
        self.batches: list[Batch] = []
        self.delivered: dict[tuple[str, str], int] = {}
        self.dropped: dict[tuple[str, str], dict[str, int]] = {}
        self.waiting: dict[tuple[str, str], int] = {}
        self.is_closed = False

    def write(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if "pid" in batch.schema.fields:
                self.pids.update(batch.raw("pid"))
            self.batches.append(batch)
            key = (batch.tracker, batch.stream)
            self.delivered[key] = self.delivered.get(key, 0) + batch.count

    def flush(self) -> None: ...

    def close(self) -> None:
        self.is_closed = True


class Opener:
    """A process that opens a file as often as it is told to."""

    def __init__(self) -> None:
        command = [sys.executable, "-S", "-c", CODE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.pid = self._process.pid
        assert self._process.stdout.readline() == "ready\n"

    def opens(self, times: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open files without end in the block."""
        ending = threading.Event()

        def load() -> None:
            while not ending.is_set():
                self.opens(500)

        loading = threading.Thread(target=load)
        loading.start()
        try:
            yield
        finally:
            ending.set()
            loading.join()

    def end(self) -> None:
        self._process.communicate()


@pytest.fixture
def opener() -> Iterator[Callable[[], Opener]]:
    """opener() -> a process that opens files when it is told to."""
    begun: list[Opener] = []

    def begin() -> Opener:
        begun.append(Opener())
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


class Live:
    """An engine that runs in a thread; ``said`` is what it had to say of parts that failed."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.engine = Engine(faults=Faults(lambda sentence, _error: self.said.append(sentence)))
        self._thread = threading.Thread(target=self.engine.run, kwargs={"forever": True}, name="engine")

    def start(self) -> None:
        self.engine.start()
        self._thread.start()

    def call(self, command: Callable[[], object]) -> None:
        """Have the engine's thread do something, and wait until it is done; raise what it raises."""
        self.engine.submit(command).result(60 * needs.PATIENCE)

    def connect(self, name: str, sink: object, filters: Filters = EVERYTHING, queue: Queue | None = None) -> Output:
        output = Output(name, lambda _: sink, filters, queue=queue)  # type: ignore[arg-type, return-value]
        if self._thread.is_alive():
            self.call(lambda: self.engine.connect(output))
        else:
            self.engine.connect(output)
        return output

    def end(self) -> None:
        self.engine.stop()
        self._thread.join()


@pytest.fixture
def live() -> Iterator[Live]:
    """An engine, to be started."""
    needs.root()
    one = Live()
    with one.engine:
        yield one
        if one._thread.is_alive():
            one.end()


def until(holds: Callable[[], object], what: object = "") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 30 * needs.PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
