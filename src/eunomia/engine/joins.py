# SPDX-License-Identifier: BSD-2-Clause
"""Joins rows with containers and processes, which it keeps up to date with probes of its own."""

from __future__ import annotations

import os
from collections.abc import Set

from eunomia.kernel.libbpf import ffi, lib
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.ring import RingReader
from eunomia.kernel.spec import Spec
from eunomia.kernel_clock import monotonic_ns
from eunomia.ledger import Remark
from eunomia.typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.cgroup_hierarchy import Hierarchy
    from eunomia.containers.process_cgroups import ProcessCgroups
    from eunomia.containers.registry import Enricher, Registry
    from eunomia.engine.pace import Pace
    from eunomia.engine.stream import Stream
    from eunomia.faults import Faults
    from eunomia.processes.process_table import ProcessTable

_CONTAINERS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "containers")
_CGROUPS = os.path.join(_CONTAINERS, "cgroups.bpf.o")
_EARLY = os.path.join(_CONTAINERS, "early.bpf.o")

_NO_NAMES: Set[str] = frozenset()
_LIVES_RING = 8 << 20  # least bytes of the ring of processes
_LOOK_EVERY = 2 * 10**7  # ns between two looks at files and answers, while rows come
_LOST_CHECK = 2 * 10**8  # ns between two looks at what the table of processes has lost


def lives_ring(rows: int | None) -> int:
    """Return the size of the ring of processes in bytes, given that of rings of rows, if users set it."""
    return max(_LIVES_RING, min(2 * (rows or 0), 1 << 30))


class _News(Protocol):
    """The interface of an enricher with its own threads."""

    @property
    def descriptor(self) -> int:
        """Readable when there is news."""

    def start(self) -> None:
        """Start its threads; return immediately."""

    def news(self) -> Set[str]:
        """Return names for :meth:`Registry.refresh`, once."""

    def close(self) -> None:
        """End it."""


if TYPE_CHECKING:

    class Follows(_News, Enricher, Protocol):
        """An enricher that is started and closed with the engine."""


class Joins:
    """The registry of containers and the table of processes, with the probes that update them.

    ``objects`` are these probes; ``descriptors`` are readable when there is other news.
    """

    def __init__(self, faults: Faults, enricher: Follows | None) -> None:
        self.registry: Registry | None = None
        self.processes: ProcessTable | None = None
        self.objects: list[Loaded] = []
        self.descriptors: list[int] = []
        self.cgroups: Loaded | None = None
        self._looked = 0  # when files and answers were looked at last (monotonic ns)
        self._cgroup_rings: tuple[Any, int] = (ffi.NULL, 0)
        self._faults = faults
        self._enricher = enricher
        self._early: Loaded | None = None
        self._process_cgroups: ProcessCgroups | None = None
        self._lives: Loaded | None = None
        self._lost = (0, 0)  # records of processes, and when that was last looked at

    def start(self, hierarchy: Hierarchy, settings: dict[str, object]) -> None:
        """Follow cgroups from now on; ``settings`` are those of the shared filters."""
        if self._enricher is not None:
            self._enricher.start()  # it works while probes are loaded
        from eunomia.containers import early

        self.cgroups = Loaded.attached(Spec.open(_CGROUPS), set_={"hierarchy": hierarchy.id, **settings})
        self.objects.append(self.cgroups)
        rings = [reader.ring for reader in self.cgroups.readers.values() if isinstance(reader, RingReader)]
        self._cgroup_rings = ffi.new("struct eu_ring *[]", rings), len(rings)
        self._early = Loaded.attached(Spec.open(_EARLY), set_={"hierarchy": hierarchy.id})
        early.start(self._early.maps["early"].fd)

    def follow_processes(self, hierarchy: Hierarchy, ring_size: int | None) -> None:
        """Keep the table of processes from now on, if it is not kept already.

        Trackers that run already see an exec before the table does.
        """
        if self.processes is not None:
            return
        from eunomia.processes import OBJECT
        from eunomia.processes.process_table import ProcessTable
        from eunomia.processes.running_processes import batch_of
        from eunomia.processes.users import Users

        size = lives_ring(ring_size)
        lives = Loaded.attached(Spec.open(OBJECT, quick=True), set_=hierarchy.constants(), ring_size=size)
        self._lives = lives
        self.objects.append(lives)
        self._lost = (0, monotonic_ns())
        self.processes = ProcessTable(Users(self._faults))
        self.processes.fill(batch_of(lives.readers["life"].schema, lives.iterate("found")))

    def prepare(self) -> Registry:
        """Make the registry, which is empty before :meth:`follow_containers`."""
        from eunomia.containers.process_cgroups import ProcessCgroups
        from eunomia.containers.registry import Registry

        self.registry = Registry(faults=self._faults)
        self._process_cgroups = ProcessCgroups(self.registry)
        self.descriptors += self.registry.descriptors
        if self._enricher is not None:
            self.registry.enrich(self._enricher)
            self.descriptors.append(self._enricher.descriptor)
        return self.registry

    def follow_containers(self) -> None:
        """Find the containers that run already."""
        from eunomia.containers import early

        assert self.registry is not None
        early.want(self.registry.prefetched())
        self.registry.start()

    # While it runs

    def feed(self, clock: int, drained: int, pace: Pace, *, busy: bool = False) -> bool:
        """Hear of cgroups and processes, after the rows were drained that may be of new ones; look at what changed.

        ``drained`` is when the last step began that left nothing in the rings (monotonic ns). While it is
        ``busy`` with rows it does not look each time. Return whether there was anything of processes.
        """
        if self.registry is not None:
            self._feed_registry(self.registry, clock)
            now = monotonic_ns()
            if not busy or now - self._looked >= _LOOK_EVERY:
                self._looked = now
                self._look(self.registry, now, drained)
        return self._feed_processes(drained, pace) if self._lives is not None else False

    def feed_again(self, clock: int, drained: int, pace: Pace) -> None:
        """Hear of cgroups and processes once more in the same step, after more rows were drained."""
        if self.registry is not None:
            self._feed_registry(self.registry, clock)
        if self._lives is not None:
            self._feed_processes(drained, pace)

    def _feed_registry(self, registry: Registry, clock: int) -> None:
        if self.cgroups is None or not lib.eu_any_waiting(*self._cgroup_rings):
            return
        batches = [b for reader in self.cgroups.readers.values() for b in reader.drain(clock)]
        if batches:
            from eunomia.containers import early

            registry.feed(batches)
            early.want(registry.prefetched())

    def _look(self, registry: Registry, now: int, drained: int) -> None:
        deadline = registry.next_deadline()
        if deadline is not None and deadline <= now:
            registry.tick(now, drained)
        else:
            registry.look(now)
        enricher = self._enricher
        if enricher is not None and (names := self._faults.call(registry.ENRICHER, _NO_NAMES, enricher.news)):
            registry.refresh(names)

    def _feed_processes(self, drained: int, pace: Pace) -> bool:
        table, lives = self.processes, self._lives
        assert table is not None
        assert lives is not None
        found = self._drain_processes(table, lives, pace)
        now = monotonic_ns()
        table.tick(now, drained)
        look = found or now - self._lost[1] >= _LOST_CHECK
        total = lives.count("life").lost or 0 if look else self._lost[0]
        if total > self._lost[0]:
            self._faults.call("the table of processes", None, self._refill, table, lives, self._lost[1])
        if look:
            self._lost = (total, now)
        return found

    @staticmethod
    def _drain_processes(table: ProcessTable, lives: Loaded, pace: Pace) -> bool:
        reader = lives.readers["life"]
        batches = reader.drain()
        pace.saw(reader)
        found = bool(batches)
        while batches:
            table.feed(batches)
            batches = reader.drain() if reader.waiting else []
        return found

    @staticmethod
    def _refill(table: ProcessTable, lives: Loaded, since: int) -> None:
        from eunomia.processes.running_processes import batch_of

        table.refill(batch_of(lives.readers["life"].schema, lives.iterate("found")), since)

    def join(self, stream: Stream, batch: Batch) -> None:
        """Set the identities and processes of a batch's rows; rows made in user space already have them."""
        if stream.is_made:
            return
        registry = self.registry
        assert registry is not None
        cgroup, process = stream.cgroup[id(batch.schema)], stream.process[id(batch.schema)]
        if cgroup:
            registry.join(batch, cgroup)
        elif process:
            pids = process.ids(batch)
            assert self._process_cgroups is not None
            known = self._process_cgroups.identities(set(pids))
            batch.identities = [known[p] for p in pids]
        if process and self.processes is not None:
            self.processes.join(batch, process.ids(batch), process.threads)

    def next_deadline(self) -> int | None:
        """Return when there is something to do without new records (monotonic ns), None if never."""
        return self.registry.next_deadline() if self.registry is not None else None

    def remarks(self) -> list[Remark]:
        """Return remarks on the table of processes, for the end of a run."""
        table, lost = self.processes, self._lost[0]
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
        return said

    def close(self) -> None:
        """Detach and free everything."""
        if self._enricher is not None:
            self._enricher.close()
            self._enricher = None
        if self.registry is not None:
            self.registry.close()
        if self._early is not None:
            from eunomia.containers import early

            early.stop()
            self._early.close()
            self._early = None
        objects, self.objects = self.objects, []
        for live in objects:
            live.close()
