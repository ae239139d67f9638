# SPDX-License-Identifier: BSD-2-Clause
"""The v2 cgroup tree as the file system shows it: an inode number is a cgroup id."""

from __future__ import annotations

import os
from collections.abc import Iterator

from eunomia.containers.paths import printable


def mount_point() -> str | None:
    """Return where the v2 hierarchy is mounted; ``None`` on a host that has v1 only."""
    fallback = None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                mount, _, kind = line.partition(" - ")
                if kind.split(" ", 1)[0] == "cgroup2":
                    root, point = mount.split(" ")[3:5]
                    point = _unescape(point)
                    if root == "/":
                        return point
                    fallback = fallback or point
    except OSError:
        return None
    return fallback


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def walk(mount: str) -> Iterator[tuple[int, str]]:
    """Yield id and path of each cgroup below ``mount``, parents first; without what vanishes meanwhile."""
    try:
        yield os.stat(mount).st_ino, "/"
    except OSError:
        return
    todo = [""]
    while todo:
        path = todo.pop()
        try:
            with os.scandir(mount + path) as entries:
                below = [(e.inode(), f"{path}/{e.name}") for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for cgroup_id, child in below:
            yield cgroup_id, printable(child)
            todo.append(child)


def path_of(pid: int | str) -> str | None:
    """Return a process's path in the v2 hierarchy; ``None`` when it has ended or there is none."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as lines:
            for line in lines:
                if line.startswith(b"0::"):
                    path = line[3:].rstrip(b"\n").decode("utf-8", "backslashreplace")
                    return path.removesuffix(" (deleted)")
    except OSError:
        pass
    return None


def id_of(mount: str, path: str) -> int | None:
    """Return the id of the cgroup at ``path``, ``None`` when there is none."""
    try:
        return os.stat(mount + path).st_ino
    except OSError:
        return None


_PROCESSES = 1024  # of a cgroup that are looked at


def first_process(mount: str, path: str) -> int:
    """Return the process that came first to a cgroup and those below it; 0 where there is none.

    That is the one that is 1 in its PID namespace, else the eldest.
    """
    found: list[tuple[bool, int, int, int]] = []
    for _, below in walk(mount + path):
        try:
            with open(f"{mount}{path}{below}/cgroup.procs", "rb") as lines:
                pids = lines.read(16 * _PROCESSES).split()
        except OSError:
            continue
        for pid in pids[: _PROCESSES - len(found)]:
            try:
                with open(b"/proc/%s/status" % pid, "rb") as status:
                    spaces = next((line.split()[1:] for line in status if line.startswith(b"NSpid:")), [])
                with open(b"/proc/%s/stat" % pid, "rb") as stat:
                    started = int(stat.read().rpartition(b")")[2].split()[19])
            except (OSError, ValueError, IndexError):
                continue
            first = len(spaces) > 1 and spaces[-1] == b"1"
            found.append((not first, len(spaces) if first else 0, started, int(pid)))
    return min(found)[3] if found else 0
