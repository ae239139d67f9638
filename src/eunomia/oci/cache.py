# SPDX-License-Identifier: BSD-2-Clause
"""What was pulled, on disk under its digest: the least recently used goes when there is too much.

Nothing in it is believed: bytes are returned only if they have the digest that was asked for. So another process may
write and remove files at any time; all who write take a lock, which keeps the sum below the bound.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from eunomia.oci.reference import digest_of, is_digest
from eunomia.oci.signatures import Signature
from eunomia.typing import NamedTuple

BOUND = 256 << 20  # bytes
_LOCK = "lock"
_UNFINISHED = "unfinished"


def place(environ: Mapping[str, str] = os.environ) -> str:
    """Return the directory of the cache; empty for a user without a home."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = "/var/cache" if os.geteuid() == 0 else os.path.expanduser("~/.cache")
    return os.path.join(base, "eunomia", "oci") if os.path.isabs(base) else ""


class _Entry(NamedTuple):
    used: int  # ns since the epoch
    size: int
    path: str


class Cache:
    """A directory of files named by digests; one that cannot be written is empty and stays so."""

    def __init__(self, directory: str, bound: int = BOUND) -> None:
        """Use a directory, which is made when something is stored; ``bound`` is in bytes."""
        self.directory = directory
        self.bound = bound

    def get(self, digest: str, size: int | None = None) -> bytes | None:
        """Return the bytes with a digest; None if they are not there, or damaged."""
        data = self._read(digest)
        if data is None or (size is not None and len(data) != size) or digest_of(data) != digest:
            return None
        return data

    def put(self, data: bytes) -> None:
        """Store bytes, and remove the least recently used others until the bound is kept."""
        self._write(digest_of(data), data)

    def signatures(self, digest: str) -> list[Signature]:
        """Return signatures that were stored for a digest; whoever asks verifies them."""
        from eunomia.oci.untrusted_json import Unreadable, decode

        try:
            return decode(self._read(f"{digest}.sig") or b"[]", list[Signature])
        except Unreadable:
            return []

    def put_signatures(self, digest: str, signatures: list[Signature]) -> None:
        """Store the signatures of a digest, instead of those that were."""
        import msgspec

        self._write(f"{digest}.sig", msgspec.json.encode(signatures))

    def _path(self, name: str) -> str:
        assert is_digest(name.removesuffix(".sig")), name
        return os.path.join(self.directory, name.replace(":", "-"))

    def _read(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_size > self.bound:
                    return None
                data = file.read(self.bound + 1)
                with suppress(OSError):  # who may only read it does not count
                    os.utime(descriptor)
        except OSError:
            return None
        return data

    def _write(self, name: str, data: bytes) -> None:
        if len(data) > self.bound:
            return
        with suppress(OSError), self._locked():  # without a cache everything works, and is pulled each time
            for unfinished in self._names(unfinished=True):
                os.unlink(unfinished)  # of a process that was killed: all others wait for the lock
            target = self._path(name)
            self._make_room(len(data), target)
            path = os.path.join(self.directory, _UNFINISHED)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                with open(descriptor, "wb") as file:
                    file.write(data)
                os.rename(path, target)
            except OSError:
                os.unlink(path)
                raise

    def _make_room(self, wanted: int, target: str) -> None:
        entries = sorted(entry for entry in self._entries() if entry.path != target)
        total = wanted + sum(entry.size for entry in entries)
        for entry in entries:
            if total <= self.bound:
                break
            os.unlink(entry.path)
            total -= entry.size

    def _entries(self) -> Iterator[_Entry]:
        for path in self._names(unfinished=False):
            about = os.lstat(path)
            yield _Entry(about.st_mtime_ns, about.st_size, path)

    def _names(self, *, unfinished: bool) -> list[str]:
        begin = _UNFINISHED if unfinished else "sha256-"
        return [os.path.join(self.directory, name) for name in os.listdir(self.directory) if name.startswith(begin)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        path = os.path.join(self.directory, _LOCK)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
