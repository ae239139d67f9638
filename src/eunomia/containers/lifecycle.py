# SPDX-License-Identifier: BSD-2-Clause
"""Lifecycle events of containers, and changes of cgroups, for listeners and subscribers."""

from __future__ import annotations

from collections.abc import Callable

from eunomia.containers.entry import ContainerEntry
from eunomia.identity import Identity
from eunomia.typing import NamedTuple

# Kinds of events.
EXISTING = "existing"  # its cgroup or record existed before the listener
MADE = "made"  # its own cgroup was made
REMOVED = "removed"  # its own cgroup was removed
CHANGED = "changed"  # its identity changed
RECORDED = "recorded"  # its runtime has made a record of it
ERASED = "erased"  # the record is gone

LIMIT = 65536  # events in a listener's queue

Subscriber = Callable[[int, Identity | None, str], None]


class LifecycleEvent(NamedTuple):
    """Something that happened to a container.

    ``time`` is the kernel's (monotonic nanoseconds), or else when it was noticed. ``cgroup_id`` is the container's own
    cgroup if the event is about that, else 0. ``before`` and ``after`` are the identities, of CHANGED; the entry may
    have a later one by now.
    """

    kind: str
    entry: ContainerEntry
    time: int
    cgroup_id: int = 0
    before: Identity | None = None
    after: Identity | None = None


class Listener:
    """A queue of events, in the order in which they were noticed; ``lost`` counts those that found it full."""

    def __init__(self, close: Callable[[Listener], None]) -> None:
        self._events: list[LifecycleEvent] = []
        self._close = close
        self.lost = 0

    def take(self) -> list[LifecycleEvent]:
        """Return the events since the last call."""
        events = self._events
        if events:
            self._events = []
        return events

    def close(self) -> None:
        """Stop listening and drop the queue."""
        self._close(self)
        self._events = []

    def add(self, event: LifecycleEvent) -> None:
        """Add an event to the queue."""
        if len(self._events) < LIMIT:
            self._events.append(event)
        else:
            self.lost += 1


class Lifecycle:
    """The listeners to events of containers, and the subscribers to changes of cgroups."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._subscribers: list[Subscriber] = []

    @property
    def has_listeners(self) -> bool:
        """Whether there are listeners to events of containers."""
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

    def emit(
        self, kind: str, entry: ContainerEntry, then: int, cgroup_id: int = 0, before: Identity | None = None
    ) -> None:
        """Add an event to each listener's queue."""
        if self._listeners:
            event = LifecycleEvent(kind, entry, then, cgroup_id, before, entry.identity)
            for listener in self._listeners:
                listener.add(event)

    def notify(self, cgroup_id: int, identity: Identity | None, path: str) -> None:
        """Call the subscribers with a cgroup's identity; None if it was removed."""
        for subscriber in self._subscribers:
            subscriber(cgroup_id, identity, path)

    def _leave(self, listener: Listener) -> None:
        self._listeners = [one for one in self._listeners if one is not listener]
