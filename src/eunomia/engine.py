# SPDX-License-Identifier: BSD-2-Clause
"""The one loop. It alone sees all parts: probes, identities, filters, sinks.

:meth:`Engine.step` is a plain function: drain, join, filter, pass on. Whoever drives it decides when.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from eunomia import filters as shared
from eunomia import whose
from eunomia.batch import Batch, Schema
from eunomia.faults import Faults
from eunomia.identity import PENDING
from eunomia.kernel.derived import DerivedReader
from eunomia.kernel.errors import Unsupported
from eunomia.kernel.libbpf import lib
from eunomia.kernel.loaded import Loaded, load_first
from eunomia.kernel.ring import ROWS, PerfReader, RingReader
from eunomia.kernel.spec import Spec
from eunomia.kernel.wait import Waiter
from eunomia.kernel_clock import monotonic_ns
from eunomia.ledger import Entry, Remark
from eunomia.tracker import deriver_of

if TYPE_CHECKING:
    from eunomia.containers.process_cgroups import ProcessCgroups
    from eunomia.containers.registry import Enricher, Registry
    from eunomia.filters import Filters, Mask
    from eunomia.hierarchy import Hierarchy
    from eunomia.kernel.choice import Wish
    from eunomia.processes.table import ProcessTable
    from eunomia.sinks import Sink, StreamInfo
    from eunomia.sinks.writer import Writer
    from eunomia.source import Source
    from eunomia.tracker import Deriver

_CGROUPS = os.path.join(os.path.dirname(__file__), "containers", "cgroups.bpf.o")
_EARLY = os.path.join(os.path.dirname(__file__), "containers", "early.bpf.o")

# Milliseconds. Between two drains that find something the loop sleeps, so that it works on batches.
_PAUSE_MIN, _PAUSE_MAX = 1, 10
_FULL = 1 / 3  # of a ring: past this the pause is halved, below half of it lengthened
_DRAINS = 4  # of one stream in one step, where no other stream has rows
_LONG, _SHORT = 5 * 10**8, 10**8  # ns that a step takes: past the first the slice is halved, below the other doubled
_SLICE_MIN = 512  # rows
_IDLE = 1000  # the longest sleep: probes end it
_FOREIGN_IDLE = 50  # for objects whose probes may never wake anybody
_UNWRITTEN = 10  # while a slow reader has rows to take

_NO_NAMES: Set[str] = frozenset()

HOLD = 1_000_000_000  # ns that rows wait for their container's name
HELD = 65536  # rows that do so at a time, at most

_DRIFT = 50_000  # ns by which the clock's offset may be off before it is set again
_LIVES_RING = 8 << 20  # bytes of the ring of processes, at least where others are told to be larger
_LOST_CHECK = 2 * 10**8  # ns between two looks at what the table of processes has lost
_COLLECT = 60 * 10**9  # ns between two collections of cyclic garbage, of which there is next to none


def lives_ring(rows: int | None) -> int:
    """Return how large the ring of processes is, in bytes, where those of rows are told to be ``rows``."""
    return max(_LIVES_RING, min(2 * (rows or 0), 1 << 30))


class _Stream:
    """A stream that runs: its reader and its account."""

    __slots__ = ("cgroup", "early", "filtered", "key", "live", "mask", "reader", "schemas", "who")

    def __init__(self, key: tuple[str, str], live: Loaded, reader: Any) -> None:
        self.key = key
        self.live = live
        self.reader = reader
        self.filtered = 0
        self.early: dict[int, Mask | None] = {}  # by schema: before anybody asks whose rows are, and after
        self.mask: dict[int, Mask | None] = {}
        schemas = [reader.schema, *reader.spec.shapes]
        self.schemas: list[Schema] = schemas
        self.cgroup = {id(s): shared.cgroup_field(s) for s in schemas}
        self.who = {id(s): whose.who(s) for s in schemas}

    @property
    def is_table(self) -> bool:
        return not isinstance(self.reader, RingReader | PerfReader | DerivedReader)


class _Derived:
    """A tracker whose rows are made here: its raw rings, what makes the rows, and where they go."""

    __slots__ = ("deriver", "name", "rings", "streams")

    def __init__(self, name: str, deriver: Deriver, live: Loaded, streams: Mapping[str, _Stream]) -> None:
        self.name = f"tracker {name}"
        self.deriver = deriver
        self.rings = {name: live.readers[name] for name in live.spec.raw}
        self.streams = streams


class Options(NamedTuple):
    """How sources are loaded; settings, sizes of maps and wishes by the source's name.

    ``processes`` is for columns that the table of processes gives, without which it is not kept.
    """

    settings: Mapping[str, Mapping[str, object]] = {}
    map_sizes: Mapping[str, Mapping[str, int]] = {}
    wishes: Mapping[str, Wish] = {}
    streams: tuple[str, ...] = ()
    ring_size: int | None = None
    processes: bool = False


class _News(Protocol):
    """What the engine asks of an enricher that learns in threads of its own."""

    @property
    def descriptor(self) -> int:
        """Readable when there are news."""

    def start(self) -> None:
        """Begin to learn; return at once."""

    def news(self) -> Set[str]:
        """Return names for :meth:`Registry.refresh`, once."""

    def close(self) -> None:
        """End it."""


if TYPE_CHECKING:

    class Follows(_News, Enricher, Protocol):
        """An enricher that is started and closed with the engine."""


class Engine:
    """Runs sources. As a context manager it leaves nothing attached.

    Use: :meth:`start`, :meth:`open` with a sink, then :meth:`run`, or :meth:`step` as often as wanted.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        filters: Filters,
        options: Options | None = None,
        enricher: Follows | None = None,
        faults: Faults | None = None,
    ) -> None:
        """Take what is to run; nothing is loaded yet. Raises :class:`ValueError` for wishes that clash.

        ``faults`` counts what fails while others' files are read, and may tell of it.
        """
        self.faults = Faults() if faults is None else faults
        self.sources = sources
        self.filters = filters
        self.options = options or Options()
        self.selection = filters.selection()
        self.streams: list[_Stream] = []
        self.notes: list[str] = []  # what users should know of how it started
        self.counted = 0  # rows handed to the sink
        self._derived: list[_Derived] = []
        self._objects: list[Loaded] = []
        self._cgroups: Loaded | None = None
        self._early: Loaded | None = None
        self._registry: Registry | None = None
        self._lately: ProcessCgroups | None = None
        self._lives: Loaded | None = None
        self._processes: ProcessTable | None = None
        self._lost = (0, 0)  # records of processes, and when that was last looked at
        self._enricher = enricher
        self._sink: Sink | None = None
        self._writer: Writer | None = None
        self._waiter: Waiter | None = None
        self._clock = time.time_ns() - monotonic_ns()
        self._limit: int | None = None
        self._held: list[tuple[_Stream, Batch, int]] = []  # rows that wait for a name, and until when
        self._last = False
        self._drained = 0  # when the last step began that left nothing in the rings (monotonic ns)
        self._followed = 1  # objects that follow what rows are joined with
        self._stopping = False
        self._pause = _PAUSE_MIN
        self._fill = 0.0  # of the fullest ring, when the last step came to it
        self._slice = ROWS  # that a step takes of the stream that has most, where others have rows, too

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def registry(self) -> Registry | None:
        """The containers that it knows; None before :meth:`start`."""
        return self._registry

    # Start

    def start(self) -> None:
        """Load and attach everything: from here on the rings keep what happens."""
        self._begin_to_learn()
        from eunomia.containers import early, tree

        hierarchy = tree.current()
        spec = Spec.open(_CGROUPS)
        self._cgroups = Loaded(spec, set_={"hierarchy": hierarchy.id, "takes_new": self.filters.by_cgroup})
        self._objects.append(self._cgroups)
        self._early = Loaded(Spec.open(_EARLY), set_={"hierarchy": hierarchy.id})
        early.start(self._early.maps["early"].fd)
        if self.options.processes:
            self._follow_processes(hierarchy)  # before trackers hang on the same hooks: it is told first
        self._followed = len(self._objects)
        share = {"eunomia_cgroups": self._cgroups.maps["eunomia_cgroups"].fd}
        for source in self.sources:
            own = shared.has_filters(source.spec.maps)
            set_ = dict(self.options.settings.get(source.name, {}))
            if own:
                set_ |= self.filters.constants()
            knows_hierarchy = "eunomia_subsystem" in source.spec.settings
            if knows_hierarchy:
                set_ |= hierarchy.constants()
            if "eunomia_hierarchy" in source.spec.settings:
                set_["eunomia_hierarchy"] = hierarchy.id
            live = source.load(
                set_=set_,
                ring_size=self.options.ring_size,
                map_sizes=self.options.map_sizes.get(source.name, {}),
                share={n: fd for n, fd in share.items() if n in source.spec.maps},
                wish=self.options.wishes.get(source.name),
                streams=self.options.streams,
                ready=functools.partial(self._before_attaching, hierarchy, own),
            )
            self._objects.append(live)
            for name, reader in live.readers.items():
                if name in live.spec.raw:
                    continue
                stream = _Stream((source.name, name), live, reader)
                if hierarchy.version == 1 and not knows_hierarchy and live.spec.streams[name].kind != "printk":
                    stream.cgroup = dict.fromkeys(stream.cgroup, "")  # ids of v2, where no container is
                if source.spec.own:  # whose ids are of processes
                    stream.who = {i: w and w._replace(threads=False) for i, w in stream.who.items()}
                for schema in stream.schemas:
                    if own:
                        stream.mask[id(schema)] = shared.late_mask(self.selection)
                    else:
                        label = f"{source.name}/{name}"
                        stream.early[id(schema)] = shared.early_mask(self.filters, schema, label)
                        stream.mask[id(schema)] = shared.choosing_mask(self.selection, schema, label)
                self.streams.append(stream)
            source.spec.close()
        lib.eu_forget_kernel_btf()
        # a cause is drained after its effect, so that no tick shows an exec and not its fork
        self._waiter = Waiter(self._objects)
        self._follow_containers()

    def _before_attaching(self, hierarchy: Hierarchy, own: bool, live: Loaded) -> None:
        if own:
            self.filters.fill(live)
        for name, stream in live.spec.streams.items():
            if stream.kind == "printk" and (not self.options.streams or name in self.options.streams):
                from eunomia.kernel import printk

                try:
                    printk.follow(live, name, hierarchy.constants())
                except Unsupported as error:
                    self.notes.append(f"{live.spec.name}: what it prints by bpf_printk() is not shown: {error}")

    def _begin_to_learn(self) -> None:
        if self._enricher is not None:
            self._enricher.start()  # and goes on while probes are loaded

    def _follow_containers(self) -> None:
        from eunomia.containers import early
        from eunomia.containers.process_cgroups import ProcessCgroups
        from eunomia.containers.registry import Registry

        assert self._waiter is not None
        self._registry = Registry(faults=self.faults)
        self._lately = ProcessCgroups(self._registry)
        for descriptor in self._registry.descriptors:
            self._waiter.add(descriptor)
        if self._enricher is not None:
            self._registry.enrich(self._enricher)
            self._waiter.add(self._enricher.descriptor)
        if self.selection is not None:
            assert self._cgroups is not None
            kernel = shared.CgroupSet(self._cgroups.maps["eunomia_cgroups"])
            self.selection.follow(kernel.add, kernel.remove)
            self._registry.subscribe(self.selection)
        for source, live in zip(self.sources, self._objects[self._followed :], strict=True):
            make = deriver_of(source.found.tracker) if source.found is not None else None
            if make is not None:
                self._registry.listen()
                streams = {s.key[1]: s for s in self.streams if s.live is live}
                self._derived.append(_Derived(source.name, make(self._registry, live), live, streams))
        early.want(self._registry.hurried())
        self._registry.start()
        news = self._registry.news() if self._derived else []
        for derived in self._derived:
            self.faults.call(derived.name, None, derived.deriver.start, news)

    def _follow_processes(self, hierarchy: Hierarchy) -> None:
        from eunomia.processes import OBJECT
        from eunomia.processes.found import batch_of
        from eunomia.processes.table import VARIANTS, ProcessTable
        from eunomia.processes.users import Users

        size = lives_ring(self.options.ring_size)
        _, self._lives = load_first(
            Spec.open(OBJECT, quick=True), VARIANTS, ("found",), set_=hierarchy.constants(), ring_size=size
        )
        self._objects.append(self._lives)
        self._lost = (0, monotonic_ns())
        self._processes = ProcessTable(Users(self.faults))
        self._processes.fill(batch_of(self._lives.readers["life"].schema, self._lives.iterate("found")))

    def infos(self) -> list[StreamInfo]:
        """Return what a sink has to know of the streams."""
        from eunomia.sinks import StreamInfo

        columns = {s.name: s for s in self.sources}
        return [
            StreamInfo(*stream.key, schema, columns[stream.key[0]].columns(stream.key[1]), columns[stream.key[0]].whole)
            for stream in self.streams
            for schema in stream.schemas[:1]
        ]

    def open(self, sink: Sink, writer: Writer, limit: int | None = None) -> None:
        """Set where rows go, and after how many of them to stop."""
        self._sink, self._writer, self._limit = sink, writer, limit
        if self.streams:
            sink.flush()  # a table's heading says that it listens

    # One step

    def step(self, tables: bool = False, last: bool = False) -> bool:
        """Drain, join, filter, pass on. Return whether there was anything.

        ``tables`` are read too where it is time; ``last`` drains until nothing is left.
        """
        self._set_clock()
        self._fill = 0.0
        taken, until = time.time_ns(), monotonic_ns()
        for live in self._objects:
            live.ignore()
        raw = [self._drain_raw(derived) for derived in self._derived]
        tick: list[tuple[_Stream, Batch]] = []
        self._set_shares()
        for stream in reversed(self.streams):
            if tables or not stream.is_table or stream.reader.waiting:
                tick += [(stream, batch) for batch in stream.reader.drain(self._clock, taken)]
                self._fill = max(self._fill, getattr(stream.reader, "fill", 0.0))
        found = bool(tick)
        busy = {stream for stream, _ in tick}
        if last and len(busy) > 1:  # to be merged by time
            tick += [(s, b) for s in busy for b in self._rest_of(s, taken, last)]
        self._feed_registry()
        found |= self._feed_processes()
        if self._derived:
            made = self._derive(raw, until, last)
            tick += made
            found = found or bool(made)
        self._last = last
        if tick or self._held:
            self._pass_on(tick)
        if len(busy) == 1:
            stream = busy.pop()
            tick.clear()
            for batch in self._rest_of(stream, taken, last):
                self._feed_registry()
                self._feed_processes()
                self._pass_on([(stream, batch)])
        if last and self._held:
            self._pass_on([])
        if not any(stream.reader.waiting for stream in self.streams if not stream.is_table):
            self._drained = until
        if self._sink is not None and self._writer is not None and self._writer.waiting:
            self._sink.flush()
        self._set_slice(monotonic_ns() - until)
        return found

    def _set_slice(self, took: int) -> None:
        if took > _LONG:
            self._slice = max(_SLICE_MIN, self._slice // 2)
        elif took < _SHORT:
            self._slice = min(ROWS, self._slice * 2)

    def _set_shares(self) -> None:
        """Let the fullest ring give no more than a slice.

        With little of a processor the rows of one drain take seconds, and a ring must not fill while those of a
        flood are written.
        """
        held = {s.reader: s.reader.held() for s in self.streams if isinstance(s.reader, RingReader)}
        full = max(held, key=held.__getitem__, default=None)
        for reader in held:
            reader.most = self._slice if reader is full else ROWS

    def _drain_raw(self, derived: _Derived) -> dict[str, list[Batch]]:
        raw: dict[str, list[Batch]] = {}
        for name, reader in derived.rings.items():
            raw[name] = reader.drain(self._clock)
            self._fill = max(self._fill, getattr(reader, "fill", 0.0))
            while reader.waiting:
                raw[name] += reader.drain(self._clock)
        return raw

    def _derive(
        self, raw: Sequence[Mapping[str, list[Batch]]], until: int, last: bool
    ) -> list[tuple[_Stream, Batch]]:
        """Have trackers make their rows, when the registry knows what it can know of their containers."""
        assert self._registry is not None
        news, made = self._registry.news(), []
        for derived, records in zip(self._derived, raw, strict=True):
            nothing: list[Batch] = []
            for batch in self.faults.call(derived.name, nothing, derived.deriver.rows, records, news, until, last):
                stream = derived.streams.get(batch.stream)
                if stream is not None:
                    stream.reader.drained += batch.count
                    batch.clock, batch.taken = self._clock, self._clock + until
                    made.append((stream, batch))
        return made

    def _rest_of(self, stream: _Stream, taken: int, last: bool) -> Iterator[Batch]:
        """Drain a stream until it is empty, or has given enough for one step."""
        drains = 1
        while stream.reader.waiting and (last or (drains < _DRAINS and not self._others_wait(stream))):
            yield from stream.reader.drain(self._clock, taken)
            drains += 1

    def _others_wait(self, stream: _Stream) -> bool:
        """Whether another stream's ring has something by now."""
        return any(s is not stream and isinstance(s.reader, RingReader) and s.reader.held() for s in self.streams)

    def _set_clock(self) -> None:
        clock = time.time_ns() - monotonic_ns()
        if abs(clock - self._clock) > _DRIFT:
            self._clock = clock

    def _feed_registry(self) -> None:
        """Let the registry hear of cgroups, after the rows were drained that may be of new ones."""
        registry, cgroups = self._registry, self._cgroups
        if registry is None or cgroups is None:
            return
        batches = [b for reader in cgroups.readers.values() for b in reader.drain(self._clock)]
        if batches:
            from eunomia.containers import early

            registry.feed(batches)
            early.want(registry.hurried())
        now = monotonic_ns()
        deadline = registry.next_deadline()
        if deadline is not None and deadline <= now:
            registry.tick(now, self._drained)
        else:
            registry.look(now)
        enricher = self._enricher
        if enricher is not None and (names := self.faults.call(registry.ENRICHER, _NO_NAMES, enricher.news)):
            registry.refresh(names)

    def _feed_processes(self) -> bool:
        """Let the table hear of processes, after the rows were drained that may be of new ones."""
        table, lives = self._processes, self._lives
        if table is None or lives is None:
            return False
        found = self._drain_processes()
        now = monotonic_ns()
        table.tick(now, self._drained)
        total = lives.count("life").lost or 0 if found or now - self._lost[1] >= _LOST_CHECK else self._lost[0]
        if total > self._lost[0]:
            self.faults.call("the table of processes", None, self._refill, table, lives, self._lost[1])
        if found or now - self._lost[1] >= _LOST_CHECK:
            self._lost = (total, now)
        return found

    def _drain_processes(self) -> bool:
        """Let the table hear of what its ring holds; return whether there was anything."""
        assert self._processes is not None
        assert self._lives is not None
        reader = self._lives.readers["life"]
        batches = reader.drain()
        self._fill = max(self._fill, getattr(reader, "fill", 0.0))
        found = bool(batches)
        while batches:
            self._processes.feed(batches)
            batches = reader.drain() if reader.waiting else []
        return found

    @staticmethod
    def _refill(table: ProcessTable, lives: Loaded, since: int) -> None:
        from eunomia.processes.found import batch_of

        table.refill(batch_of(lives.readers["life"].schema, lives.iterate("found")), since)

    def _pass_on(self, tick: list[tuple[_Stream, Batch]]) -> None:
        """The stages, in order: name, filter by what rows hold, join, hold back, filter by whose they are, limit, sink.

        What is left out is not joined: to look at a process is an event, which a tracer of files sees.
        """
        joined = self._released()
        for stream, batch in tick:
            batch.tracker, batch.stream = stream.key
            kept = self._filter(stream, batch, stream.early)
            if kept.count:
                self._join(stream, kept)
                joined.append((stream, self._hold(stream, kept)))
        passed = [(stream, self._filter(stream, batch, stream.mask)) for stream, batch in joined]
        rows = [kept for _, kept in self._cut(passed) if kept.count]
        self.counted += sum(kept.count for kept in rows)
        if rows and self._sink is not None:
            self._sink.write(rows)

    def _join(self, stream: _Stream, batch: Batch) -> None:
        assert self._registry is not None
        if isinstance(stream.reader, DerivedReader):
            return  # who they are about was known when they were made
        cgroup, who = stream.cgroup[id(batch.schema)], stream.who[id(batch.schema)]
        if cgroup:
            self._registry.join(batch, cgroup)
        elif who:
            pids = who.ids(batch)
            assert self._lately is not None
            known = self._lately.identities(set(pids))
            batch.identities = [known[p] for p in pids]
        if who and self._processes is not None:
            self._processes.join(batch, who.ids(batch), who.threads)

    def _hold(self, stream: _Stream, batch: Batch) -> Batch:
        """Keep rows whose container is about to get a name, for a moment; return the others."""
        if not stream.cgroup[id(batch.schema)] or all(owner.state != PENDING for owner in batch.owners):
            return batch
        waits = [owner.state == PENDING for owner in batch.owners]
        each = [waits[0]] * batch.count if batch.owner is None else [waits[i] for i in batch.owner]
        held = batch[each]
        if self._last:  # nothing comes after: what can be known at once is
            assert self._registry is not None
            self._registry.settle()
            self._registry.join(batch, stream.cgroup[id(batch.schema)])
            return batch
        if sum(b.count for _, b, _ in self._held) + held.count > HELD:
            return batch
        self._held.append((stream, held, monotonic_ns() + HOLD))
        return batch[[not wait for wait in each]]

    def _released(self) -> list[tuple[_Stream, Batch]]:
        """Return the rows that were held back and have a name by now, or have waited long enough."""
        if not self._held:
            return []
        assert self._registry is not None
        now, held, free = monotonic_ns(), self._held, []
        self._held = []
        if self._last:
            self._registry.settle()
        for stream, batch, until in held:
            self._registry.join(batch, stream.cgroup[id(batch.schema)])
            if not self._last and now < until and any(owner.state == PENDING for owner in batch.owners):
                self._held.append((stream, batch, until))
            else:
                free.append((stream, batch))
        return free

    def _filter(self, stream: _Stream, batch: Batch, masks: Mapping[int, Mask | None]) -> Batch:
        chosen = masks.get(id(batch.schema))
        if chosen is None:
            return batch
        wanted = chosen(batch)
        if wanted is None or all(wanted):
            return batch
        kept = batch[wanted]
        stream.filtered += batch.count - kept.count
        return kept

    def _cut(self, passed: list[tuple[_Stream, Batch]]) -> list[tuple[_Stream, Batch]]:
        """Keep the earliest rows, as many as the limit leaves."""
        if self._limit is None or self.counted + sum(batch.count for _, batch in passed) <= self._limit:
            return passed
        times = sorted((t, i, j) for i, (_, b) in enumerate(passed) for j, t in enumerate(b.values("time")))
        chosen = {(i, j) for _, i, j in times[: max(0, self._limit - self.counted)]}
        cut = []
        for i, (stream, batch) in enumerate(passed):
            kept = batch[[(i, j) in chosen for j in range(batch.count)]]
            stream.filtered += batch.count - kept.count
            cut.append((stream, kept))
        return cut

    # The loop

    def stop(self, *_: object) -> None:
        """Let :meth:`run` end; a second time, at once."""
        if self._stopping:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self._stopping = True

    def run(self, duration: float | None = None, interval: float = 1.0) -> None:
        """Step until :meth:`stop`, the limit, the end of the duration, or until nobody reads any more.

        ``duration`` and ``interval``, at which tables are read, are seconds.
        """
        assert self._waiter is not None
        start = monotonic_ns()
        end = None if duration is None else start + int(duration * 1e9)
        every = int(interval * 1e9)
        tables = any(s.is_table for s in self.streams)
        due = start + every
        collected = start
        while not self._over():
            now = monotonic_ns()
            if end is not None and now >= end:
                break
            read_tables = tables and now >= due
            if read_tables:
                due += (now - due) // every * every + every
            found = self.step(read_tables)
            self._rest(found, [t for t in (end, due if tables else None) if t is not None])
            if now - collected > _COLLECT and not gc.isenabled():
                gc.collect()
                collected = now
        self.finish(tables)

    def _over(self) -> bool:
        if self._stopping or (self._writer is not None and self._writer.closed):
            return True
        return self._limit is not None and self.counted >= self._limit

    def _rest(self, found: bool, deadlines: list[int]) -> None:
        """Sleep: briefly, for a batch to gather, while rows come; else until a probe wakes us."""
        assert self._waiter is not None
        if self._over():
            return
        readers = [s.reader for s in self.streams]
        if self._fill > _FULL:
            self._pause = max(_PAUSE_MIN, self._pause // 2)
        if any(r.waiting for r in readers):
            return
        now = monotonic_ns()
        due = [self._registry.next_deadline()] if self._registry is not None else []
        due += [until for _, _, until in self._held[:1]]
        due += [self.faults.call(d.name, None, d.deriver.next_deadline) for d in self._derived]
        deadlines += [t for t in due if t is not None]
        left = min([(t - now) // 10**6 + 1 for t in deadlines] + [_IDLE])
        if self._writer is not None and self._writer.waiting:
            left = min(left, _UNWRITTEN)
        if found:
            self._waiter.sleep(int(max(0, min(left, self._pause))))
            if self._fill < _FULL / 2:
                self._pause = min(_PAUSE_MAX, self._pause + 1)
            return
        self._pause = _PAUSE_MIN
        if any(isinstance(r, RingReader | PerfReader) and s.live.armed is None
               for s, r in zip(self.streams, readers, strict=True)):  # fmt: skip
            left = min(left, _FOREIGN_IDLE)
        self._waiter.wait(int(max(0, left)))

    def finish(self, tables: bool = False) -> None:
        """Detach, drain what is left, and close the sink; after it the ledger is at rest."""
        for live in self._objects[self._followed :]:
            live.detach()
        self.step(tables, last=True)
        if self._sink is not None:
            self._sink.close()

    def ledger(self) -> list[Entry]:
        """Return each stream's account."""
        entries = []
        writer = self._writer
        for stream in self.streams:
            count = stream.live.count(stream.key[1])
            delivered = writer.delivered.get(stream.key, 0) if writer else 0
            dropped = writer.dropped.get(stream.key, {}) if writer else {}
            entries.append(
                Entry("/".join(stream.key), count.emitted, count.lost, stream.filtered, delivered, dropped)
            )
        return entries

    def remarks(self) -> list[Remark]:
        """Return what else is to be said of the run at its end."""
        table, lost = self._processes, self._lost[0]
        said = []
        if table is not None and lost:
            counts = {"lost": lost, "gaps": table.refills, "unsure": table.unsure, "blank": table.blank}
            text = (
                f"lost {lost} records in {table.refills} gaps; rows of these times: {table.unsure} say "
                f"process.state unsure, {table.blank} have no process and say lost"
            )
            said.append(Remark("processes", text, counts))
        if table is not None and (table.refused or table.cut):
            counts = {"refused": table.refused, "cut": table.cut}
            text = f"no room for {table.refused} that ran and {table.cut} that were over: their rows say unknown"
            said.append(Remark("processes", text, counts))
        return said + [
            Remark(f"{reader} failed", f"{count} times by {kind}", {"failures": count})
            for (reader, kind), count in sorted(self.faults.counts.items())
        ]

    def close(self) -> None:
        """Detach and free everything."""
        if self._enricher is not None:
            self._enricher.close()
            self._enricher = None
        if self._waiter is not None:
            self._waiter.close()
            self._waiter = None
        if self._registry is not None:
            self._registry.close()
        if self._early is not None:
            from eunomia.containers import early

            early.stop()
            self._early.close()
            self._early = None
        objects, self._objects = self._objects, []
        for live in objects:
            live.close()
        for source in self.sources:
            source.spec.close()


