# SPDX-License-Identifier: BSD-2-Clause
"""cgroup id -> identity, kept up to date by the kernel's own word about cgroups.

Drain the trackers' streams first and the cgroup streams after them: whatever a tracker saw then happened in a
cgroup that :meth:`Registry.feed` has heard of when the rows are joined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from heapq import heappop, heappush
from typing import Protocol

from eunomia.batch import Batch
from eunomia.containers import freezer, tree
from eunomia.containers import runtimes as known_runtimes
from eunomia.containers.case import CHANGED, ERASED, MADE, RECORDED, REMOVED, THERE, Case, News
from eunomia.containers.guarded import guarded
from eunomia.containers.kubepods import pod_uid, qos
from eunomia.containers.notices import Notices
from eunomia.containers.paths import Candidate, candidates, is_below
from eunomia.containers.runtime import Found, Hasty, Keeper, Runtime
from eunomia.faults import Faults
from eunomia.hierarchy import Hierarchy
from eunomia.identity import NOBODY_KNOWS, ON_HOST, PENDING, RESOLVED, UNKNOWN, Container, Identity, Pod
from eunomia.kernel_clock import monotonic_ns

# All in nanoseconds.
DEADLINE = 5_000_000_000  # how long a runtime is asked for a container that it doesn't know
EAGER_PAUSE = 20_000_000  # between two times that it is asked at first, then ever longer ...
PAUSE = 500_000_000  # ... up to this
PATIENCE = 4  # a pause is this part of the time since it was asked first
GRACE = 10_000_000_000  # how long a removed cgroup is remembered: its events may still be in a ring
LONGEST = 300_000_000_000  # how much longer, where the rings are never emptied
WALK_PAUSE = 200_000_000  # between two walks of the tree because of an unheard-of id, at least
WALK_SHARE = 20  # they take at most one part in this of the time

ASKED_AT_ONCE = 256  # containers asked for in one tick
ROOM = 8192  # cgroups remembered before it is checked which of them still exist

RECORDS = 8192  # containers that don't run and are remembered

# What the commands are called that make containers' cgroups, where it is not systemd, which names them.
MAKERS = ("runc", "crun", "youki", "runsc", "sysbox-runc", "kata-runtime")

Subscriber = Callable[[int, Identity | None, str], None]


class Enricher(Protocol):
    """Knows more of containers and pods than runtimes do, as a cluster's API. It answers at once, from memory."""

    def enrich(self, container: Container, pod: Pod | None, uid: str) -> tuple[Container, Pod | None]:
        """Return a container and its pod with what is known of them now.

        ``pod`` is what the runtime said; ``uid`` the pod's as the cgroup's path has it, empty outside of pods.
        A container that no runtime has named yet may be named here.
        """


class _Cgroup:
    __slots__ = ("cases", "gone", "path")

    def __init__(self, path: str, cases: tuple[Case, ...]) -> None:
        self.path = path
        self.cases = cases  # outermost first
        self.gone = False


class Registry(dict[int, Identity]):
    """Who each cgroup is: ``map(registry.__getitem__, cgroup_ids)`` joins a column.

    Ids that nobody has heard of give :data:`NOBODY_KNOWS`.
    """

    ENRICHER = "following Kubernetes"  # what the enricher does, in sentences about its faults

    def __init__(
        self,
        runtimes: Sequence[Runtime] | None = None,
        *,
        mount: str | None = None,
        hierarchy: Hierarchy | None = None,
        clock: Callable[[], int] = monotonic_ns,
        faults: Faults | None = None,
    ) -> None:
        """Start empty; ids are ``hierarchy``'s, :func:`tree.current` unless given, or v2's at ``mount``.

        ``clock`` gives monotonic nanoseconds. ``faults`` counts errors of runtimes and of the enricher.
        """
        super().__init__()
        self.faults = Faults() if faults is None else faults
        every = known_runtimes.every() if runtimes is None else runtimes
        self.runtimes: Sequence[Runtime] = [guarded(runtime, self.faults) for runtime in every]
        if hierarchy is None:
            hierarchy = tree.current() if mount is None else Hierarchy(mount)
        self._hierarchy = hierarchy
        self._mount = self._hierarchy.mount
        self._clock = clock
        self._cgroups: dict[int, _Cgroup] = {}
        self._paths: dict[str, int] = {}
        self._cases: dict[str, Case] = {}  # by the path of their own cgroup
        self._guesses: dict[str, Candidate] = {}  # of these, those that only their maker tells
        self._waiting: list[tuple[int, int, Case]] = []  # a heap: when to ask again
        self._asked = 0
        self._leaving: deque[tuple[int, int]] = deque()  # when to forget which cgroup
        self._subscribers: list[Subscriber] = []
        self._enricher: Enricher | None = None
        self._walked: int | None = None
        self._pause = WALK_PAUSE
        self._room = ROOM
        self._hasty = [r for r in every if isinstance(r, Hasty)]
        self._keepers = [r for r in self.runtimes if isinstance(r, Keeper)]
        self.notices = Notices(clock)
        self._news: list[News] | None = None
        self._starting = False
        self._records: dict[str, Case] = {}  # by id, those whose runtime keeps a record
        self._places: dict[str, Keeper] = {}
        self._entries: dict[str, set[str]] = {}  # by place

    def __missing__(self, cgroup_id: int) -> Identity:
        """Look through the tree, not too often, for an id that no record told of."""
        now = self._clock()
        if self._walked is None or now - self._walked >= self._pause:
            self._walk(now)
        return self.get(cgroup_id, NOBODY_KNOWS)

    # What the engine calls

    def join(self, batch: Batch, cgroup: str) -> None:
        """Set whose a batch's rows are, by its field ``cgroup``: looked up once for each distinct cgroup."""
        ids, batch.owner = batch.group(cgroup)
        batch.owners = [self[cgroup_id] for cgroup_id in ids]

    def start(self) -> None:
        """Learn of all that runs already; call it when the cgroup streams are attached."""
        self._starting = True
        now = self._clock()
        self._walk(now)
        if self._news is not None:
            self._find_places(now)
        self._starting = False

    def listen(self) -> None:
        """Keep news of containers from now on, also of those without a cgroup; before :meth:`start`."""
        self._news = []

    def news(self) -> list[News]:
        """Return what happened since it was last asked for, in the order in which it was learnt."""
        news = self._news or []
        if news:
            self._news = []
        return news

    @property
    def mount(self) -> str | None:
        """Where the hierarchy is mounted that containers' paths are of."""
        return self._mount

    def cases(self) -> list[Case]:
        """Return the containers that have a cgroup of their own now."""
        return [
            case
            for case in self._cases.values()
            if case.identity is not None and self._paths.get(case.candidate.path) in case.cgroups
        ]

    def case_of(self, cgroup_id: int) -> Case | None:
        """Return the innermost container that a cgroup belongs to, None where there is none."""
        cgroup = self._cgroups.get(cgroup_id)
        if cgroup is None or not cgroup.cases:
            return None
        return next((c for c in reversed(cgroup.cases) if c.identity is not None), cgroup.cases[-1])

    def hurried(self) -> list[str]:
        """Return files to be read as a cgroup is made, as :class:`Hasty` runtimes name them."""
        nothing: Sequence[str] = ()
        return [
            place
            for runtime in self._hasty
            for place in self.faults.call(f"the reader of {runtime.name}", nothing, runtime.hurried)
        ]

    def look_at(self, case: Case) -> None:
        """Read now what a container's runtime has rewritten, if it has, and whether it still has a record."""
        self._check(case, self._clock())

    def first_process(self, case: Case) -> int:
        """Return the process that a running container lives by, as the host sees it; 0 where there is none."""
        path = case.candidate.path
        container = case.identity.container if case.identity is not None else None
        if container is not None and container.pid:
            where = tree.path_of(container.pid)
            if where is not None and (where == path or is_below(where, path)):
                return container.pid
        return tree.first_process(self._mount, path) if self._mount is not None and path else 0

    def is_populated(self, case: Case) -> bool:
        """Whether there are processes in a container; cgroups may be left over from one that is gone."""
        path = case.candidate.path
        return self._mount is not None and bool(path) and tree.is_populated(self._mount + path)

    def is_frozen(self, case: Case, pid: int) -> bool | None:
        """Whether a container is paused, by its first process ``pid``; None where that cannot be read."""
        return freezer.is_frozen(self._mount, case.candidate.path, pid)

    @property
    def hears_of_freezing(self) -> bool:
        """Whether the kernel tells by a tracepoint that containers are paused; v1's freezer has none."""
        return freezer.of_version_1() is None

    def close(self) -> None:
        """Stop watching files."""
        self.notices.close()

    def feed(self, batches: Iterable[Batch]) -> None:
        """Take drained batches of the streams ``made`` and ``removed``."""
        now = self._clock()
        for batch in sorted(batches, key=lambda b: b.stream):  # "made" before "removed"
            removed = batch.stream == "removed"
            ids, roots, times = batch.raw("cgroup_id"), batch.raw("hierarchy"), batch.raw("time")
            rows = zip(ids, roots, batch.values("path"), times, batch.values("maker"), strict=True)
            for cgroup_id, root, path, then, maker in rows:
                if root != self._hierarchy.id:  # ids of other hierarchies collide with those of ours
                    continue
                # A removed one that was not heard of: its rows may come yet.
                if cgroup_id not in self._cgroups and (whole := self._whole(cgroup_id, path)):
                    self._add(cgroup_id, whole, now, then, not removed and maker.startswith(MAKERS))
                if removed and cgroup_id in self._cgroups:
                    self._remove(cgroup_id, now, then)

    def _whole(self, cgroup_id: int, path: str) -> str:
        """Return a path that the kernel may have cut as it is; empty where that cannot be told (any more)."""
        if len(path) < tree.CUT // 4 or len(path.encode()) < tree.CUT:
            return path
        return tree.below(self._mount, path.rpartition("/")[0], cgroup_id) if self._mount is not None else ""

    def tick(self, now: int, drained: int | None = None) -> None:
        """Ask again for containers still pending, forget what was removed long ago, read what was rewritten.

        ``drained`` is when the last drain began that has emptied all rings: a row may come yet, however long ago
        the removal was heard of, of what was heard of since.
        """
        self.look(now)
        for _ in range(ASKED_AT_ONCE):
            if not self._waiting or self._waiting[0][0] > now:
                break
            case = heappop(self._waiting)[2]
            case.waits = False
            if case.cgroups:
                self._ask(case, now)
        until = now if drained is None else max(min(now, drained + GRACE), now - LONGEST)
        while self._leaving and self._leaving[0][0] <= until:
            self._forget(self._leaving.popleft()[1])
        if len(self) > self._room:
            self._walk(now)
            self._room = max(ROOM, 2 * (len(self) - len(self._leaving)))

    def next_deadline(self) -> int | None:
        """Return when :meth:`tick` has something to do (monotonic ns), ``None`` if never."""
        waiting = self._waiting[0][0] if self._waiting else None
        leaving = self._leaving[0][0] if self._leaving else None
        return min((t for t in (waiting, leaving, self.notices.next_deadline()) if t is not None), default=None)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call ``subscriber(cgroup id, identity, path)`` for each cgroup, now, when it appears or changes.

        The identity is ``None`` when the cgroup was removed.
        """
        self._subscribers.append(subscriber)
        for cgroup_id, cgroup in self._cgroups.items():
            if not cgroup.gone:
                subscriber(cgroup_id, self[cgroup_id], cgroup.path)

    def enrich(self, enricher: Enricher) -> None:
        """Ask ``enricher`` whenever an identity is made; call it before :meth:`start`."""
        self._enricher = enricher

    def refresh(self, names: Set[str]) -> None:
        """Enrich anew what news concern: containers by their ids, and those of pods by their pods' uids."""
        for case in self._cases.values():
            pod = case.identity.pod if case.identity is not None else None
            if case.candidate.id in names or case.uid in names or (pod is not None and pod.uid in names):
                self._set(case, case.found, self._clock())

    def by_pid(self, pid: int) -> Identity:
        """Return whose process it is; :data:`NOBODY_KNOWS` when it has ended."""
        cgroup_id = self.cgroup_of(pid)
        return NOBODY_KNOWS if cgroup_id is None else self[cgroup_id]

    def cgroup_of(self, pid: int) -> int | None:
        """Return the id of the cgroup that a process or a thread is in now; None when it has ended."""
        path = tree.path_of(pid, self._hierarchy)
        if path is None or self._mount is None:
            return None
        cgroup_id = self._paths.get(path)
        if cgroup_id is None:
            cgroup_id = tree.id_of(self._mount, path)
            if cgroup_id is not None:
                self._add(cgroup_id, path, self._clock())
        return cgroup_id

    def look(self, now: int) -> None:
        """Read again what runtimes have rewritten since (``docker rename``), as far as notices tell of it."""
        for owner in self.notices.take(now):
            if isinstance(owner, Case):
                self._check(owner, now)
            elif isinstance(owner, str):
                self._scan(owner, now)

    def recheck(self) -> None:
        """Read again whatever was rewritten, told of or not: one stat(2) a container."""
        now = self._clock()
        for case in list(self._cases.values()):
            self._check(case, now)

    def _check(self, case: Case, now: int) -> None:
        identity, path = case.identity, case.candidate.path
        if identity is None or identity.container is None:
            return
        if self._is_anothers(case, now):
            return
        container = identity.container
        runtimes = self._speakers(container)
        rewritten = identity.state == RESOLVED and any(r.changed(container, path) for r in runtimes)
        if rewritten or identity.state == PENDING:
            self._ask(case, now)
        else:
            self._watch(case)  # what is watched may be another file by now
        if case.recorded and not self._is_kept(container, path):
            self._erase(case, now)

    def _is_anothers(self, case: Case, now: int) -> bool:
        """Whether a cgroup that its container left is another's now; then that is who it is from now on.

        Only where its path does not tell the container's id (``ctr run --cgroup``).
        """
        path = case.candidate.path
        cgroup_id = self._paths.get(path)
        if cgroup_id not in case.cgroups or case.candidate.id in path.rpartition("/")[2]:
            return False
        candidate = next((c for c in candidates(path, self.runtimes) if c.path == path), case.candidate)
        if candidate.id == case.candidate.id:
            return False
        self._drop(case)
        heir = self._cases[path] = self._case(candidate, case.around, now)
        for other in self._cases.values():
            other.around = tuple(heir if c is case else c for c in other.around)
        for one in list(case.cgroups):
            cgroup = self._cgroups[one]
            if not cgroup.gone:
                cgroup.cases = tuple(heir if c is case else c for c in cgroup.cases)
                heir.cgroups.add(one)
        case.cgroups -= heir.cgroups
        self._ask(heir, now)
        self._say(MADE, heir, now, cgroup_id)
        return True

    def _speakers(self, container: Container) -> Sequence[Runtime]:
        """Return the runtimes that may know of a container: its own, if it is known which that is."""
        return [r for r in self.runtimes if r.name == container.runtime] or self.runtimes

    def _has_record(self, case: Case) -> bool:
        container = case.identity.container if case.identity is not None else None
        return container is not None and self._is_kept(container, case.candidate.path)

    def _is_kept(self, container: Container, path: str) -> bool:
        keepers = [r for r in self._keepers if r.name == container.runtime] or self._keepers
        return any(r.keeps(container, path) for r in keepers)

    def _watch(self, case: Case) -> None:
        container = case.identity.container if case.identity is not None else None
        if container is not None:
            path = case.candidate.path
            self.notices.watch(case, [p for r in self._speakers(container) for p in r.watches(container, path)])

    # Records that outlast cgroups, and come before them

    def _find_places(self, now: int) -> None:
        """Look at where runtimes keep their records, as far as that is new."""
        for runtime in self._keepers:
            for place in runtime.places():
                if place not in self._places:
                    self._places[place] = runtime
                    self._scan(place, now)

    def _scan(self, place: str, now: int) -> None:
        """Read the entries of a place that are new."""
        runtime, unread = self._places[place], set()
        names = runtime.records(place)
        for name in self._entries.get(place, set()) - set(names):
            if name in self._records:
                self._check(self._records[name], now)
        cases = {case.candidate.id: case for case in self._cases.values()}
        entries: set[str] = set()
        self._entries[place] = entries
        for name in names:
            if len(entries) >= RECORDS:
                break
            entries.add(name)
            if name in self._records or len(self._records) >= RECORDS:
                continue
            case = cases.get(name)
            if case is None:
                found = runtime.lookup(name, "")
                if found is None or not found.container.name:
                    unread.add(f"{place}/{name}")
                    continue
                case = Case(Candidate(name, "", runtime.name), (), now)
                case.found = found
                self._set(case, found, now)
                self._watch(case)
            elif not self._has_record(case):  # it is being removed, and its entry is what is left
                unread.add(f"{place}/{name}")
                continue
            self._record(case, now)
        # an entry is made before what it says is written
        self.notices.watch(place, [place, *sorted(unread)[:RECORDS]])

    def _record(self, case: Case, now: int) -> None:
        case.recorded = True
        self._records[case.candidate.id] = case
        self._say(THERE if self._starting else RECORDED, case, now)

    def _erase(self, case: Case, now: int) -> None:
        case.recorded = False
        self._records.pop(case.candidate.id, None)
        self._say(ERASED, case, now)
        if not case.cgroups:
            self._drop(case)

    def _drop(self, case: Case) -> None:
        self.notices.forget(case)
        if self._cases.get(case.candidate.path) is case:
            del self._cases[case.candidate.path]
            self._guesses.pop(case.candidate.path, None)

    def _say(self, what: str, case: Case, then: int, cgroup_id: int = 0, before: Identity | None = None) -> None:
        if self._news is not None:
            self._news.append(News(what, case, then, cgroup_id, before, case.identity))

    # Cgroups come and go

    def _walk(self, now: int) -> None:
        self._walked = now
        if self._mount is None:
            return
        before = [i for i, c in self._cgroups.items() if not c.gone]
        seen = set()
        for cgroup_id, path in tree.walk(self._mount):
            seen.add(cgroup_id)
            self._add(cgroup_id, path, now)
        for cgroup_id in before:
            if cgroup_id not in seen:
                self._remove(cgroup_id, now)
        self._pause = max(WALK_PAUSE, WALK_SHARE * (self._clock() - now))

    def _add(self, cgroup_id: int, path: str, now: int, then: int | None = None, by_runtime: bool = False) -> None:
        if cgroup_id in self._cgroups:
            return
        cases: list[Case] = []
        found = candidates(path, self.runtimes)
        if by_runtime or self._guesses:
            found = self._guessed(path, found, by_runtime)
        for candidate in found:
            case = self._cases.get(candidate.path)
            if case is not None and candidate.path == path and candidate.id != case.candidate.id:
                case = None  # a cgroup of the same name, which was another's
            fresh = case is None
            if case is None:
                case = self._cases[candidate.path] = self._case(candidate, tuple(cases), now)
            case.cgroups.add(cgroup_id)
            cases.append(case)
            # Its own cgroup anew is a restart, and its name may be another by now.
            if fresh or (candidate.path == path and not case.waits):
                case.since = now
                self._ask(case, now)
        self._cgroups[cgroup_id] = _Cgroup(path, tuple(cases))
        self._paths[path] = cgroup_id
        self._tell(cgroup_id)
        if self._news is not None and cases and cases[-1].candidate.path == path:
            self._say(THERE if self._starting else MADE, cases[-1], then or now, cgroup_id)
            if not self._starting:
                self._find_places(now)

    def _guessed(self, path: str, found: tuple[Candidate, ...], by_runtime: bool) -> tuple[Candidate, ...]:
        """Return the candidates along a path with those that only their maker tells: runtimes make containers' cgroups.

        They make what is above these, too: what they go on below was no container.
        """
        top = path
        while self._guesses and (top := top.rpartition("/")[0]):
            guess = self._guesses.get(top)
            if guess is None:
                continue
            case = self._cases.get(top)
            if by_runtime and case is not None and (case.found is None or not case.found.container.name):
                self._retract(case)
            else:
                found = (guess, *found)
        if by_runtime and not found:
            guess = Candidate(path.rpartition("/")[2], path, "")
            self._guesses[path] = guess
            return (guess,)
        return found

    def _retract(self, case: Case) -> None:
        """Say that a guess was none."""
        case.identity = None
        for cgroup_id in case.cgroups:
            if cgroup := self._cgroups.get(cgroup_id):
                cgroup.cases = tuple(c for c in cgroup.cases if c is not case)
                self._tell(cgroup_id)
        case.cgroups.clear()
        self._drop(case)

    def _case(self, candidate: Candidate, around: tuple[Case, ...], now: int) -> Case:
        """Return a new case, or that of the record that was there before the cgroup."""
        case = self._records.get(candidate.id)
        if case is None or case.candidate.path or around:
            return Case(candidate, around, now)
        case.candidate, case.since, case.uid = candidate, now, pod_uid(candidate.path)
        return case

    def _remove(self, cgroup_id: int, now: int, then: int | None = None) -> None:
        cgroup = self._cgroups[cgroup_id]
        if cgroup.gone:
            return
        cgroup.gone = True
        if self._paths.get(cgroup.path) == cgroup_id:
            del self._paths[cgroup.path]
        self._leaving.append((now + GRACE, cgroup_id))
        for subscriber in self._subscribers:
            subscriber(cgroup_id, None, cgroup.path)
        if cgroup.cases and cgroup.cases[-1].candidate.path == cgroup.path:
            self._say(REMOVED, cgroup.cases[-1], then or now, cgroup_id)

    def _forget(self, cgroup_id: int) -> None:
        cgroup = self._cgroups.pop(cgroup_id)
        del self[cgroup_id]
        for case in cgroup.cases:
            case.cgroups.discard(cgroup_id)
            if not case.cgroups and not case.recorded:
                self._drop(case)

    def _tell(self, cgroup_id: int) -> None:
        """Set what a cgroup is from its cases, the innermost first, and pass on what is new."""
        cgroup = self._cgroups[cgroup_id]
        known = (case.identity for case in reversed(cgroup.cases) if case.identity is not None)
        identity = next(known, ON_HOST)
        if self.get(cgroup_id) == identity:
            return
        self[cgroup_id] = identity
        if not cgroup.gone:
            for subscriber in self._subscribers:
                subscriber(cgroup_id, identity, cgroup.path)

    # Who a container is

    def _ask(self, case: Case, now: int) -> None:
        """Ask the runtimes; when nobody knows it yet, ask again later."""
        found = self._look_up(case.candidate)
        before = case.found
        if before is None or not before.container.name or (found is not None and found.container.name):
            case.found = found  # else: what was once read stays true while the file is gone or being rewritten
        self._set(case, case.found, now)
        named = case.found is not None and case.found.container.name
        if not named and now - case.since < DEADLINE:
            pause = max(EAGER_PAUSE, min(PAUSE, (now - case.since) // PATIENCE))
            self._asked += 1
            case.waits = True
            heappush(self._waiting, (now + pause, self._asked, case))
        self._watch(case)
        if self._news is None or case.recorded or len(self._records) >= RECORDS:
            return
        if case.candidate.id not in self._records and self._has_record(case):
            self._record(case, now)

    def _set(self, case: Case, found: Found | None, now: int) -> None:
        """Make a case's identity of what is known of it, and tell when it is another."""
        candidate, before = case.candidate, case.identity
        container = Container(candidate.id, runtime=candidate.runtime) if found is None else found.container
        pod = None if found is None else found.pod
        if self._enricher is not None:
            known = container, pod
            container, pod = self.faults.call(self.ENRICHER, known, self._enricher.enrich, container, pod, case.uid)
        if container.name:
            case.identity = Identity(RESOLVED, container, pod, case.parents)
        elif before is not None and before.state == RESOLVED:
            return
        elif found is None and not candidate.runtime and pod is None and not _may_be_alone(case):
            case.identity = None
        else:
            if pod is None and case.uid:
                pod = Pod("", "", case.uid, qos=qos(candidate.path))  # as far as the path tells
            state = UNKNOWN if now - case.since >= DEADLINE else PENDING
            case.identity = Identity(state, container, pod, case.parents)
        if case.identity == before:
            return
        self._tell_all(case, (before is None) != (case.identity is None))
        if before is not None and case.identity is not None:
            self._say(CHANGED, case, now, before=before)

    def _tell_all(self, case: Case, is_new: bool) -> None:
        """Tell each cgroup in a container; those in it learn that there is one around them."""
        cgroups = [cgroup for i in case.cgroups if (cgroup := self._cgroups.get(i)) is not None]
        for inner in {c for cgroup in cgroups for c in cgroup.cases if case in c.around} if is_new else ():
            if inner.identity is not None:
                inner.identity = inner.identity._replace(parents=inner.parents)
        for cgroup_id in case.cgroups:
            if cgroup_id in self._cgroups:
                self._tell(cgroup_id)

    def _look_up(self, candidate: Candidate) -> Found | None:
        nameless = None
        for runtime in self.runtimes:
            found = runtime.lookup(candidate.id, candidate.path)
            if found is not None:
                if found.container.name:
                    return found
                nameless = nameless or found
        return nameless


def _may_be_alone(case: Case) -> bool:
    """Whether a name that only looks like a container's may be one's although no runtime knows it (any more).

    Directly in a pod it is one. Elsewhere in a container it may be a cgroup of that container's own.
    """
    around = next((c for c in reversed(case.around) if c.identity is not None), None)
    return around is None or (bool(case.uid) and case.uid != around.uid)
