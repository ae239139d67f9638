# SPDX-License-Identifier: BSD-2-Clause
"""Outputs: each takes the rows that it wants from the engine, and keeps its own account.

A sink that raises is isolated: its rows are counted as dropped, it is reported once, and other outputs are not
affected. A sink that may stall gets a queue and a thread of its own.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from eunomia.filters import Filters, Mask, all_of, container_mask, process_mask
from eunomia.ledger import OutputEntry
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.engine.stream import Key, Stream
    from eunomia.faults import Faults
    from eunomia.sinks import Sink, StreamInfo

DROP_NEWEST, DROP_OLDEST, BLOCK = "drop-newest", "drop-oldest", "block"
EVERYTHING = Filters()

POLICIES = (DROP_NEWEST, DROP_OLDEST, BLOCK)

FULL = "queue full"
STALLED = "stalled"
_PATIENCE = 5.0  # seconds to wait for a sink's thread to end
_UNWRITTEN = 0.01  # seconds between two tries while rows wait for a slow reader


class Queue(NamedTuple):
    """The queue of a sink with its own thread: the most rows that wait, and what happens to more.

    ``block`` stops the engine, and so all other outputs, until there is room.
    """

    rows: int = 65536
    policy: str = DROP_NEWEST


class Stalled(Exception):
    """A sink does not take rows, or does not end."""


class Output:
    """A sink with filters on streams, processes and containers, and a limit on its rows.

    ``over`` becomes true when it takes no more: its reader is gone, or its limit is reached.
    """

    def __init__(
        self,
        name: str,
        open_: Callable[[Sequence[StreamInfo]], Sink],
        filters: Filters = EVERYTHING,
        *,
        streams: Collection[str] = (),
        limit: int | None = None,
        queue: Queue | None = None,
        processes: bool = False,
    ) -> None:
        """``open_`` makes the sink, once the streams are known.

        ``streams`` are those to take, as ``source`` or ``source/stream``; all if none is named. Without a
        ``queue`` the sink is called by the engine, and must not block. ``processes`` says that its columns need the
        table of processes. Raises :class:`ValueError` for filters that exclude each other or an unknown policy.
        """
        if queue is not None and (queue.policy not in POLICIES or queue.rows < 1):
            known = ", ".join(POLICIES)
            raise ValueError(f"a queue of {queue.rows} rows with policy {queue.policy!r}: there are {known}")
        self.name = name
        self.filters = filters
        self.selection = filters.selection()
        self.processes = processes
        self.counted = 0  # rows handed to the sink
        self.sink: Sink | None = None
        self._open = open_
        self._wanted = frozenset(streams)
        self._limit = limit
        self._queue = queue
        self._thread: _Thread | None = None
        self._faults: Faults | None = None
        self._masks: dict[tuple[Key, int], Mask | None] = {}
        self._received: dict[Key, int] = {}
        self._filtered: dict[Key, int] = {}
        self._handed: dict[Key, int] = {}
        self._dropped: dict[Key, dict[str, int]] = {}
        self._closed = False

    # Called by the engine

    def takes(self, stream: Stream) -> bool:
        """Whether it takes rows of a stream."""
        return not self._wanted or stream.label in self._wanted or stream.key[0] in self._wanted

    def want(self, filters: Filters) -> None:
        """Take other rows from now on; :meth:`plan` has to be called for each stream."""
        self.selection = filters.selection()
        self.filters = filters

    def open(self, streams: Sequence[StreamInfo], faults: Faults) -> None:
        """Make the sink; raises whatever that raises."""
        self._faults = faults
        self.sink = self._open(streams)
        if self._queue is not None:
            self._thread = _Thread(self, self._queue)
        elif streams:
            self._safely(self.sink.flush)  # a table shows its heading at the start

    def plan(self, stream: Stream, *, filtered: bool) -> None:
        """Decide how a stream's rows are filtered; ``filtered`` if the kernel or the engine did it already.

        Raises :class:`BadSetting` if its records lack a field that a filter needs.
        """
        for schema in stream.schemas:
            tests: list[Mask] = []
            if not filtered and (mask := process_mask(self.filters, schema, stream.label)) is not None:
                tests.append(mask)
            if self.selection is not None:
                tests.append(container_mask(self.selection, schema, stream.label))
            self._masks[stream.key, id(schema)] = all_of(tests)

    def adapt(self, streams: Sequence[StreamInfo]) -> None:
        """Have the sink show streams as they are from the next row on; some have other columns now."""
        adapt = getattr(self.sink, "adapt", None)
        if adapt is None or self._closed:
            return
        if self._thread is not None:
            self._thread.adapt(functools.partial(adapt, streams))
        else:
            self._safely(functools.partial(adapt, streams))

    def forget(self, stream: Stream) -> None:
        """Drop a stream's filters; its account stays."""
        for schema in stream.schemas:
            self._masks.pop((stream.key, id(schema)), None)

    def take(self, rows: Sequence[tuple[Stream, Batch]]) -> None:
        """Take a step's rows: filter them, and pass on the rest."""
        if self._closed:
            return
        kept = []
        for stream, batch in rows:
            key = stream.key
            if not batch.count or (key, id(batch.schema)) not in self._masks:
                continue
            self._received[key] = self._received.get(key, 0) + batch.count
            mask = self._masks[key, id(batch.schema)]
            wanted = mask(batch) if mask is not None else None
            if wanted is None or 0 not in wanted:
                kept.append(batch)
                continue
            chosen = batch[wanted]
            self._leave_out(key, batch.count - chosen.count)
            if chosen.count:
                kept.append(chosen)
        if self._limit is not None:
            kept = self._cut(kept, self._limit)
        if not kept:
            return
        self.counted += sum(batch.count for batch in kept)
        if self._thread is not None:
            self._thread.put(kept)
        else:
            self.write(kept)

    def flush(self) -> None:
        """Write what a slow reader can take now."""
        if self._thread is None and self.sink is not None and not self._closed and self.sink.waiting:
            self._safely(self.sink.flush)

    @property
    def waits(self) -> bool:
        """Whether rows wait for a slow reader, so that the engine has to flush again soon."""
        return self._thread is None and self.sink is not None and not self._closed and bool(self.sink.waiting)

    @property
    def over(self) -> bool:
        """Whether it takes no more."""
        if self._closed or (self.sink is not None and self.sink.closed):
            return True
        return self._limit is not None and self.counted >= self._limit

    def close(self) -> None:
        """Write waiting rows, for a bounded time, and close the sink; the rest is counted as dropped."""
        if self._closed:
            return
        if self._thread is not None:
            self._thread.end()
        elif self.sink is not None:
            self._safely(self.sink.close)
        self._closed = True

    def account(self) -> list[OutputEntry]:
        """Return the account of each stream's rows."""
        sink, entries = self.sink, []
        queued = self._thread.waiting() if self._thread is not None else {}
        in_hand = dict(sink.waiting) if sink is not None else {}
        for key, count in self._lacking().items() if sink is not None else ():
            in_hand[key] = in_hand.get(key, 0) + count
        for key, received in self._received.items():
            delivered = sink.delivered.get(key, 0) if sink is not None else 0
            dropped = dict(self._dropped.get(key, {}))
            for reason, count in sink.dropped.get(key, {}).items() if sink is not None else ():
                dropped[reason] = dropped.get(reason, 0) + count
            filtered = self._filtered.get(key, 0)
            waiting = queued.get(key, 0) + in_hand.get(key, 0)
            entries.append(OutputEntry(self.name, "/".join(key), received, filtered, delivered, dropped, waiting))
        return entries

    # Counting and writing

    def _leave_out(self, key: Key, count: int) -> None:
        self._filtered[key] = self._filtered.get(key, 0) + count

    def drop(self, counts: Mapping[Key, int], reason: str) -> None:
        """Count rows as dropped."""
        for key, count in counts.items():
            if count:
                reasons = self._dropped.setdefault(key, {})
                reasons[reason] = reasons.get(reason, 0) + count

    def write(self, batches: Sequence[Batch]) -> None:
        """Pass rows to the sink; if it raises, rows that it has not counted are dropped."""
        assert self.sink is not None
        for key, count in tally(batches).items():
            self._handed[key] = self._handed.get(key, 0) + count
        try:
            self.sink.write(batches)
        except Exception as error:  # whatever a sink raises, others go on
            self.say(error)
            self.drop(self._lacking(), f"failed: {type(error).__name__}")

    def _lacking(self) -> dict[Key, int]:
        """Return the rows that were passed to the sink and are missing in its account."""
        assert self.sink is not None
        sink, waiting, found = self.sink, self.sink.waiting, {}
        for key, handed in self._handed.items():
            counted = sink.delivered.get(key, 0) + sum(sink.dropped.get(key, {}).values()) + waiting.get(key, 0)
            ours = sum(n for reason, n in self._dropped.get(key, {}).items() if reason not in {FULL, STALLED})
            found[key] = max(0, handed - counted - ours)
        return found

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.say(error)
            self.drop(self._lacking(), f"failed: {type(error).__name__}")

    def say(self, error: Exception) -> None:
        """Report this output as failed, once for each kind of error."""
        if self._faults is not None:
            self._faults.note(f"output {self.name}", error, "its rows are dropped and counted, the run goes on")

    def _cut(self, batches: list[Batch], limit: int) -> list[Batch]:
        """Keep the earliest rows, up to the limit."""
        left = max(0, limit - self.counted)
        if sum(batch.count for batch in batches) <= left:
            return batches
        times = sorted((t, i, j) for i, b in enumerate(batches) for j, t in enumerate(b.values("time")))
        chosen = {(i, j) for _, i, j in times[:left]}
        kept = [b[bytes((i, j) in chosen for j in range(b.count))] for i, b in enumerate(batches)]
        for before, after in zip(batches, kept, strict=True):
            self._leave_out((before.tracker, before.stream), before.count - after.count)
        return [batch for batch in kept if batch.count]


def tally(batches: Sequence[Batch]) -> dict[Key, int]:
    """Return the number of rows by stream."""
    counts: dict[Key, int] = {}
    for batch in batches:
        key = (batch.tracker, batch.stream)
        counts[key] = counts.get(key, 0) + batch.count
    return counts


class _Thread:
    """A sink's own thread, and its queue of rows."""

    def __init__(self, output: Output, queue: Queue) -> None:
        import threading

        self._output = output
        self._room = queue.rows
        self._policy = queue.policy
        self._waiting: deque[Sequence[Batch]] = deque()
        self._adapting: list[tuple[int, Callable[[], None]]] = []  # what the sink is told before the n-th write
        self._put, self._taken = 0, 0  # writes
        self._rows = 0  # that wait
        self._changed = threading.Condition()
        self._ending = False
        self._given_up = False
        self._full_said = False
        self._thread = threading.Thread(target=self._run, name=f"output {output.name}", daemon=True)
        self._thread.start()

    def put(self, batches: Sequence[Batch]) -> None:
        """Queue rows, or drop some by the policy."""
        count = sum(batch.count for batch in batches)
        lost: list[Sequence[Batch]] = []
        with self._changed:
            if self._policy == BLOCK:
                while self._rows and self._rows + count > self._room and not self._ending and self._thread.is_alive():
                    self._changed.wait(1.0)
            elif self._rows and self._rows + count > self._room:
                if self._policy == DROP_OLDEST:
                    while self._waiting and self._rows + count > self._room:
                        lost.append(self._waiting.popleft())
                        self._taken += 1
                        self._rows -= sum(batch.count for batch in lost[-1])
                else:
                    lost, batches = [batches], ()
            if batches:
                self._waiting.append(batches)
                self._put += 1
                self._rows += count
                self._changed.notify_all()
            for one in lost:
                self._output.drop(tally(one), FULL)
        if lost and not self._full_said:
            self._full_said = True
            self._output.say(Stalled(f"it is too slow: its queue of {self._room} rows is full"))

    def adapt(self, tell: Callable[[], None]) -> None:
        """Have the sink told something behind what waits, and before what comes."""
        with self._changed:
            self._adapting.append((self._put, tell))

    def waiting(self) -> dict[Key, int]:
        """Return the rows that wait, by stream."""
        with self._changed:
            return tally([batch for batches in self._waiting for batch in batches])

    def _run(self) -> None:
        output = self._output
        sink = output.sink
        assert sink is not None
        while True:
            with self._changed:
                while not self._waiting and not self._ending:
                    self._changed.wait(_UNWRITTEN if sink.waiting else None)
                    if sink.waiting and not self._waiting:
                        break
                batches = self._waiting.popleft() if self._waiting else None
                if batches is None and self._ending:
                    break
                self._taken += batches is not None
                due = [tell for before, tell in self._adapting if before < self._taken]
                del self._adapting[: len(due)]
            for tell in due:
                output._safely(tell)
            if batches is None:
                output._safely(sink.flush)
                continue
            output.write(batches)
            with self._changed:
                if self._given_up:
                    return
                self._rows -= sum(batch.count for batch in batches)
                self._changed.notify_all()
        output._safely(sink.close)

    def end(self) -> None:
        """Write waiting rows, and close the sink; if it takes too long, its rows are dropped."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            return
        with self._changed:
            self._given_up = True
            left, self._rows = list(self._waiting), 0
            self._waiting.clear()
        self._output.say(Stalled(f"it did not end within {_PATIENCE:.0f} s"))
        for batches in left:
            self._output.drop(tally(batches), STALLED)
        self._output.drop(self._output._lacking(), f"failed: {Stalled.__name__}")
