# SPDX-License-Identifier: BSD-2-Clause
"""Which files changed, as inotify(7) says it: nobody looks at what did not change.

Owners (containers, mostly) name paths; several may name the same one, which is watched once. What happens is told
by owner and not by path, for they look for themselves. Whoever writes to a watched directory without end, as those
inside a container may, costs a few wakeups a second and no more.
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

PAUSE = 200_000_000  # ns between two readings, once ...
BURST = 5  # ... so many came one after another
GAP = 10_000_000  # ns between any two
FALLBACK = 5_000_000_000  # ns between two looks at what could not be watched

# include/uapi/linux/inotify.h
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_Q_OVERFLOW, _IGNORED = 0x4000, 0x8000
_DONT_FOLLOW, _EXCL_UNLINK = 0x2000000, 0x4000000
# A directory's files that are written without end, logs above all, are no news before they are closed.
_OF_DIRECTORIES = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_OF_FILES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_HEAD = struct.Struct("=iIII")
_ROOM = 64 << 10  # bytes read at once


class FileWatcher:
    """Watches paths on behalf of owners. ``fd`` is readable when :meth:`take` has something to tell.

    ``unwatched`` are the owners one of whose paths the kernel would not watch (``max_user_watches``, or no inotify
    at all): they are told every few seconds that something may have changed.
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
        self._heard = 0  # when there was news last
        self._again = 0  # when to look again
        self._tokens = float(BURST)
        self._fallback = 0

    @property
    def fd(self) -> int:
        """The descriptor that is readable when something happened and it is time to look."""
        return self._epoll.fileno()

    def watch(self, owner: Hashable, paths: Iterable[str]) -> None:
        """Watch these paths for an owner and none else; those that don't exist are left out.

        To be called again when a path may have come into being.
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
        """Watch nothing for an owner any more."""
        for path in self._paths.pop(owner, ()):
            self._leave(owner, path)
        self.unwatched.discard(owner)

    def take(self, now: int) -> set[Hashable]:
        """Return the owners whose paths something happened to; empty while it is too soon to look again."""
        told: set[Hashable] = set()
        if self.unwatched and now >= self._fallback:
            self._fallback = now + FALLBACK
            told |= self.unwatched
        if self._inotify < 0 or (not self._armed and now < self._again):
            return told
        said = self._drain()
        if not said:
            self._arm(True)
            return told
        self._arm(False)  # silent until the next look is due
        self._tokens = min(BURST, self._tokens + (now - self._heard) / PAUSE) - 1
        self._heard = now
        self._again = now + max(GAP, int((1 - self._tokens) * PAUSE))
        if said is True:  # the queue was full
            return set(self._paths)
        return told.union(*(self._owners.get(path, ()) for path in said))

    def next_deadline(self) -> int | None:
        """Return when :meth:`take` is due although ``fd`` is silent (monotonic ns); None if never."""
        again = None if self._armed else self._again
        if self.unwatched:
            return self._fallback if again is None else min(again, self._fallback)
        return again

    def close(self) -> None:
        """Let go of all watches."""
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
        """Open the inotify instance; return False where there are too many already (``max_user_instances``)."""
        self._inotify = lib.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:
            self._epoll.register(self._inotify, select.EPOLLIN)
        return self._inotify >= 0

    def _add(self, path: str) -> bool:
        """Watch a path; return False where the kernel has no room for it, or would have to ask another machine."""
        if may_hang("/", path):
            return False
        if self._inotify < 0 and not self._open():
            return False
        try:
            kind = os.lstat(path).st_mode
        except (OSError, ValueError):  # ValueError: a NUL
            return True
        mask = _OF_DIRECTORIES if stat.S_ISDIR(kind) else _OF_FILES
        watch: int = lib.inotify_add_watch(
            self._inotify, os.fsencode(path), mask | _DONT_FOLLOW | _EXCL_UNLINK
        )
        if watch < 0:
            return int(ffi.errno) not in {errno.ENOSPC, errno.ENOMEM}
        before = self._watches.get(path)
        if before is not None and before != watch:  # another inode by now
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
        """Return the paths that something happened to; True where the kernel could not say all, else False."""
        paths: set[str] = set()
        overflow = False
        while True:
            try:
                data = os.read(self._inotify, _ROOM)
            except OSError:  # EAGAIN: that was all
                break
            at = 0
            while at + _HEAD.size <= len(data):
                watch, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size + length
                overflow = overflow or bool(mask & _Q_OVERFLOW)
                paths |= self._watched.get(watch, set())
                if mask & _IGNORED:  # the kernel has removed it, as its inode is gone
                    for path in self._watched.pop(watch, ()):
                        if self._watches.get(path) == watch:
                            del self._watches[path]
            if len(data) < _ROOM // 2:
                break
        return True if overflow else paths or False
