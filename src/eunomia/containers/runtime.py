# SPDX-License-Identifier: BSD-2-Clause
"""Interface of container runtimes: one module each in ``runtimes/``, which reads the runtime's files.

A runtime is asked when a cgroup appears that may be one of its containers, again with growing pauses for a few seconds
while no runtime knows it, and when a file that it named has changed. It keeps no table of containers.

It is asked in a worker thread, where it may block. One with ``quick = True`` is asked by the engine's thread: it reads
small files, by :class:`eunomia.containers.daemons.DataRoot` or after :func:`eunomia.containers.blocking.check`, which
refuse reads that may block; after such a refusal it is asked in a thread, too. A slow one may say by
``may_know(container_id, path)``, without waiting and from the names alone, that it need not be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.identity import Container, Pod
from eunomia.metadata_limits import LEFT_OUT, TEXT_LIMIT, TEXTS_LIMIT, TEXTS_ROOM, bounded, texts, words
from eunomia.typing import NamedTuple, Protocol, runtime_checkable

# Runtimes limit what they read by eunomia.metadata_limits, which is exported here for them.
__all__ = [
    "LEFT_OUT", "TEXTS_LIMIT", "TEXTS_ROOM", "TEXT_LIMIT",
    "Metadata", "Prefetching", "RecordKeeper", "Runtime", "Wakes", "bounded", "texts", "words",
]  # fmt: skip


class Metadata(NamedTuple):
    """A runtime's answer about a container. Without a name: known, but its metadata can't be read (yet)."""

    container: Container
    pod: Pod | None = None


class Runtime(Protocol):
    """The questions that the registry asks a container runtime."""

    @property
    def name(self) -> str:
        """Return what ``container.runtime`` shows."""

    def recognises(self, parent: str, name: str) -> str:
        """Return the container id if a cgroup called ``name`` in ``parent`` is certainly this runtime's.

        Always called by the engine's thread; it must not block. Both are single path components (``parent`` is empty
        below the root). Empty if the names alone don't say; bare ids of 64 hex digits are looked up with every
        runtime anyway.
        """

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return the metadata of the container whose own cgroup is ``path``; None if the runtime does not know it.

        Never raises for invalid content of files or sockets.
        """

    def watches(self, container: Container, path: str) -> Sequence[str]:
        """Return files and directories that change when the container's metadata does.

        They are watched by inotify; paths through ``/proc/PID/root`` are fine. Called after :meth:`lookup`.
        """

    def changed(self, container: Container, path: str) -> bool:
        """Whether the metadata has changed since the last :meth:`lookup` (cheap: called for every container)."""


@runtime_checkable
class RecordKeeper(Runtime, Protocol):
    """A runtime that keeps records of containers before and after they run."""

    def places(self) -> Sequence[str]:
        """Return directories and files that change when a record is made or removed.

        Only those of daemons that are trusted for the whole machine, because such a container has no cgroup by which to
        judge that. :meth:`Runtime.lookup` is called for it with an empty path.
        """

    def records(self, place: str) -> Sequence[str]:
        """Return the ids of the containers that have a record there; other names are ignored."""

    def has_record(self, container: Container, path: str) -> bool:
        """Whether there is a record of the container; ``path`` is empty if it never had a cgroup."""


@runtime_checkable
class Prefetching(Runtime, Protocol):
    """A runtime that removes a container's files soon after its end."""

    def prefetched(self) -> Sequence[str]:
        """Return files to read when a container's cgroup is made; ``{}`` in them stands for its id.

        :meth:`eunomia.containers.daemons.DataRoot.read` returns that content if a file is gone.
        """


@runtime_checkable
class Wakes(Runtime, Protocol):
    """A runtime that answers from memory, and gets its answers in threads of its own."""

    def notify_with(self, notify: Callable[[str], None]) -> None:
        """Call ``notify``, from any thread, with the id of a container that was asked for and is known now."""
