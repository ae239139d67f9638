# SPDX-License-Identifier: BSD-2-Clause
"""Registry of containers: from a cgroup id to an identity, kept up to date by records of the kernel.

Drain the trackers' streams before the cgroup streams: then the cgroups of all rows are known when they are joined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial

from eunomia.batch import Batch
from eunomia.cgroup_hierarchy import Hierarchy
from eunomia.containers import cgroup_files, freezer
from eunomia.containers import runtimes as known_runtimes
from eunomia.containers.cgroup_tree import GRACE
from eunomia.containers.entry import ContainerEntry
from eunomia.containers.identities import Enricher, Identities
from eunomia.containers.lifecycle import EXISTING, LifecycleEvent, Listener, Subscriber
from eunomia.containers.membership import MAKERS
from eunomia.containers.paths import is_below
from eunomia.containers.resolver import DEADLINE, START_WAIT, WAIT
from eunomia.containers.runtime import Runtime
from eunomia.containers.runtime_reader import RuntimeReader
from eunomia.faults import Faults
from eunomia.identity import UNKNOWN_IDENTITY, Identity
from eunomia.kernel_clock import monotonic_ns

__all__ = ["DEADLINE", "GRACE", "Enricher", "Registry"]

ROOM = 8192  # cgroups remembered before it is checked which of them still exist


class Registry(Identities):
    """The identity of each cgroup. A join looks ids up and does nothing else.

    Unknown ids are looked for by the next :meth:`feed`, :meth:`look` or :meth:`tick`.
    """

    def __init__(
        self,
        runtimes: Sequence[Runtime] | None = None,
        *,
        mount: str | None = None,
        hierarchy: Hierarchy | None = None,
        clock: Callable[[], int] = monotonic_ns,
        faults: Faults | None = None,
    ) -> None:
        """Start empty; ids are ``hierarchy``'s, :func:`cgroup_files.current` unless given, or v2's at ``mount``.

        ``clock`` gives monotonic nanoseconds. ``faults`` counts errors of runtimes and of the enricher.
        """
        if hierarchy is None:
            hierarchy = cgroup_files.current() if mount is None else Hierarchy(mount)
        every = known_runtimes.every() if runtimes is None else runtimes
        super().__init__(every, hierarchy, clock, Faults() if faults is None else faults)
        self._started = False
        self._news: Listener | None = None
        self._prefetched: dict[RuntimeReader, Sequence[str]] = {}
        self._room = ROOM

    # Joins

    def __missing__(self, cgroup_id: int) -> Identity:
        self._unknown(cgroup_id, self._clock())
        return UNKNOWN_IDENTITY

    def join(self, batch: Batch, cgroup: str) -> None:
        """Set the identities of a batch's rows by its field ``cgroup``, with one lookup for each distinct cgroup.

        Rows of an unknown id are pending until it was looked for.
        """
        ids, batch.owner = batch.group(cgroup)
        get = self.get
        batch.owners = [get(cgroup_id) or self._unknown(cgroup_id, self._clock()) for cgroup_id in ids]

    def by_pid(self, pid: int) -> Identity:
        """Return a process's identity; :data:`UNKNOWN_IDENTITY` if it has ended."""
        cgroup_id = self.cgroup_of(pid)
        return UNKNOWN_IDENTITY if cgroup_id is None else self[cgroup_id]

    def cgroup_of(self, pid: int) -> int | None:
        """Return the id of the cgroup that a process or a thread is in now; None if it has ended."""
        found = self._tree.of_process(pid)
        if found is None:
            return None
        if found[0] not in self._tree:
            self._add(*found, self._clock())
        return found[0]

    # Updates

    @property
    def descriptors(self) -> Sequence[int]:
        """Descriptors that are readable when :meth:`look` has something to do."""
        return (self.watcher.fd, self._resolver.fd)

    def start(self) -> None:
        """Learn of all that runs already; call it when the cgroup streams are attached."""
        self._resolver.starting = True
        self._walk(self._clock())
        self._find_records()
        self._started = True

    def _find_records(self) -> None:
        """Learn what containers runtimes keep records of, and say that they were there before."""
        self._resolver.starting = True
        if self._lifecycle.has_listeners:
            self._records.find_places()
        self._resolver.settle(START_WAIT)
        self._resolver.starting = False

    def feed(self, batches: Iterable[Batch]) -> None:
        """Process drained batches of the streams ``made`` and ``removed``."""
        now = self._clock()
        for batch in sorted(batches, key=lambda b: b.stream):  # "made" before "removed"
            removed = batch.stream == "removed"
            ids, roots, times = batch.raw("cgroup_id"), batch.raw("hierarchy"), batch.raw("time")
            rows = zip(ids, roots, batch.values("path"), times, batch.values("maker"), strict=True)
            for cgroup_id, root, path, then, maker in rows:
                if root != self._tree.hierarchy.id:  # ids of other hierarchies collide with those of ours
                    continue
                # also a removed one that is not known: its rows may still come
                if cgroup_id not in self._tree and (whole := self._tree.full_path(cgroup_id, path)):
                    self._add(cgroup_id, whole, now, then, not removed and maker.startswith(MAKERS))
                if removed:
                    self._remove(cgroup_id, now, then)
        self._resolver.settle()

    def look(self, now: int) -> None:
        """Apply runtimes' answers, read changed files (``docker rename``), and look for unknown ids."""
        self._resolver.collect()
        for owner in self.watcher.take(now):
            if isinstance(owner, ContainerEntry):
                self._check(owner, now)
            elif isinstance(owner, str):
                self._records.scan(owner)
        due = self._unknown.due
        if due is not None and due <= now:
            self._find_unknown(now)
        self._resolver.settle()

    def tick(self, now: int, drained: int | None = None) -> None:
        """Ask again for pending containers, forget cgroups removed long ago, and do what :meth:`look` does.

        ``drained`` is when the last drain began that emptied all rings; see :meth:`CgroupTree.forget`.
        """
        self.look(now)
        self._resolver.tick(now)
        self._forget(now, drained)
        if len(self._tree) > self._room:
            self._walk(now)
            self._room = max(ROOM, 2 * (len(self._tree) - self._tree.leaving))
        self._resolver.settle()

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` is due (monotonic ns); ``None`` for never."""
        parts = (self._resolver, self._tree, self.watcher)
        due = [self._unknown.due, *(part.next_deadline() for part in parts)]
        return min((t for t in due if t is not None), default=None)

    def settle(self, patience: int = WAIT) -> None:
        """Look for unknown ids, and wait up to ``patience`` nanoseconds for slow runtimes."""
        if self._unknown.due is not None:
            self._find_unknown(self._clock())
        self._resolver.collect()
        self._resolver.settle(patience)

    def _find_unknown(self, now: int) -> None:
        if self._unknown.drop(self):
            self._walk(now)

    def recheck(self) -> None:
        """Check all containers for changed files, reported or not: one stat(2) a container."""
        now = self._clock()
        for entry in self._membership.all():
            self._check(entry, now)
        self._resolver.settle()

    def prefetched(self) -> list[str]:
        """Return files to read when a cgroup is made, as :class:`Prefetching` runtimes name them."""
        for reader in self.runtimes:
            if reader.is_prefetching:
                take = partial(self._prefetched.__setitem__, reader)
                self._resolver.run(reader, "prefetched", reader.prefetched, take, again=True)
        return [place for places in self._prefetched.values() for place in places or ()]

    def close(self) -> None:
        """Stop watching files and asking runtimes."""
        self._resolver.close()
        self.watcher.close()

    # Listeners and subscribers

    def listen(self) -> None:
        """Keep events for :meth:`news`, also of containers without a cgroup."""
        self._news = self._news or self.listener()

    def news(self) -> list[LifecycleEvent]:
        """Return the lifecycle events since the last call, in the order in which they were noticed."""
        return [] if self._news is None else self._news.take()

    def listener(self) -> Listener:
        """Return a queue of all lifecycle events from now on; close it to end that.

        After :meth:`start` it begins with the containers that exist.
        """
        self._resolver.records = True
        listener = self._lifecycle.listener()
        if self._started:
            now = self._clock()
            kept = [entry for entry in self._records.every() if not entry.cgroups]
            for entry in [*self.entries(), *kept]:
                listener.add(LifecycleEvent(EXISTING, entry, now, self._tree.at(entry.candidate.path) or 0))
            self._find_records()
        return listener

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber(cgroup id, identity, path)`` for each cgroup: now, and when it appears or changes.

        The identity is ``None`` when the cgroup was removed. Call the result to end the subscription.
        """
        end = self._lifecycle.subscribe(subscriber)
        for cgroup_id, cgroup in list(self._tree.existing()):
            subscriber(cgroup_id, self[cgroup_id], cgroup.path)
        return end

    def enrich(self, enricher: Enricher) -> None:
        """Use ``enricher`` whenever an identity is made; call this before :meth:`start`."""
        self._enricher = enricher

    def refresh(self, names: Set[str]) -> None:
        """Enrich containers again that have one of these ids, or whose pods have one of these uids."""
        for entry in self._membership.all():
            pod = entry.identity.pod if entry.identity is not None else None
            if entry.candidate.id in names or entry.uid in names or (pod is not None and pod.uid in names):
                self._identify(entry, self._clock())

    # Containers

    @property
    def mount(self) -> str | None:
        """Where the cgroup hierarchy is mounted."""
        return self._tree.mount

    def entries(self) -> list[ContainerEntry]:
        """Return the containers that have a cgroup of their own now."""
        every = (entry for entry in self._membership.all() if entry.identity is not None)
        return [entry for entry in every if self._tree.at(entry.candidate.path) in entry.cgroups]

    def container_of(self, cgroup_id: int) -> ContainerEntry | None:
        """Return the innermost container that a cgroup is in; None if there is none."""
        cgroup = self._tree.get(cgroup_id)
        if cgroup is None or not cgroup.content:
            return None
        return next((e for e in reversed(cgroup.content) if e.identity is not None), cgroup.content[-1])

    def recheck_entry(self, entry: ContainerEntry) -> None:
        """Check now whether a container's metadata has changed and whether its record still exists."""
        self._check(entry, self._clock())
        self._resolver.settle()

    def first_process(self, entry: ContainerEntry) -> int:
        """Return a running container's first process, as the host sees it; 0 if there is none."""
        path, pid = entry.candidate.path, entry.container.pid
        if pid and entry.identity is not None:
            where = cgroup_files.path_of(pid)
            if where is not None and (where == path or is_below(where, path)):
                return pid
        return cgroup_files.first_process(self.mount, path) if self.mount is not None and path else 0

    def is_populated(self, entry: ContainerEntry) -> bool:
        """Whether there are processes in a container; its cgroup may be left over from an earlier one."""
        path = entry.candidate.path
        return self.mount is not None and bool(path) and cgroup_files.is_populated(self.mount + path)

    def is_frozen(self, entry: ContainerEntry, pid: int) -> bool | None:
        """Whether a container with the first process ``pid`` is paused; None if that cannot be read."""
        return freezer.is_frozen(self.mount, entry.candidate.path, pid)

    @property
    def reports_freezing(self) -> bool:
        """Whether the kernel has a tracepoint for paused containers; v1's freezer has none."""
        return freezer.of_version_1() is None
