# SPDX-License-Identifier: BSD-2-Clause
"""Detection of paths on file systems that may not answer: those behind a network or a process.

It reads the kernel's list of mounts and does not touch the path, because that may hang.
"""

from __future__ import annotations

import os

from eunomia.kernel_clock import monotonic_ns

FRESH = 1_000_000_000  # ns for which a list of mounts is used

# File systems in memory or on a disk of the machine. Any other may block.
_LOCAL = frozenset(
    b"bcachefs btrfs cgroup cgroup2 devtmpfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs ntfs3 overlay proc ramfs "
    b"reiserfs rootfs squashfs sysfs tmpfs udf vfat xfs zfs "
    # never hold a runtime's files, and are mounted everywhere
    b"binfmt_misc bpf configfs debugfs devpts efivarfs fusectl hugetlbfs mqueue nsfs pstore securityfs selinuxfs "
    b"tracefs".split()
)
_LINKS = 40  # as many as the kernel follows
_VIEWS = 256  # mount namespaces whose lists are remembered

_known: dict[str, tuple[int, frozenset[str]]] = {}  # by the list: when it was read, and the mount points


def may_hang(base: str, path: str) -> bool:
    """Whether a path, below the root directory ``base``, may lead through such a file system.

    Both may begin with another process's root, ``/proc/PID/root``.
    """
    if base != "/":
        path = f"{base}/{path}"
    top, process = "", "/proc/self"
    if path.startswith("/proc/"):
        *_, pid, name = path.split("/", 4)[:4]
        if name == "root":
            process, top = f"/proc/{pid}", f"/proc/{pid}/root"
            path = path[len(top) :]
    points = _points(f"{process}/mountinfo")
    if not points:
        return False
    if "/" in points:
        return True
    at, todo, links = "", path.split("/")[::-1], 0
    while todo:
        name = todo.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            at = at.rpartition("/")[0]
            continue
        child = f"{at}/{name}"
        if child in points:
            return True
        try:
            target = os.readlink(top + child)
        except (OSError, ValueError):  # no link, or missing
            at = child
            continue
        links += 1
        if links > _LINKS:
            return False
        if target.startswith("/"):
            at = ""
        todo += target.split("/")[::-1]
    return False


def _points(file: str) -> frozenset[str]:
    """Return the mount points of such file systems in a ``mountinfo`` file."""
    now = monotonic_ns()
    known = _known.get(file)
    if known is not None and now - known[0] < FRESH:
        return known[1]
    found = set()
    try:
        with open(file, "rb") as lines:
            for line in lines:
                before, _, behind = line.partition(b" - ")
                if behind.partition(b" ")[0] not in _LOCAL:
                    found.add(os.fsdecode(_plain(before.split(b" ")[4])))
    except (OSError, IndexError):
        found = set()
    if len(_known) >= _VIEWS:
        _known.clear()
    points = frozenset(found)
    _known[file] = now, points
    return points


def _plain(point: bytes) -> bytes:
    r"""Return a mount point without the list's octal escapes (``\040`` for a space)."""
    if b"\\" not in point:
        return point
    head, *rest = point.split(b"\\")
    return head + b"".join(bytes((int(part[:3], 8) & 0xFF,)) + part[3:] for part in rest)
