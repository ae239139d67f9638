# SPDX-License-Identifier: BSD-2-Clause
"""Uploaded objects by the digest of their bytes, in a directory with a bound."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from eunomia.server.problems import ApiError

LIMIT = 256 << 20  # bytes of all of them


def digest_of(data: bytes) -> str:
    """Return the name of an object: ``sha256:`` and its SHA-256."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Objects:
    """The objects below a directory; those that are not used go when there are too many, the oldest first."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self._directory = directory
        self._limit = limit
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, digest: str) -> Path:
        return self._directory / digest.removeprefix("sha256:")

    def put(self, data: bytes, used: frozenset[str] = frozenset()) -> str:
        """Keep an object, and return its digest; ``used`` are those that must not go."""
        digest = digest_of(data)
        path = self._path(digest)
        if path.exists():
            os.utime(path)
            return digest
        fd, unfinished = tempfile.mkstemp(dir=self._directory, prefix=".new-")
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, path)
        self._shrink(used | {digest})
        return digest

    def get(self, digest: str) -> bytes:
        """Return an object's bytes; raises :class:`ApiError` if it is not there, or not what its name says."""
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            raise ApiError(404, f"there is no object {digest}: upload it first", field="object") from None
        if digest_of(data) != digest:
            raise ApiError(500, f"object {digest} was changed on disk")
        return data

    def _shrink(self, used: frozenset[str]) -> None:
        found = sorted((p for p in self._directory.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime)
        size = sum(p.stat().st_size for p in found)
        for path in found:
            if size <= self._limit:
                return
            if f"sha256:{path.name}" not in used:
                size -= path.stat().st_size
                path.unlink(missing_ok=True)
