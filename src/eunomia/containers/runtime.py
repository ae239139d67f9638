# SPDX-License-Identifier: BSD-2-Clause
"""The door for container runtimes: one file each in ``runtimes/``, found on disk first, no polling.

A runtime is asked when a cgroup that may be one of its containers appears, again with growing pauses and for a
few seconds only while nobody knows it, and when a file that it named has changed. It keeps no table of its own.

It is asked in a thread of its own, where it may take its time. One that says ``quick = True`` is asked by the engine's
thread: it reads small files, by :class:`eunomia.containers.daemons.DataRoot` or after
:func:`eunomia.containers.blocking.check`, which refuse to read where that may hang; it is then asked in a thread, too.
A slow one may say by ``may_know(container_id, path)``, at once and from the names alone, that it
need not be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.identity import Container, Pod
from eunomia.metadata_limits import LEFT_OUT, TEXT_LIMIT, TEXTS_LIMIT, TEXTS_ROOM, bounded, texts, words
from eunomia.typing import NamedTuple, Protocol, runtime_checkable

# What runtimes read passes through eunomia.metadata_limits; its words are here for them.
__all__ = [
    "LEFT_OUT", "TEXTS_LIMIT", "TEXTS_ROOM", "TEXT_LIMIT",
    "Metadata", "Prefetching", "RecordKeeper", "Runtime", "Wakes", "bounded", "texts", "words",
]  # fmt: skip


class Metadata(NamedTuple):
    """What a runtime says of a container. One without a name: known, but its metadata can't be read (yet)."""

    container: Container
    pod: Pod | None = None


class Runtime(Protocol):
    """What the registry asks of a container runtime."""

    @property
    def name(self) -> str:
        """Return what ``container.runtime`` shows."""

    def recognises(self, parent: str, name: str) -> str:
        """Return the container id if a cgroup called ``name`` in ``parent`` is surely this runtime's.

        Asked by the engine's thread also of runtimes that are in a thread otherwise, and never waits.

        Both are single path components (``parent`` is empty below the root). Empty where the names alone
        don't tell; bare ids of 64 hex digits are looked up with every runtime anyway.
        """

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return what the runtime says about the container whose own cgroup is ``path``; None: not known.

        Never raises for what files or sockets hold.
        """

    def watches(self, container: Container, path: str) -> Sequence[str]:
        """Return files and directories that change when the container's metadata does.

        They are watched by inotify, so paths through ``/proc/PID/root`` will do. Asked after :meth:`lookup`.
        """

    def changed(self, container: Container, path: str) -> bool:
        """Whether the metadata was rewritten since the last :meth:`lookup` (cheap: asked of every container)."""


@runtime_checkable
class RecordKeeper(Runtime, Protocol):
    """A runtime that keeps a record of containers which do not run (yet, or any more)."""

    def places(self) -> Sequence[str]:
        """Return directories and files that change when a container gets a record, or loses it.

        Only those of daemons that speak for the whole machine: such a container has no cgroup yet that would tell
        whose word counts. :meth:`Runtime.lookup` is asked about it with an empty path.
        """

    def records(self, place: str) -> Sequence[str]:
        """Return the ids of the containers that have a record there; what is no id does no harm."""

    def keeps(self, container: Container, path: str) -> bool:
        """Whether there still is a record of the container; ``path`` is empty where it never had a cgroup."""


@runtime_checkable
class Prefetching(Runtime, Protocol):
    """A runtime whose files about a container may be gone a moment after the container is."""

    def hurried(self) -> Sequence[str]:
        """Return files that are to be read as a container's cgroup is made; ``{}`` in them stands for its id.

        What was read then is found by :meth:`eunomia.containers.daemons.DataRoot.read` where a file is gone.
        """


@runtime_checkable
class Wakes(Runtime, Protocol):
    """A runtime that answers at once what it knows, and learns more in threads of its own."""

    def wake_with(self, told: Callable[[str], None]) -> None:
        """Have ``told`` called, from any thread, with the id of a container that was asked for and is known now."""
