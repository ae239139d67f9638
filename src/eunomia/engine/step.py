# SPDX-License-Identifier: BSD-2-Clause
"""One step of the engine: drain, join, filter, pass on. Its caller decides when to take it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from eunomia.engine.held import Held
from eunomia.kernel.coalesced import CoalescedReader
from eunomia.kernel.ring import RingReader
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.engine.joins import Joins
    from eunomia.engine.output import Output
    from eunomia.engine.pace import Pace
    from eunomia.engine.sources import RunningSource
    from eunomia.engine.stream import Stream
    from eunomia.faults import Faults

_DRAINS = 4  # of one stream in one step, if no other stream has rows
_DRIFT = 50_000  # ns by which the clock's offset may be off before it is set again

Rows = list[tuple["Stream", "Batch"]]
_NO_STREAMS: Collection[Stream] = ()


class Step:
    """Takes rows from sources and passes them to outputs; ``outputs`` is the engine's list of them."""

    def __init__(self, joins: Joins, pace: Pace, outputs: Sequence[Output], faults: Faults) -> None:
        self.held = Held()
        self._joins = joins
        self._pace = pace
        self._outputs = outputs
        self._faults = faults
        self._clock = time.time_ns() - monotonic_ns()
        self._drained = 0  # when the last step began that left nothing in the rings (monotonic ns)
        self.reading: Stream | None = None  # the stream that was read last

    def __call__(
        self,
        sources: Sequence[RunningSource],
        *,
        tables: bool = False,
        ending: Sequence[RunningSource] = (),
        kept: Collection[Stream] = (),
    ) -> bool:
        """Take a step; return whether there were rows.

        With ``tables``, tables are read too. Sources that are ``ending``, of which the probes are detached, are
        drained until nothing is left, except their ``kept`` streams, which other sources go on reading.
        """
        self._set_clock()
        pace = self._pace
        pace.fill = 0.0
        taken, began = time.time_ns(), monotonic_ns()
        streams = [stream for source in sources for stream in source.streams]
        last_of = {stream for source in ending for stream in source.streams} if ending else _NO_STREAMS
        emptied = {stream for stream in last_of if stream not in kept} if kept else last_of
        for source in sources:
            if source.live is not None:
                source.live.ignore()
        _tell_last(streams, emptied)
        raw = {source.name: self._drain_raw(source) for source in sources if source.deriver is not None}
        rows: Rows = []
        pace.share_out(streams)
        # effects are drained before causes, so that no step shows an exec without its fork
        for stream in reversed(streams):
            if tables or not stream.is_table or stream.reader.waiting or stream in emptied:
                self.reading = stream
                rows += [(stream, batch) for batch in stream.reader.drain(self._clock, taken)]
                pace.saw(stream.reader)
        found = bool(rows)
        busy = {stream for stream, _ in rows}
        if last_of and len(busy) > 1:  # to be merged by time
            rows += [(s, b) for s in busy for b in self._rest_of(s, streams, taken, s in emptied)]
        found |= self._joins.feed(self._clock, self._drained, pace, busy=found)
        if raw:
            made = self._derive(sources, raw, began, ending)
            rows += made
            found = found or bool(made)
        if rows or self.held:
            self._pass_on(rows, last_of)
        if len(busy) == 1:
            stream = busy.pop()
            rows.clear()
            for batch in self._rest_of(stream, streams, taken, stream in emptied):
                self._joins.feed_again(self._clock, self._drained, pace)
                self._pass_on([(stream, batch)], last_of)
        if not any(stream.reader.waiting for stream in streams if not stream.is_table):
            self._drained = min([began, *_untold(streams)])
        for output in self._outputs:
            output.flush()
        pace.took(monotonic_ns() - began)
        return found

    def _set_clock(self) -> None:
        clock = time.time_ns() - monotonic_ns()
        if abs(clock - self._clock) > _DRIFT:
            self._clock = clock

    def _rest_of(self, stream: Stream, streams: Sequence[Stream], taken: int, last: bool) -> Iterator[Batch]:
        """Drain a stream until it is empty, or up to the limit for one step."""
        drains = 1
        while stream.reader.waiting and (last or (drains < _DRAINS and not _others_wait(stream, streams))):
            yield from stream.reader.drain(self._clock, taken)
            drains += 1

    # Rows that trackers make in user space

    def start(self, source: RunningSource) -> None:
        """Give a source's deriver the initial state."""
        if source.deriver is not None and source.events is not None:
            self._faults.call(f"tracker {source.name}", None, source.deriver.start, source.events.take())

    def _drain_raw(self, source: RunningSource) -> dict[str, list[Batch]]:
        raw: dict[str, list[Batch]] = {}
        for name, reader in source.rings.items():
            raw[name] = reader.drain(self._clock)
            self._pace.saw(reader)
            while reader.waiting:
                raw[name] += reader.drain(self._clock)
        return raw

    def _derive(
        self,
        sources: Sequence[RunningSource],
        raw: Mapping[str, Mapping[str, list[Batch]]],
        until: int,
        ending: Sequence[RunningSource],
    ) -> Rows:
        """Have trackers make their rows, after the registry is up to date."""
        rows: Rows = []
        nothing: list[Batch] = []
        for source in sources:
            if source.deriver is None or source.events is None:
                continue
            news = source.events.take()
            name, last = f"tracker {source.name}", source in ending
            streams = {stream.key[1]: stream for stream in source.streams}
            make = source.deriver.rows
            for batch in self._faults.call(name, nothing, make, raw[source.name], news, until, last):
                stream = streams.get(batch.stream)
                if stream is not None and self._faults.call(name, False, stream.reader.emit, batch):
                    rows += [(stream, b) for b in stream.reader.drain(self._clock, self._clock + until)]
        return rows

    # From the streams to the outputs

    def _pass_on(self, rows: Rows, last_of: Collection[Stream]) -> None:
        """Filter rows by their own fields, join them, hold back those without a name, and pass on the rest.

        Rows that are left out are not joined: looking up a process causes events, which a tracer of files sees.
        """
        registry = self._joins.registry
        assert registry is not None
        joined = self.held.released(registry, last_of)
        for stream, batch in rows:
            batch.tracker, batch.stream = stream.key
            kept = stream.leave_out(batch) if stream.early else batch
            if kept.count:
                self._joins.join(stream, kept)
                joined.append((stream, self.held.hold(stream, kept)))
        if last_of:
            joined += self.held.released(registry, last_of)
        for output in self._outputs:
            output.take(joined)
        for stream, batch in joined:
            if not stream.takers:
                stream.filtered += batch.count


def _tell_last(streams: Sequence[Stream], emptied: Collection[Stream]) -> None:
    """Tell readers that count equal events whether this drain is the last."""
    for stream in streams:
        if isinstance(stream.reader, CoalescedReader):
            stream.reader.is_last = stream in emptied


def _untold(streams: Sequence[Stream]) -> Iterator[int]:
    """Yield since when there may be events that were counted and are no rows yet."""
    for stream in streams:
        if isinstance(stream.reader, CoalescedReader) and stream.reader.since is not None:
            yield stream.reader.since


def _others_wait(stream: Stream, streams: Sequence[Stream]) -> bool:
    """Whether another stream's ring has records by now."""
    return any(s is not stream and isinstance(s.reader, RingReader) and s.reader.held() for s in streams)
