# SPDX-License-Identifier: BSD-2-Clause
"""Reading files of another mount namespace as its processes see them, without being led out of it.

Python has no ``openat2``, whose ``RESOLVE_IN_ROOT`` would do this; its owner may be hostile, so links are
resolved here: an absolute one inside ``/proc/PID/root`` would otherwise start at our own root.
"""

from __future__ import annotations

import errno
import os
import stat

_LINKS = 40  # as many as the kernel follows


def open_file(base: str, path: str) -> int:
    """Open a regular file for reading as a process whose root is ``base`` would; return the descriptor.

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


def read_file(base: str, path: str, limit: int) -> tuple[bytes, int]:
    """Return a file's bytes and when it was last written (ns since the epoch).

    Raises :class:`OSError`, also where it holds more than ``limit`` bytes.
    """
    descriptor = open_file(base, path)
    with open(descriptor, "rb", buffering=0) as file:
        data, at = bytearray(), os.fstat(descriptor).st_mtime_ns
        while piece := file.read(limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return bytes(data), at
