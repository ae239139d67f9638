# SPDX-License-Identifier: BSD-2-Clause
"""The state file: which trackers run, so that a server that starts again runs them again.

The file is replaced as a whole: written under another name, synchronized, renamed. Whenever the server is killed, the
file is one that was written. A file that cannot be used is moved aside, which is reported, and the server starts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from msgspec import Raw, Struct

from eunomia.server import private_file
from eunomia.server.models import Generation, TrackerRequest
from eunomia.server.objects import LIMIT, Objects, digest_of

VERSION = 1
KEPT = 5  # generations before the current one, for rollback
_FILE = "state.json"
_LARGEST = 64 << 20  # bytes of a state file
_ASIDE = 3  # unusable files that are kept


class StateError(Exception):
    """The state directory cannot be used."""


class Entry(Struct, omit_defaults=True):
    """A tracker that is to run. ``generation`` is the number of the one that runs, one of ``generations``.

    ``stops`` is when it is to be stopped; empty for never.
    """

    id: str
    request: TrackerRequest
    started: str
    generation: int
    generations: list[Generation]
    stops: str = ""

    def objects(self) -> set[str]:
        """Return the digests of all objects that this tracker may run again."""
        return {g.object for g in self.generations} | {self.request.object}


def bounded(generations: Sequence[Generation], current: int, kept: int = KEPT) -> list[Generation]:
    """Return the current generation, all later ones, and the ``kept`` latest before it."""
    earlier = [g for g in generations if g.number < current]
    return [*earlier[max(0, len(earlier) - kept) :], *(g for g in generations if g.number >= current)]


class _Envelope(Struct):
    """What stands in the file: ``digest`` is that of the bytes of ``trackers``."""

    version: int
    digest: str
    trackers: Raw


class State:
    """The state directory: the file, and the objects that its trackers run.

    One process at a time has it open. Its methods may be called from any thread; they return when what they write
    is on the disk. Raises :class:`StateError`.
    """

    def __init__(self, directory: str, limit: int = LIMIT) -> None:
        """Open the directory, which is made if it is missing; ``limit`` is that of the bytes of its objects."""
        self.directory = directory
        self.said: list[str] = []  # what was wrong with the file that was found
        self._lock = Lock()
        try:
            private_file.check_directory(Path(directory))
            self._alone = _lock(directory)
            self.objects = Objects(Path(directory, "objects"), limit)
            self._entries = {entry.id: entry for entry in self._read()}
        except OSError as error:
            raise StateError(f"state directory {error.filename or directory}: {error.strerror or error}") from None
        self._collect()

    def close(self) -> None:
        """Let another process open the directory."""
        os.close(self._alone)

    @property
    def entries(self) -> list[Entry]:
        """The trackers that are to run, in the order in which they were started."""
        with self._lock:
            return list(self._entries.values())

    def put(self, entry: Entry) -> None:
        """Add a tracker, or change it; the generations that rollback cannot reach go, with their objects."""
        kept = msgspec.structs.replace(entry, generations=bounded(entry.generations, entry.generation))
        if entry.request.object and entry.request.object not in self.objects:
            raise StateError(f"object {entry.request.object} is not stored: upload it again")
        with self._lock:
            self._write({**self._entries, entry.id: kept})

    def remove(self, id_: str) -> None:
        """Forget a tracker; it is no error if there is none."""
        with self._lock:
            if id_ in self._entries:
                self._write({name: entry for name, entry in self._entries.items() if name != id_})

    # The file

    def _write(self, entries: dict[str, Entry]) -> None:
        body = msgspec.json.encode(list(entries.values()))
        data = msgspec.json.encode(_Envelope(VERSION, digest_of(body), Raw(body)))
        try:
            private_file.replace(Path(self.directory, _FILE), data)
            private_file.sync_directory(Path(self.directory))
        except OSError as error:
            raise StateError(f"the state cannot be written to {self.directory}: {error.strerror or error}") from None
        self._entries = entries
        self._collect()

    def _collect(self) -> None:
        """Remove the objects that nothing refers to."""
        try:
            self.objects.use({digest for entry in self._entries.values() for digest in entry.objects()})
        except OSError as error:  # what is not removed now is removed later
            self.said.append(f"old objects were not removed from {self.directory}: {error}")
            del self.said[:-_ASIDE]

    def _read(self) -> list[Entry]:
        path = os.path.join(self.directory, _FILE)
        with suppress(FileNotFoundError):  # the process was killed while it wrote
            os.unlink(f"{path}.new")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        with open(descriptor, "rb") as file:
            data = file.read(_LARGEST + 1)
        try:
            return decode(data)
        except ValueError as error:
            aside = _move_aside(path)
            self.said.append(
                f"{path}: {error}: no tracker is started again from it; the file was moved to {os.path.basename(aside)}"
            )
            return []


def decode(data: bytes) -> list[Entry]:
    """Return the trackers in the bytes of a state file. Raises :class:`ValueError` that says what is wrong."""
    if not data:
        raise ValueError("it is empty")
    if len(data) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST >> 20} MiB")
    try:
        found: Any = msgspec.json.decode(data, type=dict[str, Raw])
        version = msgspec.json.decode(found.get("version", b"null"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is broken: it is not whole, or not a state file") from None
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError("it is not a state file: it has no version")
    if version > VERSION:
        raise ValueError(f"a newer version of eunomia wrote it (format {version}; this one reads {VERSION})")
    if version < VERSION:
        raise ValueError(f"its format {version} is no longer read (this eunomia reads {VERSION})")
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        if digest_of(bytes(envelope.trackers)) != envelope.digest:
            raise ValueError("it is damaged: its content does not match its digest")
        entries: list[Entry] = msgspec.json.decode(envelope.trackers, type=list[Entry])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is damaged: {error}") from None
    return entries


def _move_aside(path: str) -> str:
    """Rename an unusable file; the oldest of those that were moved before gives way."""
    for at in range(1, _ASIDE):
        if not os.path.lexists(f"{path}.bad-{at}"):
            break
    else:
        at = _ASIDE
    if at == _ASIDE and os.path.lexists(f"{path}.bad-{at}"):
        for older in range(1, _ASIDE):
            os.replace(f"{path}.bad-{older + 1}", f"{path}.bad-{older}")
    os.replace(path, f"{path}.bad-{at}")
    return f"{path}.bad-{at}"


def _lock(directory: str) -> int:
    """Return a descriptor that keeps other processes out; the kernel releases it if this one is killed."""
    descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        process = f"process {who}" if who.isdigit() else "another process"
        raise StateError(f"state directory {directory}: {process} uses it: is a server running?") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor
