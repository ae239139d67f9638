# SPDX-License-Identifier: BSD-2-Clause
"""Files of the state directory: readable by their owner alone, replaced as a whole, locked across processes.

The directory may belong to the server's own user while root runs a command in it. So nothing here follows a symbolic
link, and what root makes belongs to the directory's owner, who could not read it otherwise.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATE = Path("/var/lib/eunomia")


def state_directory(given: str | None = None) -> Path:
    """Return the state directory: the one that is given, or /var/lib/eunomia."""
    return Path(given) if given else STATE


def make_directory(path: Path) -> None:
    """Make a directory for its owner alone, if it is not there: the owner of the directory that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    made = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give_to_owner_of(path.parent, made)
    finally:
        os.close(made)


def check_directory(path: Path) -> None:
    """Make a directory, or refuse one that is not this user's own, or in which others could exchange files.

    Raises :class:`OSError`: what is in it is loaded into the kernel.
    """
    if not path.is_dir():
        make_directory(path)
        sync_directory(path.parent)
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise OSError(1, f"it belongs to user {found.st_uid}, not to the server's ({os.geteuid()})", str(path))
    if found.st_mode & 0o022:
        raise OSError(1, "others may write to it: chmod go-w it", str(path))


def create(path: Path, flags: int) -> int:
    """Open a file, made with mode 0600 for the directory's owner if it is not there; return the descriptor."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:  # another process was faster
            continue
        _give_to_owner_of(path.parent, made)
        return made


def _give_to_owner_of(directory: Path, made: int) -> None:
    owner = directory.stat()
    if os.geteuid() == 0 and (owner.st_uid, owner.st_gid) != (0, 0):
        os.fchown(made, owner.st_uid, owner.st_gid)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that ``path`` stands for; others wait, in this process and elsewhere."""
    lock = create(path, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def replace(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replace a file: whoever opens it, at any time, finds the old content or the new one.

    Call it with a lock held. What a killed process left half-written is replaced by the next call. Without ``sync``
    the file may be empty after a power failure.
    """
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    new = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            _give_to_owner_of(path.parent, new)
            left = memoryview(content)
            while left:
                left = left[os.write(new, left) :]
            if sync:
                os.fsync(new)
        finally:
            os.close(new)
        beside.replace(path)
    except BaseException:  # the disk is full
        beside.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Have the disk know the directory's names, which a file's own fsync does not do."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def open_trusted(path: Path) -> int:
    """Open a file that decides who may do what; return the descriptor.

    Raises :class:`PermissionError` if another user than root or the server's own could have written it.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        why = _why_not_trusted(os.fstat(opened), path.parent.stat())
    except BaseException:
        os.close(opened)
        raise
    if why:
        os.close(opened)
        raise PermissionError(1, f"not trusted: {why}", str(path))
    return opened


def _why_not_trusted(file: os.stat_result, directory: os.stat_result) -> str:
    if not stat.S_ISREG(file.st_mode):
        return "it is not a regular file"
    trusted = {0, os.geteuid()}
    if os.geteuid() == 0:  # a command of root's, in the directory of the server's user
        trusted.add(directory.st_uid)
    if file.st_uid not in trusted:
        return f"it belongs to user {file.st_uid}"
    if file.st_mode & 0o022:
        return f"others than its owner may write it: chmod 600 (its mode is {stat.S_IMODE(file.st_mode):04o})"
    return ""
