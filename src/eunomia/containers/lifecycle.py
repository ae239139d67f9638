# SPDX-License-Identifier: BSD-2-Clause
"""Lifecycle events: what happens to containers and to cgroups, told to all who listen until they leave."""

from __future__ import annotations

from collections.abc import Callable

from eunomia.containers.entry import ContainerEntry
from eunomia.identity import Identity
from eunomia.typing import NamedTuple

# What an event can be.
THERE = "there"  # its cgroup was there before anybody listened
MADE = "made"  # its own cgroup was made
REMOVED = "removed"  # its own cgroup was removed
CHANGED = "changed"  # what the runtime says of it
RECORDED = "recorded"  # its runtime keeps a record of it
ERASED = "erased"  # the record is gone

LIMIT = 65536  # events that wait for one listener

Subscriber = Callable[[int, Identity | None, str], None]


class LifecycleEvent(NamedTuple):
    """Something that happened to a container.

    ``time`` is the kernel's, monotonic nanoseconds, or else when it was noticed. ``cgroup_id`` is that of the
    container's own cgroup where the event is about that, else 0. ``before`` and ``after`` are the identities, of
    CHANGED; the entry's own may be a later one by now.
    """

    what: str
    entry: ContainerEntry
    time: int
    cgroup_id: int = 0
    before: Identity | None = None
    after: Identity | None = None


class Listener:
    """One who takes events, in the order in which they were learnt; ``lost`` are those he left lying too long."""

    def __init__(self, close: Callable[[Listener], None]) -> None:
        self._events: list[LifecycleEvent] = []
        self._close = close
        self.lost = 0

    def take(self) -> list[LifecycleEvent]:
        """Return what happened since this was last called."""
        events = self._events
        if events:
            self._events = []
        return events

    def close(self) -> None:
        """Listen no more; what was not taken is gone."""
        self._close(self)
        self._events = []

    def add(self, event: LifecycleEvent) -> None:
        """Keep an event until it is taken."""
        if len(self._events) < LIMIT:
            self._events.append(event)
        else:
            self.lost += 1


class Lifecycle:
    """Who wants to hear of containers (listeners) and of cgroups (subscribers)."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._subscribers: list[Subscriber] = []

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens to events of containers."""
        return bool(self._listeners)

    def listener(self) -> Listener:
        """Return a new listener, with a queue of its own."""
        listener = Listener(self._leave)
        self._listeners.append(listener)
        return listener

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber(cgroup id, identity, path)`` for each cgroup that changes, until the result is called."""
        self._subscribers.append(subscriber)

        def end() -> None:
            self._subscribers = [s for s in self._subscribers if s is not subscriber]

        return end

    def say(
        self, what: str, entry: ContainerEntry, then: int, cgroup_id: int = 0, before: Identity | None = None
    ) -> None:
        """Tell the listeners what happened to a container."""
        if self._listeners:
            event = LifecycleEvent(what, entry, then, cgroup_id, before, entry.identity)
            for listener in self._listeners:
                listener.add(event)

    def tell(self, cgroup_id: int, identity: Identity | None, path: str) -> None:
        """Tell the subscribers whose a cgroup is now; None where it is gone."""
        for subscriber in self._subscribers:
            subscriber(cgroup_id, identity, path)

    def _leave(self, listener: Listener) -> None:
        self._listeners = [one for one in self._listeners if one is not listener]
