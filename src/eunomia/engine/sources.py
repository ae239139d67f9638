# SPDX-License-Identifier: BSD-2-Clause
"""Running sources: loaded and attached, with their streams; a closed one leaves nothing in the kernel."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterable, Mapping, Sequence

from eunomia.engine.kernel_filter import write
from eunomia.engine.stream import Stream
from eunomia.filters import has_filters
from eunomia.kernel.coalesced import CoalescedReader
from eunomia.kernel.errors import Unsupported
from eunomia.python_stream import PythonStreamReader
from eunomia.sinks import StreamInfo
from eunomia.source import Options, Source
from eunomia.tracker import deriver_of
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.cgroup_hierarchy import Hierarchy
    from eunomia.containers.lifecycle import Listener
    from eunomia.containers.registry import Registry
    from eunomia.engine.kernel_filter import KernelFilter
    from eunomia.kernel.loaded import Loaded
    from eunomia.stream_schema import Schema
    from eunomia.tracker import Deriver


class RunningSource:
    """A source that an engine runs.

    ``live`` is its loaded object, ``notes`` are for users on how it was loaded, ``deriver`` makes rows from the
    records of ``rings``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.live: Loaded | None = None
        self.notes: list[str] = []
        self.deriver: Deriver | None = None
        self.events: Listener | None = None  # of containers, for the deriver
        self.rings: dict[str, Any] = {}
        self.streams: list[Stream] = []
        self.wake: Callable[[], None] | None = None  # set while an engine runs it

    @property
    def passes_all(self) -> bool:
        """Whether its rows were not filtered in the kernel."""
        return True

    @property
    def is_filtered(self) -> bool:
        """Whether all rows that reach outputs passed the present filter, and none a wider one before."""
        return True

    def detach(self) -> None:
        """Take no more."""

    def close(self) -> None:
        """Free what it holds."""


class PythonSource(RunningSource):
    """A source without probes: its rows are made in user space, such as alerts."""

    def __init__(self, name: str, schemas: Mapping[str, Schema], columns: Mapping[str, Sequence[str]] = {}) -> None:
        """Take the schemas of its streams by name, and the columns that tables show by default."""
        super().__init__(name)
        self.streams = [
            Stream(StreamInfo(name, stream, schema, tuple(columns.get(stream, ()))), None, PythonStreamReader(schema))
            for stream, schema in schemas.items()
        ]

    def emit(self, stream: str, batch: Batch) -> bool:
        """Pass rows with their identities to the engine's next step; any thread may call it.

        Return whether there was room; otherwise the rows are counted as lost. Raises :class:`KeyError` for an
        unknown stream, :class:`ValueError` for rows of another schema.
        """
        reader = {s.key[1]: s.reader for s in self.streams}[stream]
        batch.tracker, batch.stream = self.name, stream
        had_room: bool = reader.emit(batch)
        if self.wake is not None:
            self.wake()
        return had_room


class ProbeSource(RunningSource):
    """A source with probes: a tracker, or a foreign object."""

    def __init__(
        self,
        source: Source,
        options: Options,
        hierarchy: Hierarchy,
        kernel_filter: KernelFilter,
        *,
        share: Mapping[str, int],
        before: ProbeSource | None = None,
        fresh_maps: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Load and attach it. ``share`` are descriptors of maps that all objects share.

        ``meanwhile`` is called while the kernel verifies its programs.

        ``before`` is the source that it replaces: it takes over its maps, or gets empty ones for those that differ
        with ``fresh_maps``; its programs wait for a :class:`~eunomia.kernel.handover.Handover`.

        Raises what :meth:`Source.load` raises, and then nothing is left of it.
        """
        super().__init__(source.name)
        self.source = source
        self.options = options
        self.in_use = allocate_lock()  # held while another object is made of its maps, or it is closed
        self.is_closed = False
        self._hierarchy = hierarchy
        self._filter = kernel_filter
        self._filters = has_filters(source.spec.maps)  # in the kernel
        self._loaded = kernel_filter.changes  # they may change while it is loaded
        self.live = source.load(
            set_=self._constants(),
            ring_size=options.ring_size,
            map_sizes=options.map_sizes,
            share={n: fd for n, fd in share.items() if n in source.spec.maps},
            wish=options.wish,
            streams=options.streams,
            coalesce=options.coalesce,
            ready=self._before_attaching,
            before=None if before is None else before.live,
            fresh_maps=fresh_maps,
            swappable=True,
            meanwhile=meanwhile,
        )
        self._since: int = self._loaded if before is None else before._since
        self.streams = list(self._streams(self.live))
        self.rings = {name: self.live.readers[name] for name in self.live.spec.raw}
        source.spec.close()

    def follow_filter(self) -> None:
        """Have its probes follow the filters from now on; they have those of the time when it was loaded."""
        assert self.live is not None
        if not self._filters:
            return
        self._filter.take(self.live)
        if self._loaded != self._filter.changes:
            self._filter.fill(self.live)
            write(self.live, self._filter.word)

    @property
    def passes_all(self) -> bool:
        """Whether its probes have no filters of ours."""
        return not self._filters

    @property
    def is_filtered(self) -> bool:
        """Whether all rows that reach outputs passed the present filter, and none a wider one before."""
        return not self._filters or self._since == self._filter.changes

    def _constants(self) -> dict[str, object]:
        settings = self.source.spec.settings
        set_ = dict(self.options.settings)
        if self._filters:
            set_ |= self._filter.constants()
        if "eunomia_subsystem" in settings:
            set_ |= self._hierarchy.constants()
        if "eunomia_hierarchy" in settings:
            set_["eunomia_hierarchy"] = self._hierarchy.id
        return set_

    def _before_attaching(self, live: Loaded) -> None:
        if self._filters:
            self._filter.fill(live)
        for name, stream in live.spec.streams.items():
            if stream.kind == "printk" and (not self.options.streams or name in self.options.streams):
                from eunomia.kernel.foreign import printk

                try:
                    printk.follow(live, name, self._hierarchy.constants())
                except Unsupported as error:
                    self.notes.append(f"{live.spec.name}: what it prints by bpf_printk() is not shown: {error}")

    def _streams(self, live: Loaded) -> Iterable[Stream]:
        knows_hierarchy = "eunomia_subsystem" in self.source.spec.settings
        for name, reader in live.readers.items():
            if name in live.spec.raw:
                continue
            columns = self.source.columns(name)
            if columns and isinstance(reader, CoalescedReader):
                columns = (*columns[:-1], "count", columns[-1])
            info = StreamInfo(self.name, name, reader.schema, columns, self.source.whole)
            stream = Stream(info, live, reader)
            if self._hierarchy.version == 1 and not knows_hierarchy and live.spec.streams[name].kind != "printk":
                stream.cgroup = dict.fromkeys(stream.cgroup, "")  # ids of v2, where there are no containers
            if self.source.spec.own:  # its ids are those of processes
                stream.process = {i: p and p._replace(threads=False) for i, p in stream.process.items()}
            yield stream

    @property
    def derives(self) -> bool:
        """Whether its tracker makes rows in user space from its probes' records."""
        return self.source.found is not None and bool(self.source.found.tracker.derive)

    def derive(self, registry: Registry) -> None:
        """Make its deriver, if its tracker has one."""
        make = deriver_of(self.source.found.tracker) if self.source.found is not None else None
        if make is not None:
            self.events = registry.listener()
            self.deriver = make(registry, self.live)

    def inherit(self, before: ProbeSource, maps: frozenset[str]) -> list[Stream]:
        """Go on with the accounts of another generation, which runs no more; ``maps`` are those that both have.

        Return the streams that have no heir.
        """
        streams = {stream.key: stream for stream in self.streams}
        for stream in before.streams:
            if stream.key in streams:
                streams[stream.key].inherit(stream, maps)
        return [stream for stream in before.streams if stream.key not in streams]

    def detach(self) -> None:
        """Detach its programs; records that they have written can still be drained."""
        assert self.live is not None
        self._filter.drop(self.live)
        self.live.detach()

    def stop_deriving(self) -> None:
        """Let go of what makes its rows, which is made again when it runs again."""
        if self.events is not None:
            self.events.close()
        self.events = self.deriver = None

    def close(self) -> None:
        """Detach and free everything."""
        assert self.live is not None
        self.stop_deriving()
        self._filter.drop(self.live)
        with self.in_use:
            self.is_closed = True
            self.live.close()
        self.source.spec.close()
