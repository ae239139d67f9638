# SPDX-License-Identifier: BSD-2-Clause
"""Identities of cgroups, kept up to date: cgroups come and go, runtimes answer, subscribers are notified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from eunomia.cgroup_hierarchy import Hierarchy
from eunomia.containers.cgroup_tree import CgroupTree
from eunomia.containers.entry import ContainerEntry
from eunomia.containers.file_watcher import FileWatcher
from eunomia.containers.lifecycle import CHANGED, EXISTING, MADE, REMOVED, Lifecycle
from eunomia.containers.membership import Membership
from eunomia.containers.records import Records
from eunomia.containers.resolver import DEADLINE, Resolver
from eunomia.containers.runtime import Runtime
from eunomia.containers.runtime_reader import Check, RuntimeReader
from eunomia.containers.unknown_cgroups import UnknownCgroups
from eunomia.faults import Faults
from eunomia.identity import ON_HOST, PENDING, RESOLVED, Container, Identity, Pod
from eunomia.typing import Protocol


class Enricher(Protocol):
    """Knows more about containers and pods than runtimes do, as the Kubernetes API. It answers from memory."""

    def enrich(self, container: Container, pod: Pod | None, uid: str) -> tuple[Container, Pod | None]:
        """Return a container and its pod with all that is known of them now.

        ``pod`` is the runtime's answer; ``uid`` is the pod's uid in the cgroup's path, empty outside of pods.
        A container whose name is not known yet may get it here.
        """


class Identities(dict[int, Identity]):
    """Identities by cgroup id, and the parts that keep them up to date. Nothing here blocks."""

    ENRICHER = "following Kubernetes"  # what the enricher does, for messages about its errors

    def __init__(
        self, runtimes: Sequence[Runtime], hierarchy: Hierarchy, clock: Callable[[], int], faults: Faults
    ) -> None:
        super().__init__()
        self.faults = faults
        self.runtimes = [RuntimeReader(runtime, faults) for runtime in runtimes]
        self.watcher = FileWatcher(clock)
        self._clock = clock
        self._enricher: Enricher | None = None
        self._tree = CgroupTree[tuple[ContainerEntry, ...]](hierarchy)
        self._unknown = UnknownCgroups()
        self._lifecycle = Lifecycle()
        self._resolver = Resolver(self.runtimes, faults, clock, self._resolved, self._keep)
        self._membership = Membership(self.runtimes, self._retract)
        self._records = Records(
            self.runtimes, self._resolver, self.watcher, self._lifecycle, clock,
            entries=self._membership.all, on_answer=self._resolved, check=self._check, drop=self._drop,
        )  # fmt: skip

    # Cgroups come and go

    def _walk(self, now: int) -> None:
        walk = self._tree.walk()
        for cgroup_id, path in walk.new:
            self._add(cgroup_id, path, now)
        for cgroup_id in walk.gone:
            self._remove(cgroup_id, now)
        self._unknown.walked(now, self._clock(), self)

    def _add(self, cgroup_id: int, path: str, now: int, then: int | None = None, by_runtime: bool = False) -> None:
        if cgroup_id in self._tree:
            return
        around = self._membership.of(path, now, by_runtime, self._records.get)
        for entry, is_new in around:
            entry.cgroups.add(cgroup_id)
            # a new cgroup of its own is a restart, and its name may have changed
            if is_new or (entry.candidate.path == path and not entry.waits):
                entry.since = now
                self._resolver.ask(entry, now)
        self._tree.add(cgroup_id, path, tuple(entry for entry, _ in around))
        self._update(cgroup_id)
        if self._lifecycle.has_listeners and around and around[-1][0].candidate.path == path:
            starting = self._resolver.starting
            self._lifecycle.emit(EXISTING if starting else MADE, around[-1][0], then or now, cgroup_id)
            if not starting:
                self._records.find_places()

    def _remove(self, cgroup_id: int, now: int, then: int | None = None) -> None:
        cgroup = self._tree.remove(cgroup_id, now)
        if cgroup is None:
            return
        self._lifecycle.notify(cgroup_id, None, cgroup.path)
        if cgroup.content and cgroup.content[-1].candidate.path == cgroup.path:
            self._lifecycle.emit(REMOVED, cgroup.content[-1], then or now, cgroup_id)

    def _forget(self, now: int, drained: int | None) -> None:
        for cgroup_id, cgroup in self._tree.forget(now, drained):
            del self[cgroup_id]
            for entry in cgroup.content:
                entry.cgroups.discard(cgroup_id)
                if not entry.is_in_use:
                    self._drop(entry)

    # Which container it is

    def _resolved(self, entry: ContainerEntry, now: int) -> None:
        """Use the runtimes' answer about a container."""
        self._identify(entry, now)
        self._watch(entry)
        if self._lifecycle.has_listeners:
            self._records.look_for(entry)

    def _keep(self, entry: ContainerEntry, starting: bool) -> None:
        self._records.keep(entry, starting)

    def _identify(self, entry: ContainerEntry, now: int) -> None:
        """Make an entry's identity from what is known, and notify if it has changed."""
        candidate, metadata, before = entry.candidate, entry.metadata, entry.identity
        container = Container(candidate.id, runtime=candidate.runtime) if metadata is None else metadata.container
        pod = None if metadata is None else metadata.pod
        if self._enricher is not None:
            known = container, pod
            container, pod = self.faults.call(self.ENRICHER, known, self._enricher.enrich, container, pod, entry.uid)
        timed_out = now - entry.since >= DEADLINE
        after = entry.identity = entry.make_identity(container, pod, self._resolver.is_asked(entry), timed_out)
        if after == before:
            return
        self._update_all(entry, (before is None) != (after is None))
        if before is not None and after is not None:
            self._lifecycle.emit(CHANGED, entry, now, before=before)

    def _update(self, cgroup_id: int) -> None:
        """Set a cgroup's identity to that of its innermost known container, and notify if it has changed."""
        cgroup = self._tree.get(cgroup_id)
        if cgroup is None:
            return
        known = (entry.identity for entry in reversed(cgroup.content) if entry.identity is not None)
        identity = next(known, ON_HOST)
        if self.get(cgroup_id) == identity:
            return
        self[cgroup_id] = identity
        if not cgroup.gone:
            self._lifecycle.notify(cgroup_id, identity, cgroup.path)

    def _update_all(self, entry: ContainerEntry, is_new: bool) -> None:
        """Update each cgroup in a container, and the parents of containers inside."""
        cgroups = [cgroup for i in entry.cgroups if (cgroup := self._tree.get(i)) is not None]
        for inner in {e for cgroup in cgroups for e in cgroup.content if entry in e.outer} if is_new else ():
            if inner.identity is not None:
                inner.identity = inner.identity._replace(parents=inner.parents)
        for cgroup_id in entry.cgroups:
            self._update(cgroup_id)

    def _retract(self, entry: ContainerEntry) -> None:
        """Withdraw an entry that turned out not to be a container."""
        entry.identity = None
        for cgroup_id in entry.cgroups:
            if cgroup := self._tree.get(cgroup_id):
                cgroup.content = tuple(e for e in cgroup.content if e is not entry)
                self._update(cgroup_id)
        entry.cgroups.clear()
        self._drop(entry)

    def _drop(self, entry: ContainerEntry) -> None:
        entry.waits = False
        self.watcher.forget(entry)
        self._membership.drop(entry)

    # Changed files of runtimes

    def _check(self, entry: ContainerEntry, now: int) -> None:
        """Read a container's metadata again if its runtime has changed it."""
        if entry.identity is None or entry.identity.container is None or self._has_successor(entry, now):
            return
        if entry.identity.state == PENDING:
            self._resolver.ask(entry, now, changed=True)
        container, path = entry.container, entry.candidate.path
        for reader in self._readers_of(container):
            ask = partial(reader.check, container, path, entry.recorded)
            self._resolver.run(reader, ("check", entry), ask, partial(self._checked, entry, reader), again=True)

    def _checked(self, entry: ContainerEntry, reader: RuntimeReader, check: Check | None) -> None:
        now = self._clock()
        if check is None or not entry.is_in_use:
            return
        if check.changed and entry.identity is not None and entry.identity.state == RESOLVED:
            self._resolver.ask(entry, now, changed=True)
        else:
            if reader.slow:
                entry.watched = check.watched
            self._watch(entry)  # a watched path may be another file now
        if entry.recorded and not check.has_record:
            self._records.erase(entry, now)

    def _watch(self, entry: ContainerEntry) -> None:
        if entry.identity is not None and entry.is_in_use:
            container, path = entry.container, entry.candidate.path
            nothing: Sequence[str] = ()
            readers = self._readers_of(container)
            own = [p for r in readers for p in self._resolver.quick(r, nothing, r.watches, container, path)]
            self.watcher.watch(entry, (*own, *entry.watched))

    def _readers_of(self, container: Container) -> Sequence[RuntimeReader]:
        """Return the runtimes that may know a container: its own, if that is known."""
        return [r for r in self.runtimes if r.name == container.runtime] or self.runtimes

    def _has_successor(self, entry: ContainerEntry, now: int) -> bool:
        """Whether a cgroup was taken over by another container, which is then its entry."""
        path = entry.candidate.path
        cgroup_id = self._tree.at(path)
        candidate = self._membership.successor(entry) if cgroup_id in entry.cgroups else None
        if cgroup_id is None or candidate is None:
            return False
        self._drop(entry)
        successor = self._membership.put(candidate, entry.outer, now, self._records.get(candidate.id))
        self._membership.replace(entry, successor)
        for one in list(entry.cgroups):
            cgroup = self._tree.get(one)
            if cgroup is not None and not cgroup.gone:
                cgroup.content = tuple(successor if e is entry else e for e in cgroup.content)
                successor.cgroups.add(one)
        entry.cgroups -= successor.cgroups
        self._resolver.ask(successor, now)
        self._lifecycle.emit(MADE, successor, now, cgroup_id)
        return True
