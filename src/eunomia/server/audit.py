# SPDX-License-Identifier: BSD-2-Clause
"""Writes the audit log: one line for each control action, added at the end and on the disk before it counts.

Nothing that was written is ever changed or cut off. If a writer is killed in the middle of a line, the next one ends
that line and adds a record that has the length and the SHA-256 of the bytes that are no record.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from eunomia.server import private_file
from eunomia.server.audit_chain import LONGEST, RECOVERED, Head, Record, decode, encode, parse_head

SIZE = 64 << 20  # bytes at which a new file is begun
_BLOCK = 2 * LONGEST


def directory_of(state: Path) -> Path:
    """Return the directory of the log in a state directory."""
    return state / "audit"


def current(directory: Path) -> Path:
    """Return the path of the file that is written."""
    return directory / "audit.jsonl"


def kept_head_path(directory: Path) -> Path:
    """Return the path of the file that has the number and hash of the last record."""
    return directory / "audit.head"


def files(directory: Path) -> list[Path]:
    """Return the files of the log, the oldest first."""
    older = sorted(directory.glob("audit-" + "[0-9]" * 18 + ".jsonl"))
    return [*older, *([current(directory)] if current(directory).exists() else [])]


def kept_head(directory: Path) -> Head | None:
    """Return the number and hash of the last record, as kept beside the log; None if that cannot be read."""
    try:
        opened = os.open(kept_head_path(directory), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(opened, "rb") as file:
            return parse_head(file.read(100).decode("ascii"))
    except (OSError, ValueError):
        return None


class _Tail(NamedTuple):
    """How a file ends: the last record, and the bytes behind it that are none."""

    last: Record | None
    torn: bytes
    ended: bool  # the file ends with a newline, or is empty


class Action:
    """A control action that is under way. ``outcome`` and ``details`` go into the record of its end."""

    def __init__(self) -> None:
        self.outcome = "done"
        self.details: dict[str, Any] = {}


class AuditLog:
    """Adds records to the log of a directory. Several threads and processes may do so: each waits for the others.

    ``size`` is that in bytes at which a new file is begun, 0 for never. A method raises :class:`OSError` if the record
    is not on the disk; an action that cannot be recorded should not be done.
    """

    def __init__(self, directory: Path, size: int = SIZE) -> None:
        private_file.make_directory(directory)
        self.directory = directory
        self._size = size
        self._lock = Lock()
        self._file = -1
        self._known: tuple[int, ...] = ()  # device, inode and size of the file as this process left it
        self._head = Head()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._forget()

    def append(
        self,
        who: Mapping[str, Any],
        action: str,
        target: str,
        outcome: str,
        details: Mapping[str, Any] | None = None,
    ) -> Head:
        """Add a record; return its number and hash once it is on the disk."""
        with self._lock, private_file.locked(self.directory / "audit.lock"):
            try:
                self._catch_up()
                self._rotate()
                return self._write(who, action, target, outcome, details or {})
            except BaseException:
                self._forget()  # what is in the file now is read again
                raise

    @contextmanager
    def action(
        self, who: Mapping[str, Any], action: str, target: str, details: Mapping[str, Any] | None = None
    ) -> Iterator[Action]:
        """Record that an action begins, and how it ended: ``done``, or ``failed`` with the error that it raised.

        A killed server leaves the first record without the second, and so does not hide what it was about to do.
        """
        begun = self.append(who, action, target, "begun", details)
        under_way = Action()
        try:
            yield under_way
        except BaseException as error:
            said = str(error) or type(error).__name__
            self.append(who, action, target, "failed", {"begun": begun.sequence, "error": said, **under_way.details})
            raise
        self.append(who, action, target, under_way.outcome, {"begun": begun.sequence, **under_way.details})

    # With the lock held

    def _forget(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._known = -1, ()

    def _catch_up(self) -> None:
        """Open the file if another process has changed it; find the last record, and cover torn bytes."""
        with suppress(FileNotFoundError):
            if self._known and self._known == _place(os.stat(current(self.directory), follow_symlinks=False)):
                return
        self._forget()
        is_new = not current(self.directory).exists()
        self._file = private_file.create(current(self.directory), os.O_RDWR | os.O_APPEND)
        if is_new:
            private_file.sync_directory(self.directory)
        self._head, tail = _end(self.directory)
        if not tail.ended or tail.torn:
            self._end_the_line(tail)

    def _end_the_line(self, tail: _Tail) -> None:
        """End a line that was cut short; if that is no record, say what was found there."""
        if not tail.torn:  # a whole record, but for its newline
            self._put(b"\n")
            return
        torn = tail.torn if not tail.ended else tail.torn[:-1]
        details = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
        line, head = encode(self._head, local(), RECOVERED, current(self.directory).name, "done", details=details)
        self._put((b"" if tail.ended else b"\n") + line + b"\n")
        self._keep(head)

    def _rotate(self) -> None:
        """Begin a new file if this one is large; its name tells the last record in it."""
        if not self._size or os.fstat(self._file).st_size < self._size:
            return
        older = self.directory / f"audit-{self._head.sequence:018d}.jsonl"
        if older.exists():  # somebody has put it there
            return
        try:
            current(self.directory).rename(older)
        except PermissionError:  # chattr +a
            return
        self._forget()
        self._file = private_file.create(current(self.directory), os.O_RDWR | os.O_APPEND)
        private_file.sync_directory(self.directory)

    def _write(
        self, who: Mapping[str, Any], action: str, target: str, outcome: str, details: Mapping[str, Any]
    ) -> Head:
        line, head = encode(self._head, who, action, target, outcome, details=details)
        self._put(line + b"\n")
        self._keep(head)
        return head

    def _put(self, content: bytes) -> None:
        written = os.write(self._file, content)  # at once, so that readers see whole lines
        os.fsync(self._file)
        if written != len(content):
            raise OSError(28, "the disk is full: the audit log's last line is cut short", str(current(self.directory)))

    def _keep(self, head: Head) -> None:
        private_file.replace(kept_head_path(self.directory), f"{head}\n".encode())
        self._head, self._known = head, _place(os.fstat(self._file))


def local() -> dict[str, Any]:
    """Return who runs this process, for records: uid, pid, and the user who logged in, if the kernel knows."""
    who: dict[str, Any] = {"kind": "local", "uid": os.getuid(), "pid": os.getpid()}
    with suppress(OSError, ValueError):
        login = int(Path("/proc/self/loginuid").read_text())
        if login != (1 << 32) - 1:
            who["login_uid"] = login
    return who


def snapshot(directory: Path) -> tuple[list[tuple[Path, int]], Head | None]:
    """Return the files of the log with their sizes, and the kept head, as they are between two records."""
    with _quiet(directory):
        return [(path, path.stat().st_size) for path in files(directory)], kept_head(directory)


@contextmanager
def _quiet(directory: Path) -> Iterator[None]:
    """Keep writers out, if this user may."""
    try:
        lock = os.open(directory / "audit.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def head(directory: Path) -> Head:
    """Return the number and hash of the last record; ``0:0...`` if there is none."""
    with _quiet(directory):
        return _end(directory)[0]


def _end(directory: Path) -> tuple[Head, _Tail]:
    """Return the end of the chain, and how the current file ends.

    If the head that is kept beside the log is ahead of the log, records have been removed from its end. The chain
    goes on from the kept head all the same: the gap stays, and verify finds it.
    """
    found, last = _Tail(None, b"", True), None
    for path in reversed(files(directory)):
        tail = _tail(path)
        if path == current(directory):
            found = tail
        last = tail.last
        if last is not None:
            break
    kept = kept_head(directory)
    in_log = last.head if last is not None else Head()
    return (kept if kept is not None and kept.sequence > in_log.sequence else in_log), found


def _place(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size


def _tail(path: Path) -> _Tail:
    """Return how a file ends; it is read from its end, back to the last record."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        length = _BLOCK
        while True:
            length = min(length, size)
            file.seek(size - length)
            content = file.read(length)
            found = _tail_of(content, whole=length == size)
            if found is not None:
                return found
            length *= 8


def _tail_of(content: bytes, *, whole: bool) -> _Tail | None:
    """Return how a file ends with this content; None if more of it is needed."""
    ended = not content or content.endswith(b"\n")
    at = len(content) - 1 if ended else len(content)  # where the last line ends
    while at > 0:
        begin = content.rfind(b"\n", 0, at) + 1
        if begin == 0 and not whole:
            break
        record = decode(content[begin:at])
        if isinstance(record, Record):
            return _Tail(record, content[at + 1 :], ended)
        at = begin - 1
    return _Tail(None, content, ended) if whole else None
