# SPDX-License-Identifier: BSD-2-Clause
"""From signs of the kernel and news of the registry to what happened to which container, each thing once."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence

from eunomia.batch import Batch
from eunomia.identity import CREATED, EXITED, PAUSED, PENDING, RUNNING, Identity
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.containers.entry import ContainerEntry
    from eunomia.containers.lifecycle import LifecycleEvent
    from eunomia.containers.registry import Registry
    from eunomia.kernel.loaded import Loaded

HOLD = 1_000_000_000  # ns that rows wait for a name
GLANCE_SHARE = 20  # looks at who is paused, where the kernel does not tell, take at most one part in this of the time
KILL = 200_000_000  # ns that a pause waits: runc freezes what it kills whole, and that is none
DOUBT = 5_000_000_000  # ns that they wait to learn whether it is a container at all

# enum life and enum sign of container.bpf.c
_CREATED, _STARTED, _RENAMED, _PAUSED, _UNPAUSED, _OOM_KILLED, _EXITED, _REMOVED = range(1, 9)
_EXECUTED, _ENDED, _OUT_OF_MEMORY, _FROZEN, _THAWED, _COMMANDED, _KILLED = range(1, 8)

# What a container's state is once it happened.
_STATES = {
    _CREATED: CREATED, _STARTED: RUNNING, _PAUSED: PAUSED, _UNPAUSED: RUNNING, _EXITED: EXITED, _REMOVED: EXITED,
}  # fmt: skip

_NO_CODE = -1  # the exit code of what is no end, or one that nobody saw
_SIGNALLED = 128  # added to a signal, as shells and runtimes have it


class _Sign(NamedTuple):
    """A record of the kernel; see struct sign_event."""

    time: int
    sign: int
    cgroup_id: int
    pid: int
    start: int
    exit_code: int
    signal: int


class _Life:
    """How far a container has come; ``stage`` is empty before anything is known of it."""

    __slots__ = ("cgroup_id", "entry", "paused", "pid", "rows", "since", "stage", "started")

    def __init__(self, entry: ContainerEntry) -> None:
        self.entry = entry
        self.stage = ""
        self.cgroup_id = 0  # its own, as long as it exists
        self.pid = 0
        self.started = 0
        self.paused = False
        self.rows: deque[dict[str, Any]] = deque()  # that wait
        self.since = 0  # when the first of them came


class Life:
    """The deriver of this tracker; see :class:`eunomia.tracker.Deriver`."""

    def __init__(self, registry: Registry, live: Loaded) -> None:
        """Take the registry of containers, which is asked about them, and the live probe."""
        self._registry = registry
        self._schema = live.spec.streams["life"].schema
        self._firsts = live.maps["firsts"]
        self._lives: dict[ContainerEntry, _Life] = {}
        self._waiting: dict[ContainerEntry, _Life] = {}  # those that have rows
        self._later: list[_Sign | LifecycleEvent] = []
        self._glance: int | None = None  # when to look who is paused
        self._rested = 0  # when there may be such a look again
        self._began = monotonic_ns()

    def start(self, news: Sequence[LifecycleEvent]) -> None:
        """Learn of the containers that run already, and have the kernel tell of their ends."""
        for one in news:
            if one.what == "there":
                self._there(one)

    def rows(
        self, raw: Mapping[str, Sequence[Batch]], news: Sequence[LifecycleEvent], until: int, last: bool
    ) -> list[Batch]:
        """Return what happened, at most one batch; see :class:`eunomia.tracker.Deriver`."""
        todo = [*self._later, *news, *(sign for batch in raw["raw_sign"] for sign in _signs(batch))]
        self._later = []
        if todo:
            # what is not the kernel's own word comes behind what is
            for one in sorted(todo, key=lambda one: one.time):
                if one.time > until and not last:
                    self._later.append(one)
                elif isinstance(one, _Sign):
                    self._sign(one)
                else:
                    self._hear(one, until)
        if self._glance is not None and self._glance <= until:
            self._look_who_is_paused(until)
        if not self._waiting:
            return []
        ripe = [row for life in list(self._waiting.values()) for row in self._ripe(life, until, last)]
        if not ripe:
            return []
        ripe.sort(key=lambda row: row[0]["time"])
        batch = Batch.made(self._schema, [row for row, _ in ripe], [identity for _, identity in ripe])
        batch.stream = "life"
        return [batch]

    def next_deadline(self) -> int | None:
        """Return when rows are due that wait for a name, or news that wait for the kernel's word."""
        due = [_due(life) for life in self._waiting.values()]
        due += [one.time for one in self._later]
        return min(due if self._glance is None else [*due, self._glance], default=None)

    # What is heard

    def _there(self, news: LifecycleEvent) -> None:
        life = self._life(news.entry)
        if not news.cgroup_id:
            life.stage = life.stage or EXITED
            return
        life.stage, life.cgroup_id = RUNNING, news.cgroup_id
        identity = news.entry.identity
        life.paused = bool(identity and identity.container and identity.container.state == PAUSED)
        life.pid = self._registry.first_process(news.entry)
        if life.pid:
            self._firsts.update(struct.pack("=I", life.pid), struct.pack("=Q", life.cgroup_id))

    def _hear(self, news: LifecycleEvent, now: int) -> None:
        what, entry = news.what, news.entry
        life = self._lives.get(entry)
        if what == "there":
            self._there(news)
        elif what == "made":
            life = self._life(entry)
            life.cgroup_id, life.pid, life.started = news.cgroup_id, 0, 0
            self._create(life, news.time)
        elif what == "recorded":
            self._create(self._life(entry), news.time)
        elif life is None:
            return
        elif what == "removed" and news.cgroup_id == life.cgroup_id:
            if life.stage == RUNNING:
                self._exit(life, news.time, _NO_CODE, 0, 0)
            self._registry.look_at(entry)
            if not entry.recorded:
                self._remove(life, news.time)
            life.cgroup_id = 0
        elif what == "erased" and not life.cgroup_id:
            self._remove(life, news.time)
        elif what == "changed" and life.stage:
            self._change(life, news)

    def _change(self, life: _Life, news: LifecycleEvent) -> None:
        before = news.before.container if news.before else None
        after = news.after.container if news.after else None
        if before is None or after is None:
            return
        if before.name and after.name and before.name != after.name:
            self._add(life, news.time, _RENAMED, pid=life.pid, previous_name=before.name)
        if before.state != after.state and PAUSED in {before.state, after.state}:
            # the file may be behind the kernel
            frozen = self._registry.is_frozen(life.entry, life.pid)
            self._pause(life, news.time, after.state == PAUSED if frozen is None else frozen)

    def _look_who_is_paused(self, now: int) -> None:
        began = monotonic_ns()
        self._glance = None
        for life in list(self._lives.values()):
            frozen = self._registry.is_frozen(life.entry, life.pid) if life.stage == RUNNING else None
            if frozen is not None:
                self._pause(life, now, frozen)
        ended = monotonic_ns()
        self._rested = ended + GLANCE_SHARE * (ended - began)

    def _sign(self, sign: _Sign) -> None:
        if sign.sign == _COMMANDED:
            if self._glance is None and not self._registry.hears_of_freezing:
                self._glance = max(sign.time, self._rested)
            return
        entry = self._registry.case_of(sign.cgroup_id)
        if entry is None:
            return
        life = self._life(entry)
        if sign.sign == _EXECUTED:
            # its own, and not another one's in a cgroup inside: systemd makes such
            if life.stage != RUNNING or (not life.started and life.pid in {0, sign.pid}):
                self._create(life, sign.time)
                life.stage, life.pid, life.started = RUNNING, sign.pid, sign.time
                self._add(life, sign.time, _STARTED, pid=sign.pid)
        elif sign.sign == _ENDED:
            if life.stage == RUNNING and life.pid == sign.pid:
                lasted = sign.time - (life.started or sign.start)
                self._exit(life, sign.time, sign.exit_code, sign.signal, lasted)
        elif sign.sign == _OUT_OF_MEMORY:
            self._add(life, sign.time, _OOM_KILLED, pid=sign.pid)
        elif life.cgroup_id == sign.cgroup_id:
            if sign.sign == _KILLED:
                self._take_back_pause(life)
            else:
                self._pause(life, sign.time, sign.sign == _FROZEN)

    # What happened

    def _life(self, entry: ContainerEntry) -> _Life:
        life = self._lives.get(entry)
        if life is None:
            life = self._lives[entry] = _Life(entry)
        return life

    def _create(self, life: _Life, then: int) -> None:
        if not life.stage:
            life.stage = CREATED
            self._add(life, then, _CREATED)

    def _pause(self, life: _Life, then: int, paused: bool) -> None:
        if life.stage == RUNNING and life.paused != paused:
            life.paused = paused
            self._add(life, then, _PAUSED if paused else _UNPAUSED, pid=life.pid)

    def _take_back_pause(self, life: _Life) -> None:
        """Leave a pause out that was not told yet; one that was told lasts until the end."""
        if life.rows and life.rows[-1]["event"] == _PAUSED:
            life.paused = False
            life.rows.pop()
            if not life.rows:
                del self._waiting[life.entry]

    def _exit(self, life: _Life, then: int, code: int, signal: int, lasted: int) -> None:
        life.stage, life.paused = EXITED, False
        self._add(
            life, then, _EXITED, pid=life.pid, exit_code=_SIGNALLED + signal if signal else code, signal=signal,
            duration_ns=max(1, lasted),
        )  # fmt: skip
        life.pid = life.started = 0

    def _remove(self, life: _Life, then: int) -> None:
        if life.stage:
            self._add(life, then, _REMOVED)
            life.stage = ""

    def _add(self, life: _Life, then: int, event: int, **values: Any) -> None:
        if not life.rows:
            life.since = monotonic_ns()
            self._waiting[life.entry] = life
        row = {"time": then, "event": event, "cgroup_id": life.cgroup_id, "exit_code": _NO_CODE}
        life.rows.append(row | values)

    # What is shown

    def _ripe(self, life: _Life, now: int, last: bool) -> list[tuple[dict[str, Any], Identity]]:
        """Return a container's rows once it has a name, or none will come."""
        identity = life.entry.identity
        if not last and now < _due(life):
            return []
        del self._waiting[life.entry]
        rows = list(life.rows)
        life.rows.clear()
        if not life.stage or identity is None:  # removed, or no container after all
            del self._lives[life.entry]
        return [(self._dated(row, identity), _as_of(row, identity)) for row in rows] if identity else []

    def _dated(self, row: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Set when a container was created to what its runtime says, where that can be."""
        if row["event"] == _CREATED and identity.container is not None and identity.container.created:
            created = identity.container.created - (time.time_ns() - monotonic_ns())
            if self._began <= created <= row["time"]:
                row["time"] = created
        return row


def _signs(batch: Batch) -> list[_Sign]:
    return list(map(_Sign, *(batch.raw(name) for name in _Sign._fields)))


def _due(life: _Life) -> int:
    """Return when the rows of a container that wait are told, in monotonic ns; 0 for at once."""
    identity, newest = life.entry.identity, life.rows[-1]
    sure = newest["time"] + KILL if newest["event"] == _PAUSED else 0
    if identity is None:
        return max(sure, life.since + DOUBT)
    return max(sure, life.since + HOLD) if identity.state == PENDING else sure


def _as_of(row: Mapping[str, Any], identity: Identity) -> Identity:
    """Return the identity with what the row itself tells: runtimes write their files later."""
    container, state = identity.container, _STATES.get(row["event"])
    if container is None or state is None:
        return identity
    pid = row.get("pid") if row["event"] == _STARTED else container.pid if state in {RUNNING, PAUSED} else 0
    return identity._replace(container=container._replace(state=state, pid=pid or 0))
