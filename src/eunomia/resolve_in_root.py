# SPDX-License-Identifier: BSD-2-Clause
"""Opening of files in another mount namespace, with links resolved inside its root.

Python has no ``openat2`` with ``RESOLVE_IN_ROOT``. The namespace's owner may be hostile, so links are resolved here: an
absolute one inside ``/proc/PID/root`` would otherwise start at our own root.
"""

from __future__ import annotations

import errno
import os
import stat

_LINKS = 40  # as many as the kernel follows


def open_file(base: str, path: str) -> int:
    """Open a regular file for reading, as seen by a process with the root ``base``; return the descriptor.

    Raises :class:`OSError`, also for a path that ends in anything but a regular file.
    """
    trail = [os.open(base, os.O_PATH | os.O_DIRECTORY)]
    links = 0
    try:
        todo = path.split("/")[::-1]
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            at = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=trail[-1])
            if not stat.S_ISLNK(os.fstat(at).st_mode):
                trail.append(at)
                continue
            os.close(at)
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(name, dir_fd=trail[-1])
            if target.startswith("/"):
                while len(trail) > 1:
                    os.close(trail.pop())
            todo += target.split("/")[::-1]
        if not stat.S_ISREG(os.fstat(trail[-1]).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.open(f"/proc/self/fd/{trail[-1]}", os.O_RDONLY | os.O_NONBLOCK)
    finally:
        for descriptor in trail:
            os.close(descriptor)


def open_own(path: str) -> int:
    """Open a regular file in a directory that only root can write to; return the descriptor.

    Raises :class:`OSError`, also for anything but a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", path)


def read(descriptor: int, limit: int) -> tuple[bytes, int]:
    """Return a file's bytes and when it was last written (ns since the epoch), and close it.

    Raises :class:`OSError`, also if it has more than ``limit`` bytes.
    """
    try:
        about = os.fstat(descriptor)
        if about.st_size > limit:  # not read at all: it would be refused anyway
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        data = os.read(descriptor, about.st_size + 1)
        while len(data) <= limit and (more := os.read(descriptor, limit + 1 - len(data))):
            data += more
        if len(data) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return data, about.st_mtime_ns
    finally:
        os.close(descriptor)
