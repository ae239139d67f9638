# SPDX-License-Identifier: BSD-2-Clause
"""Files that change on disk, each reported once it is complete.

Editors write a new file and rename it, linkers write in pieces, and ``make clean`` takes the directory away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Mapping

from eunomia.containers.file_watcher import FileWatcher
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import NamedTuple

_QUIET = 100_000_000  # ns that a file has to stay as it is


class _Look(NamedTuple):
    """What a file looks like from outside: another inode, size or time is another content, perhaps."""

    device: int
    inode: int
    size: int
    changed: int


class ChangedFiles:
    """Follows files by name, wherever symbolic links lead. One thread waits; any may :meth:`stop` it."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """Take paths by name; their present content is reported first."""
        self._paths = {name: os.path.abspath(path) for name, path in paths.items()}
        self._watcher = FileWatcher()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopped = False
        self._follow()
        self._known: dict[str, _Look | None] = dict.fromkeys(self._paths, _Look(0, 0, 0, 0))  # as reported last
        self._seen = dict(self._known)
        self._since = dict.fromkeys(self._paths, 0)  # when it was seen first as it is now

    def _follow(self) -> None:
        """Watch the directories in which the files are, or will be."""
        for name, path in self._paths.items():
            places = {_existing(os.path.dirname(p)) for p in (path, os.path.realpath(path))}
            self._watcher.watch(name, {*places, *map(os.path.dirname, places)})

    def wait(self) -> list[str]:
        """Wait for files that are whole and other than they were; return them, none when it was stopped."""
        poll = select.poll()
        poll.register(self._watcher.fd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopped:
            changed = [name for name in self._paths if self._has_changed(name)]
            if changed:
                return changed
            now = monotonic_ns()
            due = [self._since[n] + _QUIET for n in self._paths if self._seen[n] != self._known[n]]
            if (deadline := self._watcher.next_deadline()) is not None:
                due.append(deadline)
            poll.poll(max(1, (min(due) - now) // 10**6 + 1) if due else None)
            if self._watcher.take(monotonic_ns()):
                self._follow()
        return []

    def _has_changed(self, name: str) -> bool:
        now, look = monotonic_ns(), _look(self._paths[name])
        if look != self._seen[name]:
            self._seen[name], self._since[name] = look, now
        if look == self._known[name] or now < self._since[name] + _QUIET:
            return False
        if look is not None and is_written_to(self._paths[name]):
            self._since[name] = now
            return False
        self._known[name] = look
        return True

    def stop(self) -> None:
        """End the waiting, now and later."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Free the watches, after the last :meth:`wait`."""
        self._watcher.close()
        os.close(self._wake)


def _existing(directory: str) -> str:
    while not os.path.isdir(directory) and directory != "/":
        directory = os.path.dirname(directory)
    return directory


def _look(path: str) -> _Look | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _Look(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def is_written_to(path: str) -> bool:
    """Whether somebody has a file open to write to it, as far as its file system can tell."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # the kernel grants it only if there is no writer
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False
