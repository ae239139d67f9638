# SPDX-License-Identifier: BSD-2-Clause
"""Resolver of container metadata: asks quick runtimes inline, slow ones in a worker thread each.

Answers of workers wake the engine and are applied on its thread. A runtime that does not answer delays nothing else:
its containers stay pending until it answers or the deadline passes.
"""

from __future__ import annotations

import os
import select
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from heapq import heappop, heappush

from eunomia.containers import blocking
from eunomia.containers.blocking import WouldBlock
from eunomia.containers.entry import ContainerEntry
from eunomia.containers.runtime import Metadata, Wakes
from eunomia.containers.runtime_reader import Answer, RuntimeReader
from eunomia.containers.worker import Worker
from eunomia.faults import Faults
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TypeVar

# All in nanoseconds.
DEADLINE = 5_000_000_000  # for how long a runtime is asked for a container that it doesn't know
EAGER_PAUSE = 20_000_000  # between the first two questions, then growing ...
PAUSE = 500_000_000  # ... up to this
PATIENCE = 4  # a pause is one part in this of the time since the first question
# How long the engine waits for slow runtimes, also when it starts. After a timeout it does not wait for a runtime again
# until that has answered all questions.
WAIT = 50_000_000
START_WAIT = 1_000_000_000

ASKED_AT_ONCE = 256  # containers that are asked for in one tick

_T = TypeVar("_T")


class Resolver:
    """Asks runtimes for containers; ``on_answer`` is called with each entry that may have new metadata.

    ``fd`` is readable while there are answers for :meth:`collect`.
    """

    def __init__(
        self,
        readers: Sequence[RuntimeReader],
        faults: Faults,
        clock: Callable[[], int],
        on_answer: Callable[[ContainerEntry, int], None],
        on_record: Callable[[ContainerEntry, bool], None],
    ) -> None:
        """``on_record`` is called with an entry that a slow runtime has a record of, and whether that is an old one."""
        self._readers = readers
        self._faults = faults
        self._clock = clock
        self._on_answer = on_answer
        self._on_record = on_record
        self._workers: dict[RuntimeReader, Worker] = {}
        self._waiting: list[tuple[int, int, ContainerEntry]] = []  # heap of when to ask again
        self._asked = 0
        self._news: deque[str] = deque()  # ids of containers that runtimes' own threads have answers for
        self._wakes = allocate_lock()
        self.fd = -1  # for close(), where there is no descriptor left
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.records = False  # whether to ask for records
        self.starting = False
        for reader in readers:
            if isinstance(reader.behind, Wakes):
                reader.behind.notify_with(self._notice)

    # Asking

    def run(
        self, reader: RuntimeReader, key: Hashable, question: Callable[[], _T], apply: Callable[[_T], None], again: bool
    ) -> None:
        """Ask a runtime and apply its answer, now or when it comes.

        While a question with this key is open, it is not asked again; with ``again`` it is once more after the answer.
        """
        if not reader.slow:
            try:
                with blocking.refused():
                    answer = question()
            except WouldBlock:
                reader.slow = True
            else:
                apply(answer)
                return
        self._worker(reader).ask(key, question, apply, again)

    def quick(self, reader: RuntimeReader, default: _T, question: Callable[..., _T], *arguments: object) -> _T:
        """Return the answer of a quick runtime; ``default`` for a slow one."""
        if not reader.slow:
            try:
                with blocking.refused():
                    return question(*arguments)
            except WouldBlock:
                reader.slow = True
        return default

    def ask(self, entry: ContainerEntry, now: int, changed: bool = False) -> None:
        """Ask the runtimes for a container; if none knows it yet, ask again later."""
        container_id, path = entry.candidate.id, entry.candidate.path
        nothing: Metadata | None = None
        best = nothing
        for reader in self._readers:
            answer = self.quick(reader, nothing, reader.lookup, container_id, path)
            if answer is not None:
                best = best or answer
                if answer.container.name:
                    best = answer
                    break
        entry.take(best)
        if best is None or not best.container.name:
            for reader in self._readers:
                if reader.slow and reader.may_know(container_id, path):
                    self._worker(reader).ask(
                        ("container", entry),
                        partial(reader.answer, container_id, path, self.records),
                        partial(self._answered, entry, self.starting),
                        changed,
                    )
        self._on_answer(entry, now)
        self._ask_again(entry, now)

    def is_asked(self, entry: ContainerEntry) -> bool:
        """Whether an answer of a slow runtime for a container is pending."""
        return any(worker.is_asked(("container", entry)) for worker in self._workers.values())

    def _answered(self, entry: ContainerEntry, starting: bool, answer: Answer | None) -> None:
        if answer is None or answer.metadata is None:
            if entry.is_in_use:
                self._on_answer(entry, self._clock())  # now it may be known that no runtime knows it
            return
        if not entry.is_in_use:
            return
        if answer.metadata.container.name or not entry.named:
            entry.take(answer.metadata)
            entry.watched = answer.watched
        self._on_answer(entry, self._clock())
        if answer.has_record:
            self._on_record(entry, starting)

    def _ask_again(self, entry: ContainerEntry, now: int) -> None:
        entry.waits = not entry.named and now - entry.since < DEADLINE
        if entry.waits:
            pause = max(EAGER_PAUSE, min(PAUSE, (now - entry.since) // PATIENCE))
            self._asked += 1
            heappush(self._waiting, (now + pause, self._asked, entry))

    def tick(self, now: int) -> None:
        """Ask again for containers that no runtime knew."""
        for _ in range(ASKED_AT_ONCE):
            if not self._waiting or self._waiting[0][0] > now:
                break
            entry = heappop(self._waiting)[2]
            if entry.waits:
                entry.waits = False
                if entry.cgroups:
                    self.ask(entry, now)

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` is due (monotonic ns); None for never."""
        while self._waiting and not self._waiting[0][2].waits:
            heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    # Answers

    def collect(self) -> None:
        """Apply the answers of workers."""
        if not self._workers and not self._news:
            return
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return
        for worker in list(self._workers.values()):
            worker.apply_answers()
        if self._news:
            known = {self._news.popleft() for _ in range(len(self._news))}
            for entry in {e for _, _, e in self._waiting if e.waits and e.candidate.id in known}:
                self.ask(entry, self._clock())

    def settle(self, patience: int = WAIT) -> None:
        """Wait for the runtimes that are being asked, except those that have timed out before."""
        end = 0
        while self._workers and any(worker.busy and not worker.late for worker in self._workers.values()):
            now = monotonic_ns()
            end = end or now + patience
            if now >= end:
                for worker in self._workers.values():
                    worker.late = worker.busy
                return
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            poll.poll((end - now) // 1_000_000 + 1)
            self.collect()

    def close(self) -> None:
        """Stop asking; a thread that waits for a runtime is left behind."""
        for worker in self._workers.values():
            worker.close()
        with self._wakes:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1

    def __del__(self) -> None:
        self.close()

    def _worker(self, reader: RuntimeReader) -> Worker:
        worker = self._workers.get(reader)
        if worker is None:
            worker = self._workers[reader] = Worker(reader.title, self._wake, self._faults)
        return worker

    def _notice(self, container_id: str) -> None:
        """Note that a runtime's own thread has an answer; any thread may call it."""
        self._news.append(container_id)
        self._wake()

    def _wake(self) -> None:
        with self._wakes:
            if self.fd >= 0:
                os.eventfd_write(self.fd, 1)
