# SPDX-License-Identifier: BSD-2-Clause
"""The cgroup tree as the file system shows it: an inode number is a cgroup id."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache

from eunomia.cgroup_hierarchy import Hierarchy, of_first_version, unified
from eunomia.containers.paths import is_id, printable

CUT = 1023  # bytes; the kernel cuts longer paths in its records of cgroups


@cache
def current() -> Hierarchy:
    """Return the hierarchy by which containers are told apart; it does not change while the process lives."""
    return choose(unified(), of_first_version())


def mount_point() -> str | None:
    """Return where :func:`current` is mounted."""
    return current().mount


def choose(second: Hierarchy | None, first: Sequence[Hierarchy]) -> Hierarchy:
    """Return v2, unless containers run only in v1: old runtimes make no cgroups in v2 if both are mounted."""
    if second is None or second.mount is None:
        if not first:
            return Hierarchy(None, why="no cgroup hierarchy is mounted that has containers")
        return first[0]._replace(why="version 2 is not mounted")
    if not first:
        return second
    if not has_containers(second.mount):
        for hierarchy in first:
            if hierarchy.mount is not None and has_containers(hierarchy.mount):
                return hierarchy._replace(why="running containers have no cgroups in version 2")
    return second._replace(why="version 1 is mounted too")


def has_containers(mount: str) -> bool:
    """Whether processes run in cgroups below ``mount`` that are named like containers."""
    return any(looks_like_container(path.rpartition("/")[2]) and _lives(mount + path) for _, path in walk(mount))


def looks_like_container(name: str) -> bool:
    """Whether a cgroup's name ends in a full container id, like ``ID``, ``docker-ID.scope``, ``libpod-ID``."""
    return is_id(name.removesuffix(".scope").rpartition("-")[2]) or name.startswith("lxc.payload.")


def _lives(directory: str) -> bool:
    if _has_processes(directory):
        return True
    try:
        with os.scandir(directory) as entries:
            return any(e.is_dir(follow_symlinks=False) for e in entries)
    except OSError:
        return False


def is_populated(directory: str) -> bool:
    """Whether there are processes in a cgroup or below it."""
    try:
        with open(f"{directory}/cgroup.events", "rb") as events:  # of v2 alone
            return b"populated 1" in events.read()
    except OSError:
        return any(_has_processes(f"{directory}{path}") for _, path in walk(directory))


def _has_processes(directory: str) -> bool:
    try:
        with open(f"{directory}/cgroup.procs", "rb") as processes:
            return bool(processes.read(1))
    except OSError:
        return False


def walk(mount: str) -> Iterator[tuple[int, str]]:
    """Yield id and path of each cgroup below ``mount``, parents first; those that vanish meanwhile are left out."""
    try:
        about = os.stat(mount)
    except OSError:
        return
    yield about.st_ino, "/"
    # in cgroupfs a directory without children has two links: reading it, with its tens of files, takes ten times as
    # long as stat(2)
    counted = about.st_nlink > 2
    todo = [""]
    while todo:
        path = todo.pop()
        try:
            if counted and path and os.stat(mount + path).st_nlink == 2:
                continue
            with os.scandir(mount + path) as entries:
                below = [(e.inode(), f"{path}/{e.name}") for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        for cgroup_id, child in below:
            yield cgroup_id, printable(child)
            todo.append(child)


def below(mount: str, top: str, cgroup_id: int) -> str:
    """Return the path of the cgroup with this id below the one at ``top``; empty if there is none."""
    return next((top + path for found, path in walk(mount + top) if found == cgroup_id and path != "/"), "")


def path_of(pid: int | str, hierarchy: Hierarchy | None = None) -> str | None:
    """Return a process's cgroup path in a hierarchy, :func:`current` by default; ``None`` if it has ended."""
    start = b"%d:" % (current() if hierarchy is None else hierarchy).id
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as lines:
            for line in lines:
                if line.startswith(start):
                    path = line[len(start) :].partition(b":")[2].rstrip(b"\n").decode("utf-8", "backslashreplace")
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


_PROCESSES = 1024  # of a cgroup that are read


def first_process(mount: str, path: str) -> int:
    """Return the first process of a cgroup and those below it; 0 if there is none.

    That is the one with process id 1 in its PID namespace, else the oldest.
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
                    started, number = int(stat.read().rpartition(b")")[2].split()[19]), int(pid)
            except (OSError, ValueError, IndexError):
                continue
            first = len(spaces) > 1 and spaces[-1] == b"1"
            found.append((not first, len(spaces) if first else 0, started, number))
    return min(found)[3] if found else 0
