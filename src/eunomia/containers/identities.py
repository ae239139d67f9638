# SPDX-License-Identifier: BSD-2-Clause
"""Who each cgroup is: cgroups come and go, runtimes say who their containers are, and what changes is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from eunomia.cgroup_hierarchy import Hierarchy
from eunomia.containers.cgroup_tree import CgroupTree
from eunomia.containers.entry import ContainerEntry
from eunomia.containers.file_watcher import FileWatcher
from eunomia.containers.lifecycle import CHANGED, MADE, REMOVED, THERE, Lifecycle
from eunomia.containers.membership import Membership
from eunomia.containers.records import Records
from eunomia.containers.resolver import DEADLINE, Resolver
from eunomia.containers.runtime import Runtime
from eunomia.containers.runtime_reader import Check, RuntimeReader
from eunomia.containers.unknown_cgroups import UnheardIds
from eunomia.faults import Faults
from eunomia.identity import ON_HOST, PENDING, RESOLVED, Container, Identity, Pod
from eunomia.typing import Protocol


class Enricher(Protocol):
    """Knows more of containers and pods than runtimes do, as a cluster's API. It answers at once, from memory."""

    def enrich(self, container: Container, pod: Pod | None, uid: str) -> tuple[Container, Pod | None]:
        """Return a container and its pod with what is known of them now.

        ``pod`` is what the runtime said; ``uid`` the pod's as the cgroup's path has it, empty outside of pods.
        A container that no runtime has named yet may be named here.
        """


class Identities(dict[int, Identity]):
    """Identities by cgroup id, and the parts that keep them up to date. Nothing here waits for anybody."""

    ENRICHER = "following Kubernetes"  # what the enricher does, in sentences about its faults

    def __init__(
        self, runtimes: Sequence[Runtime], hierarchy: Hierarchy, clock: Callable[[], int], faults: Faults
    ) -> None:
        super().__init__()
        self.faults = faults
        self.runtimes = [RuntimeReader(runtime, faults) for runtime in runtimes]
        self.notices = FileWatcher(clock)
        self._clock = clock
        self._enricher: Enricher | None = None
        self._tree = CgroupTree[tuple[ContainerEntry, ...]](hierarchy)
        self._unheard = UnheardIds()
        self._lifecycle = Lifecycle()
        self._resolver = Resolver(self.runtimes, faults, clock, self._found, self._keep)
        self._membership = Membership(self.runtimes, self._retract)
        self._records = Records(
            self.runtimes, self._resolver, self.notices, self._lifecycle, clock,
            entries=self._membership.all, found=self._found, check=self._check, drop=self._drop,
        )  # fmt: skip

    # Cgroups come and go

    def _walk(self, now: int) -> None:
        walk = self._tree.walk()
        for cgroup_id, path in walk.new:
            self._add(cgroup_id, path, now)
        for cgroup_id in walk.gone:
            self._remove(cgroup_id, now)
        self._unheard.walked(now, self._clock(), self)

    def _add(self, cgroup_id: int, path: str, now: int, then: int | None = None, by_runtime: bool = False) -> None:
        if cgroup_id in self._tree:
            return
        around = self._membership.of(path, now, by_runtime, self._records.get)
        for entry, is_new in around:
            entry.cgroups.add(cgroup_id)
            # Its own cgroup anew is a restart, and its name may be another by now.
            if is_new or (entry.candidate.path == path and not entry.waits):
                entry.since = now
                self._resolver.ask(entry, now)
        self._tree.add(cgroup_id, path, tuple(entry for entry, _ in around))
        self._tell(cgroup_id)
        if self._lifecycle.is_heard and around and around[-1][0].candidate.path == path:
            starting = self._resolver.starting
            self._lifecycle.say(THERE if starting else MADE, around[-1][0], then or now, cgroup_id)
            if not starting:
                self._records.find_places()

    def _remove(self, cgroup_id: int, now: int, then: int | None = None) -> None:
        cgroup = self._tree.remove(cgroup_id, now)
        if cgroup is None:
            return
        self._lifecycle.tell(cgroup_id, None, cgroup.path)
        if cgroup.content and cgroup.content[-1].candidate.path == cgroup.path:
            self._lifecycle.say(REMOVED, cgroup.content[-1], then or now, cgroup_id)

    def _forget(self, now: int, drained: int | None) -> None:
        for cgroup_id, cgroup in self._tree.forget(now, drained):
            del self[cgroup_id]
            for entry in cgroup.content:
                entry.cgroups.discard(cgroup_id)
                if not entry.is_held:
                    self._drop(entry)

    # Who a container is

    def _found(self, entry: ContainerEntry, now: int) -> None:
        """Take what runtimes have said of a container."""
        self._identify(entry, now)
        self._watch(entry)
        if self._lifecycle.is_heard:
            self._records.look_for(entry)

    def _keep(self, entry: ContainerEntry, starting: bool) -> None:
        self._records.keep(entry, starting)

    def _identify(self, entry: ContainerEntry, now: int) -> None:
        """Make an entry's identity of what is known of it, and tell when it is another."""
        candidate, metadata, before = entry.candidate, entry.metadata, entry.identity
        container = Container(candidate.id, runtime=candidate.runtime) if metadata is None else metadata.container
        pod = None if metadata is None else metadata.pod
        if self._enricher is not None:
            known = container, pod
            container, pod = self.faults.call(self.ENRICHER, known, self._enricher.enrich, container, pod, entry.uid)
        over = now - entry.since >= DEADLINE
        after = entry.identity = entry.identified(container, pod, self._resolver.is_asked(entry), over)
        if after == before:
            return
        self._tell_all(entry, (before is None) != (after is None))
        if before is not None and after is not None:
            self._lifecycle.say(CHANGED, entry, now, before=before)

    def _tell(self, cgroup_id: int) -> None:
        """Set what a cgroup is from the containers it is in, the innermost first, and pass on what is new."""
        cgroup = self._tree.get(cgroup_id)
        if cgroup is None:
            return
        known = (entry.identity for entry in reversed(cgroup.content) if entry.identity is not None)
        identity = next(known, ON_HOST)
        if self.get(cgroup_id) == identity:
            return
        self[cgroup_id] = identity
        if not cgroup.gone:
            self._lifecycle.tell(cgroup_id, identity, cgroup.path)

    def _tell_all(self, entry: ContainerEntry, is_new: bool) -> None:
        """Tell each cgroup in a container; those in it learn that there is one around them."""
        cgroups = [cgroup for i in entry.cgroups if (cgroup := self._tree.get(i)) is not None]
        for inner in {e for cgroup in cgroups for e in cgroup.content if entry in e.around} if is_new else ():
            if inner.identity is not None:
                inner.identity = inner.identity._replace(parents=inner.parents)
        for cgroup_id in entry.cgroups:
            self._tell(cgroup_id)

    def _retract(self, entry: ContainerEntry) -> None:
        """Say that what was taken for a container is none."""
        entry.identity = None
        for cgroup_id in entry.cgroups:
            if cgroup := self._tree.get(cgroup_id):
                cgroup.content = tuple(e for e in cgroup.content if e is not entry)
                self._tell(cgroup_id)
        entry.cgroups.clear()
        self._drop(entry)

    def _drop(self, entry: ContainerEntry) -> None:
        entry.waits = False
        self.notices.forget(entry)
        self._membership.drop(entry)

    # What runtimes rewrite

    def _check(self, entry: ContainerEntry, now: int) -> None:
        """Read again what a container's runtime has rewritten, if it has."""
        if entry.identity is None or entry.identity.container is None or self._has_heir(entry, now):
            return
        if entry.identity.state == PENDING:
            self._resolver.ask(entry, now, changed=True)
        container, path = entry.container, entry.candidate.path
        for reader in self._readers_of(container):
            ask = partial(reader.check, container, path, entry.recorded)
            self._resolver.run(reader, ("check", entry), ask, partial(self._checked, entry, reader), again=True)

    def _checked(self, entry: ContainerEntry, reader: RuntimeReader, check: Check | None) -> None:
        now = self._clock()
        if check is None or not entry.is_held:
            return
        if check.changed and entry.identity is not None and entry.identity.state == RESOLVED:
            self._resolver.ask(entry, now, changed=True)
        else:
            if reader.slow:
                entry.watched = check.watched
            self._watch(entry)  # what is watched may be another file by now
        if entry.recorded and not check.kept:
            self._records.erase(entry, now)

    def _watch(self, entry: ContainerEntry) -> None:
        if entry.identity is not None and entry.is_held:
            container, path = entry.container, entry.candidate.path
            nothing: Sequence[str] = ()
            readers = self._readers_of(container)
            own = [p for r in readers for p in self._resolver.quick(r, nothing, r.watches, container, path)]
            self.notices.watch(entry, (*own, *entry.watched))

    def _readers_of(self, container: Container) -> Sequence[RuntimeReader]:
        """Return the runtimes that may know of a container: its own, if it is known which that is."""
        return [r for r in self.runtimes if r.name == container.runtime] or self.runtimes

    def _has_heir(self, entry: ContainerEntry, now: int) -> bool:
        """Whether a cgroup that its container left is another's now; then that is who it is from now on."""
        path = entry.candidate.path
        cgroup_id = self._tree.at(path)
        candidate = self._membership.heir(entry) if cgroup_id in entry.cgroups else None
        if cgroup_id is None or candidate is None:
            return False
        self._drop(entry)
        heir = self._membership.put(candidate, entry.around, now, self._records.get(candidate.id))
        self._membership.replace(entry, heir)
        for one in list(entry.cgroups):
            cgroup = self._tree.get(one)
            if cgroup is not None and not cgroup.gone:
                cgroup.content = tuple(heir if e is entry else e for e in cgroup.content)
                heir.cgroups.add(one)
        entry.cgroups -= heir.cgroups
        self._resolver.ask(heir, now)
        self._lifecycle.say(MADE, heir, now, cgroup_id)
        return True
