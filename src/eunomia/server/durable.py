# SPDX-License-Identifier: BSD-2-Clause
"""Files that are whole, or not there, whenever the process or the machine stops."""

from __future__ import annotations

import os
import stat
from contextlib import suppress


def replace(path: str, data: bytes) -> None:
    """Write a file as a whole: readers see the old or the new content. It is on the disk when this returns.

    Raises :class:`OSError`; then the old content stays. Only one process may write a path at a time.
    """
    new = f"{path}.new"
    with suppress(FileNotFoundError):  # of a process that was killed
        os.unlink(new)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(new, flags, 0o600), "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_directory(path: str) -> None:
    """Make a directory for this user alone, or refuse one in which others could exchange files.

    Raises :class:`OSError`: what is in it is loaded into the kernel.
    """
    made = not os.path.isdir(path)
    os.makedirs(path, mode=0o700, exist_ok=True)
    if made:
        sync_directory(os.path.dirname(os.path.abspath(path)))
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        raise OSError(0, f"it belongs to user {found.st_uid}, not to the server's ({os.geteuid()})", path)
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise OSError(0, "others may write to it: chmod go-w it", path)
