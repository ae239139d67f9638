# SPDX-License-Identifier: BSD-2-Clause
"""Objects by digest, in a directory: those that run, those that rollback may need, and the latest uploads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Lock

from eunomia.server import private_file
from eunomia.server.problems import ApiError

LIMIT = 256 << 20  # bytes of all objects
SPARE = 64 << 20  # bytes of those that nothing uses
_SPARE_FILES = 256
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """Return the name of an object: ``sha256:`` and its SHA-256."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Objects:
    """A content-addressed store of a bounded size.

    Objects that are in use stay. Of the others the latest stay, so that an upload can be started later, or again.
    Its methods may be called from any thread.
    """

    def __init__(self, directory: Path, limit: int = LIMIT, spare: int = SPARE) -> None:
        """Open the store; raises :class:`OSError`."""
        private_file.check_directory(directory)
        self._directory = directory
        self._limit = limit
        self._spare = spare
        self._lock = Lock()
        self._used: frozenset[str] = frozenset()
        for unfinished in directory.glob("*.new"):  # of a process that was killed
            unfinished.unlink()

    def put(self, data: bytes, used: Collection[str] = ()) -> str:
        """Keep an object; return its digest. ``used`` are those that must not go, beside those of :meth:`use`.

        Raises :class:`ApiError` if there is no room.
        """
        digest = digest_of(data)
        path = self._path(digest)
        with self._lock:
            if self._is_whole(digest):
                os.utime(path)
                return digest
            if not self._make_room(len(data), self._used | frozenset(used)):
                size = f"{len(data)} bytes: those that run have most of {self._limit}"
                raise ApiError(507, f"no room for an object of {size}; stop some")
            private_file.replace(path, data)
            private_file.sync_directory(self._directory)
        return digest

    def get(self, digest: str) -> bytes:
        """Return an object's bytes; raises :class:`ApiError` if it is not there, or not what its name says."""
        try:
            data = self._path(digest).read_bytes()
        except (OSError, ValueError):
            raise ApiError(404, f"there is no object {digest}: upload it first", field="object") from None
        if digest_of(data) != digest:
            raise ApiError(500, f"object {digest} was changed on disk")
        return data

    def __contains__(self, digest: str) -> bool:
        """Whether an object is stored."""
        return _DIGEST.fullmatch(digest) is not None and self._path(digest).exists()

    def __iter__(self) -> Iterator[str]:
        """Yield the digests of all objects."""
        return (f"sha256:{name}" for name, _ in self._stored())

    def use(self, used: Collection[str]) -> None:
        """Keep these objects from now on, and of the others as many as may stay. Raises :class:`OSError`."""
        with self._lock:
            self._used = frozenset(used)
            self._make_room(0, self._used)

    def _make_room(self, needed: int, used: frozenset[str]) -> bool:
        """Remove the oldest objects that nothing uses, until ``needed`` more bytes fit; False if they cannot."""
        stored = self._stored()
        total = sum(found.st_size for _, found in stored)
        unused = [(name, found) for name, found in stored if f"sha256:{name}" not in used]
        unused.sort(key=lambda one: one[1].st_mtime_ns)
        spare = sum(found.st_size for _, found in unused)
        if needed and total - spare + needed > self._limit:
            return False
        while unused and (total + needed > self._limit or spare + needed > self._spare or len(unused) > _SPARE_FILES):
            name, found = unused.pop(0)
            (self._directory / name).unlink(missing_ok=True)
            total -= found.st_size
            spare -= found.st_size
        return True

    def _stored(self) -> list[tuple[str, os.stat_result]]:
        with os.scandir(self._directory) as entries:
            return [(entry.name, entry.stat()) for entry in entries if _NAME.fullmatch(entry.name)]

    def _path(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"{digest!r} is no digest")
        return self._directory / match[1]

    def _is_whole(self, digest: str) -> bool:
        try:
            self.get(digest)
        except ApiError:
            return False
        return True
