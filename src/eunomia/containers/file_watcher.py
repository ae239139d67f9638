# SPDX-License-Identifier: BSD-2-Clause
"""Watcher of files by inotify(7): says which owners' files have changed.

Owners (mostly containers) name paths; a path of several owners is watched once. Changes are reported by owner, not by
path: the owner reads its files again. Endless writes to a watched directory, possible from inside a container, cost a
few wakeups a second and no more.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
from collections.abc import Callable, Hashable, Iterable

from eunomia._native import ffi, lib
from eunomia.containers.remote_mounts import may_hang
from eunomia.kernel_clock import monotonic_ns

PAUSE = 200_000_000  # ns between two reads, after ...
BURST = 5  # ... so many in a row
GAP = 10_000_000  # ns between any two reads
FALLBACK = 5_000_000_000  # ns between two checks of files that could not be watched

# include/uapi/linux/inotify.h
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_Q_OVERFLOW, _IGNORED = 0x4000, 0x8000
_DONT_FOLLOW, _EXCL_UNLINK = 0x2000000, 0x4000000
# in directories, files count when they are closed: logs are written without end
_OF_DIRECTORIES = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_OF_FILES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_HEAD = struct.Struct("=iIII")
_ROOM = 64 << 10  # bytes read at once


class FileWatcher:
    """Watches paths on behalf of owners. ``fd`` is readable when :meth:`take` has something to report.

    ``unwatched`` are owners with a path that the kernel could not watch (``max_user_watches``, or no inotify at all):
    they are reported as changed every few seconds.
    """

    def __init__(self, clock: Callable[[], int] = monotonic_ns) -> None:
        """Watch nothing yet; ``clock`` gives monotonic nanoseconds."""
        self._clock = clock
        self.unwatched: set[Hashable] = set()
        self._owners: dict[str, set[Hashable]] = {}  # by path
        self._paths: dict[Hashable, frozenset[str]] = {}  # by owner
        self._watches: dict[str, int] = {}  # by path
        self._watched: dict[int, set[str]] = {}  # the paths by watch: names of one inode share one
        self._epoll = select.epoll()
        self._inotify = -1
        self._armed = True
        self._last_read = 0  # when events were last read
        self._again = 0  # when to read again
        self._tokens = float(BURST)
        self._fallback = 0

    @property
    def fd(self) -> int:
        """The descriptor that is readable when something has changed and a read is due."""
        return self._epoll.fileno()

    def watch(self, owner: Hashable, paths: Iterable[str]) -> None:
        """Watch only these paths for an owner; paths that don't exist are skipped.

        Call it again when a path may have been created.
        """
        wanted = frozenset(paths)
        for path in self._paths.get(owner, frozenset()) - wanted:
            self._leave(owner, path)
        self.unwatched.discard(owner)
        self._paths[owner] = wanted
        for path in wanted:
            self._owners.setdefault(path, set()).add(owner)
            if not self._add(path):
                if not self.unwatched:
                    self._fallback = self._clock() + FALLBACK
                self.unwatched.add(owner)

    def forget(self, owner: Hashable) -> None:
        """Stop watching for an owner."""
        for path in self._paths.pop(owner, ()):
            self._leave(owner, path)
        self.unwatched.discard(owner)

    def take(self, now: int) -> set[Hashable]:
        """Return the owners whose paths have changed; empty if it is too soon to read again."""
        changed: set[Hashable] = set()
        if self.unwatched and now >= self._fallback:
            self._fallback = now + FALLBACK
            changed |= self.unwatched
        if self._inotify < 0 or (not self._armed and now < self._again):
            return changed
        paths = self._drain()
        if not paths:
            self._arm(True)
            return changed
        self._arm(False)  # fd is not readable until the next read is due
        self._tokens = min(BURST, self._tokens + (now - self._last_read) / PAUSE) - 1
        self._last_read = now
        self._again = now + max(GAP, int((1 - self._tokens) * PAUSE))
        if paths is True:  # the queue was full
            return set(self._paths)
        return changed.union(*(self._owners.get(path, ()) for path in paths))

    def next_deadline(self) -> int | None:
        """Return when :meth:`take` is due although ``fd`` is not readable (monotonic ns); None for never."""
        again = None if self._armed else self._again
        if self.unwatched:
            return self._fallback if again is None else min(again, self._fallback)
        return again

    def close(self) -> None:
        """Remove all watches."""
        self._epoll.close()
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1

    def __del__(self) -> None:
        self.close()

    def _arm(self, armed: bool) -> None:
        if armed != self._armed:
            self._epoll.modify(self._inotify, select.EPOLLIN if armed else 0)
            self._armed = armed

    # Watches

    def _open(self) -> bool:
        """Open the inotify instance; return False if there are too many (``max_user_instances``)."""
        self._inotify = lib.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:
            self._epoll.register(self._inotify, select.EPOLLIN)
        return self._inotify >= 0

    def _add(self, path: str) -> bool:
        """Watch a path; return False if the kernel has no room for it, or the file system may not answer."""
        if may_hang("/", path):
            return False
        if self._inotify < 0 and not self._open():
            return False
        try:
            kind = os.lstat(path).st_mode
        except (OSError, ValueError):  # ValueError: a NUL
            return True
        mask = _OF_DIRECTORIES if stat.S_ISDIR(kind) else _OF_FILES
        watch: int = lib.inotify_add_watch(self._inotify, os.fsencode(path), mask | _DONT_FOLLOW | _EXCL_UNLINK)
        if watch < 0:
            return int(ffi.errno) not in {errno.ENOSPC, errno.ENOMEM}
        before = self._watches.get(path)
        if before is not None and before != watch:  # the path is another inode now
            self._release(path, before)
        self._watches[path] = watch
        self._watched.setdefault(watch, set()).add(path)
        return True

    def _leave(self, owner: Hashable, path: str) -> None:
        owners = self._owners.get(path)
        if owners is None:
            return
        owners.discard(owner)
        if not owners:
            del self._owners[path]
            watch = self._watches.pop(path, None)
            if watch is not None:
                self._release(path, watch)

    def _release(self, path: str, watch: int) -> None:
        paths = self._watched.get(watch)
        if paths is None:
            return
        paths.discard(path)
        if not paths:
            del self._watched[watch]
            lib.inotify_rm_watch(self._inotify, watch)

    def _drain(self) -> set[str] | bool:
        """Return the paths that have changed; True if the kernel's queue has overflowed, False for none."""
        paths: set[str] = set()
        overflow = False
        while True:
            try:
                data = os.read(self._inotify, _ROOM)
            except OSError:  # EAGAIN: no more
                break
            at = 0
            while at + _HEAD.size <= len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size + length
                overflow = overflow or bool(mask & _Q_OVERFLOW)
                paths |= self._watched.get(watch, set())
                if mask & _IGNORED:  # the kernel removed the watch: its inode is gone
                    for path in self._watched.pop(watch, ()):
                        if self._watches.get(path) == watch:
                            del self._watches[path]
            if len(data) < _ROOM // 2:
                break
        return True if overflow else paths or False
