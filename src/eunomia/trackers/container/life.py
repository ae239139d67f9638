# SPDX-License-Identifier: BSD-2-Clause
"""Maker of this tracker's rows, from records of the kernel ("signs") and lifecycle events of the registry."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence

from eunomia.batch import Batch
from eunomia.identity import CREATED, EXITED, PAUSED, PENDING, RUNNING, Identity
from eunomia.kernel_clock import monotonic_ns
from eunomia.trackers.container import life_event
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.containers.entry import ContainerEntry
    from eunomia.containers.lifecycle import LifecycleEvent
    from eunomia.containers.registry import Registry
    from eunomia.kernel.loaded import Loaded

HOLD = 1_000_000_000  # ns that rows wait for a name
FREEZER_SHARE = 20  # reads of the v1 freezer take at most one part in this of the time
KILL = 200_000_000  # ns that a pause waits: runc freezes containers to kill them, which is no pause
DOUBT = 5_000_000_000  # ns that rows wait until it is known whether it is a container

# enum sign of container.bpf.c
_EXECUTED, _ENDED, _OUT_OF_MEMORY, _FROZEN, _THAWED, _COMMANDED, _KILLED = range(1, 8)

# A container's state after each event.
_STATES = {
    life_event.CREATED: CREATED,
    life_event.STARTED: RUNNING,
    life_event.PAUSED: PAUSED,
    life_event.UNPAUSED: RUNNING,
    life_event.EXITED: EXITED,
    life_event.REMOVED: EXITED,
}

_SIGNALLED = 128  # added to a signal, as shells and runtimes do


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
    """The state of a container; ``stage`` is empty before its first event."""

    __slots__ = ("cgroup_id", "entry", "paused", "pid", "rows", "since", "stage", "started")

    def __init__(self, entry: ContainerEntry) -> None:
        self.entry = entry
        self.stage = ""
        self.cgroup_id = 0  # of its own cgroup, while that exists
        self.pid = 0
        self.started = 0
        self.paused = False
        self.rows: deque[dict[str, Any]] = deque()  # that wait
        self.since = 0  # when the first of them was made


class Life:
    """The deriver of this tracker; see :class:`eunomia.tracker.Deriver`."""

    def __init__(self, registry: Registry, live: Loaded) -> None:
        """Take the registry of containers and the live probe."""
        self._registry = registry
        self._firsts = live.maps["firsts"]
        self._lives: dict[ContainerEntry, _Life] = {}
        self._waiting: dict[ContainerEntry, _Life] = {}  # those with rows that wait
        self._later: list[_Sign | LifecycleEvent] = []
        self._freezer_due: int | None = None  # when to read the v1 freezer
        self._freezer_rest = 0  # when it may be read again
        self._began = monotonic_ns()

    def start(self, news: Sequence[LifecycleEvent]) -> None:
        """Take the containers that run already, and make the probe report their ends."""
        for one in news:
            if one.kind == "existing":
                self._existing(one)

    def rows(
        self, raw: Mapping[str, Sequence[Batch]], news: Sequence[LifecycleEvent], until: int, last: bool
    ) -> list[Batch]:
        """Return the rows since the last call, at most one batch; see :class:`eunomia.tracker.Deriver`."""
        todo = [*self._later, *news, *(sign for batch in raw["raw_sign"] for sign in _signs(batch))]
        self._later = []
        if todo:
            # events that user space noticed have later times than the kernel's records
            for one in sorted(todo, key=lambda one: one.time):
                if one.time > until and not last:
                    self._later.append(one)
                elif isinstance(one, _Sign):
                    self._sign(one)
                else:
                    self._take(one, until)
        if self._freezer_due is not None and self._freezer_due <= until:
            self._read_freezer(until)
        if not self._waiting:
            return []
        ripe = [row for life in list(self._waiting.values()) for row in self._ripe(life, until, last)]
        if not ripe:
            return []
        ripe.sort(key=lambda row: row[0]["time"])
        batch = Batch.made(life_event.LIFE_EVENT, [row for row, _ in ripe], [identity for _, identity in ripe])
        batch.stream = "life"
        return [batch]

    def next_deadline(self) -> int | None:
        """Return when rows that wait for a name are due, or events that wait for the kernel's records."""
        due = [_due(life) for life in self._waiting.values()]
        due += [one.time for one in self._later]
        return min(due if self._freezer_due is None else [*due, self._freezer_due], default=None)

    # Lifecycle events and signs

    def _existing(self, news: LifecycleEvent) -> None:
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

    def _take(self, news: LifecycleEvent, now: int) -> None:
        kind, entry = news.kind, news.entry
        life = self._lives.get(entry)
        if kind == "existing":
            self._existing(news)
        elif kind == "made":
            life = self._life(entry)
            life.cgroup_id, life.pid, life.started = news.cgroup_id, 0, 0
            self._create(life, news.time)
        elif kind == "recorded":
            self._create(self._life(entry), news.time)
        elif life is None:
            return
        elif kind == "removed" and news.cgroup_id == life.cgroup_id:
            if life.stage == RUNNING:
                self._exit(life, news.time, life_event.NO_EXIT_CODE, 0, 0)
            self._registry.recheck_entry(entry)
            if not entry.recorded:
                self._remove(life, news.time)
            life.cgroup_id = 0
        elif kind == "erased" and not life.cgroup_id:
            self._remove(life, news.time)
        elif kind == "changed" and life.stage:
            self._change(life, news)

    def _change(self, life: _Life, news: LifecycleEvent) -> None:
        before = news.before.container if news.before else None
        after = news.after.container if news.after else None
        if before is None or after is None:
            return
        if before.name and after.name and before.name != after.name:
            self._add(life, news.time, life_event.RENAMED, pid=life.pid, previous_name=before.name)
        if before.state != after.state and PAUSED in {before.state, after.state}:
            # the file may be older than the kernel's state
            frozen = self._registry.is_frozen(life.entry, life.pid)
            self._pause(life, news.time, after.state == PAUSED if frozen is None else frozen)

    def _read_freezer(self, now: int) -> None:
        began = monotonic_ns()
        self._freezer_due = None
        for life in list(self._lives.values()):
            frozen = self._registry.is_frozen(life.entry, life.pid) if life.stage == RUNNING else None
            if frozen is not None:
                self._pause(life, now, frozen)
        ended = monotonic_ns()
        self._freezer_rest = ended + FREEZER_SHARE * (ended - began)

    def _sign(self, sign: _Sign) -> None:
        if sign.sign == _COMMANDED:
            if self._freezer_due is None and not self._registry.reports_freezing:
                self._freezer_due = max(sign.time, self._freezer_rest)
            return
        entry = self._registry.container_of(sign.cgroup_id)
        if entry is None:
            return
        life = self._life(entry)
        if sign.sign == _EXECUTED:
            # the container's first program, not the first in a cgroup inside it, as systemd makes
            if life.stage != RUNNING or (not life.started and life.pid in {0, sign.pid}):
                self._create(life, sign.time)
                life.stage, life.pid, life.started = RUNNING, sign.pid, sign.time
                self._add(life, sign.time, life_event.STARTED, pid=sign.pid)
        elif sign.sign == _ENDED:
            if life.stage == RUNNING and life.pid == sign.pid:
                lasted = sign.time - (life.started or sign.start)
                self._exit(life, sign.time, sign.exit_code, sign.signal, lasted)
        elif sign.sign == _OUT_OF_MEMORY:
            self._add(life, sign.time, life_event.OOM_KILLED, pid=sign.pid)
        elif life.cgroup_id == sign.cgroup_id:
            if sign.sign == _KILLED:
                self._withdraw_pause(life)
            else:
                self._pause(life, sign.time, sign.sign == _FROZEN)

    # Events

    def _life(self, entry: ContainerEntry) -> _Life:
        life = self._lives.get(entry)
        if life is None:
            life = self._lives[entry] = _Life(entry)
        return life

    def _create(self, life: _Life, then: int) -> None:
        if not life.stage:
            life.stage = CREATED
            self._add(life, then, life_event.CREATED)

    def _pause(self, life: _Life, then: int, paused: bool) -> None:
        if life.stage == RUNNING and life.paused != paused:
            life.paused = paused
            self._add(life, then, life_event.PAUSED if paused else life_event.UNPAUSED, pid=life.pid)

    def _withdraw_pause(self, life: _Life) -> None:
        """Drop a pause whose row still waits; one that was shown lasts until the end."""
        if life.rows and life.rows[-1]["event"] == life_event.PAUSED:
            life.paused = False
            life.rows.pop()
            if not life.rows:
                del self._waiting[life.entry]

    def _exit(self, life: _Life, then: int, code: int, signal: int, lasted: int) -> None:
        life.stage, life.paused = EXITED, False
        self._add(
            life, then, life_event.EXITED, pid=life.pid, exit_code=_SIGNALLED + signal if signal else code,
            signal=signal, duration_ns=max(1, lasted),
        )  # fmt: skip
        life.pid = life.started = 0

    def _remove(self, life: _Life, then: int) -> None:
        if life.stage:
            self._add(life, then, life_event.REMOVED)
            life.stage = ""

    def _add(self, life: _Life, then: int, event: int, **values: Any) -> None:
        if not life.rows:
            life.since = monotonic_ns()
            self._waiting[life.entry] = life
        row = {"time": then, "event": event, "cgroup_id": life.cgroup_id, "exit_code": life_event.NO_EXIT_CODE}
        life.rows.append(row | values)

    # Rows

    def _ripe(self, life: _Life, now: int, last: bool) -> list[tuple[dict[str, Any], Identity]]:
        """Return a container's rows if it has a name, or the time for one is over."""
        identity = life.entry.identity
        if not last and now < _due(life):
            return []
        del self._waiting[life.entry]
        rows = list(life.rows)
        life.rows.clear()
        if not life.stage or identity is None:  # removed, or not a container
            del self._lives[life.entry]
        return [(self._dated(row, identity), _as_of(row, identity)) for row in rows] if identity else []

    def _dated(self, row: dict[str, Any], identity: Identity) -> dict[str, Any]:
        """Set the time of a creation to the runtime's, if that is plausible."""
        if row["event"] == life_event.CREATED and identity.container is not None and identity.container.created:
            created = identity.container.created - (time.time_ns() - monotonic_ns())
            if self._began <= created <= row["time"]:
                row["time"] = created
        return row


def _signs(batch: Batch) -> list[_Sign]:
    return list(map(_Sign, *(batch.raw(name) for name in _Sign._fields)))


def _due(life: _Life) -> int:
    """Return when a container's waiting rows are due, in monotonic ns; 0 for now."""
    identity, newest = life.entry.identity, life.rows[-1]
    certain = newest["time"] + KILL if newest["event"] == life_event.PAUSED else 0
    if identity is None:
        return max(certain, life.since + DOUBT)
    return max(certain, life.since + HOLD) if identity.state == PENDING else certain


def _as_of(row: Mapping[str, Any], identity: Identity) -> Identity:
    """Return the identity with the row's own state: runtimes write their files later."""
    container, state = identity.container, _STATES.get(row["event"])
    if container is None or state is None:
        return identity
    pid = row.get("pid") if row["event"] == life_event.STARTED else container.pid if state in {RUNNING, PAUSED} else 0
    return identity._replace(container=container._replace(state=state, pid=pid or 0))
