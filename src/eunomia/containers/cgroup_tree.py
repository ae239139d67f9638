# SPDX-License-Identifier: BSD-2-Clause
"""Tree of cgroups, those that exist and those removed a moment ago: ids and paths."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from eunomia.cgroup_hierarchy import Hierarchy
from eunomia.containers import cgroup_files
from eunomia.typing import Generic, NamedTuple, TypeVar

GRACE = 10_000_000_000  # ns that a removed cgroup is remembered: its events may still be in a ring
LONGEST = 300_000_000_000  # ns that it is remembered if the rings are never empty

_T = TypeVar("_T")


class Cgroup(Generic[_T]):
    """A cgroup; ``content`` is what the tree's user stores with it. ``gone`` says that it was removed."""

    __slots__ = ("content", "gone", "path")

    def __init__(self, path: str, content: _T) -> None:
        self.path = path
        self.content = content
        self.gone = False


class Walk(NamedTuple):
    """Result of a walk of the file system: id and path of each new cgroup, parents first, and removed ids."""

    new: list[tuple[int, str]]
    gone: list[int]


class CgroupTree(Generic[_T]):
    """Cgroups by id, and by path while they exist."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.mount = hierarchy.mount
        self._cgroups: dict[int, Cgroup[_T]] = {}
        self._paths: dict[str, int] = {}
        self._leaving: deque[tuple[int, int]] = deque()  # when to forget it, and its id

    def __contains__(self, cgroup_id: int) -> bool:
        return cgroup_id in self._cgroups

    def __len__(self) -> int:
        return len(self._cgroups)

    @property
    def leaving(self) -> int:
        """How many of them were removed."""
        return len(self._leaving)

    def get(self, cgroup_id: int) -> Cgroup[_T] | None:
        """Return a cgroup; None if it is not known."""
        return self._cgroups.get(cgroup_id)

    def existing(self) -> Iterator[tuple[int, Cgroup[_T]]]:
        """Yield id and cgroup of those that exist."""
        return ((cgroup_id, cgroup) for cgroup_id, cgroup in self._cgroups.items() if not cgroup.gone)

    def at(self, path: str) -> int | None:
        """Return the id of the cgroup that is at a path now."""
        return self._paths.get(path)

    def add(self, cgroup_id: int, path: str, content: _T) -> Cgroup[_T]:
        """Add a cgroup."""
        cgroup = self._cgroups[cgroup_id] = Cgroup(path, content)
        self._paths[path] = cgroup_id
        return cgroup

    def remove(self, cgroup_id: int, now: int) -> Cgroup[_T] | None:
        """Note that a cgroup was removed; return it, or None if that was known."""
        cgroup = self._cgroups.get(cgroup_id)
        if cgroup is None or cgroup.gone:
            return None
        cgroup.gone = True
        if self._paths.get(cgroup.path) == cgroup_id:
            del self._paths[cgroup.path]
        self._leaving.append((now + GRACE, cgroup_id))
        return cgroup

    def forget(self, now: int, drained: int | None) -> Iterator[tuple[int, Cgroup[_T]]]:
        """Forget cgroups that were removed long ago, and yield them.

        ``drained`` is when the last drain began that emptied all rings: later removals may still have rows in a ring.
        """
        until = now if drained is None else max(min(now, drained + GRACE), now - LONGEST)
        while self._leaving and self._leaving[0][0] <= until:
            cgroup_id = self._leaving.popleft()[1]
            yield cgroup_id, self._cgroups.pop(cgroup_id)

    def next_deadline(self) -> int | None:
        """Return when :meth:`forget` is due; None for never."""
        return self._leaving[0][0] if self._leaving else None

    # The file system

    def walk(self) -> Walk:
        """Compare with the file system: return new cgroups, and those that are gone."""
        if self.mount is None:
            return Walk([], [])
        before = [cgroup_id for cgroup_id, _ in self.existing()]
        seen = dict(cgroup_files.walk(self.mount))
        new = [(cgroup_id, path) for cgroup_id, path in seen.items() if cgroup_id not in self._cgroups]
        return Walk(new, [cgroup_id for cgroup_id in before if cgroup_id not in seen])

    def full_path(self, cgroup_id: int, path: str) -> str:
        """Return the full path of a cgroup whose path the kernel may have cut; empty if it cannot be found."""
        if len(path) < cgroup_files.CUT // 4 or len(path.encode()) < cgroup_files.CUT:
            return path
        return cgroup_files.below(self.mount, path.rpartition("/")[0], cgroup_id) if self.mount is not None else ""

    def of_process(self, pid: int) -> tuple[int, str] | None:
        """Return id and path of the cgroup that a process or a thread is in now; None if it has ended."""
        path = cgroup_files.path_of(pid, self.hierarchy)
        if path is None or self.mount is None:
            return None
        cgroup_id = self._paths.get(path)
        if cgroup_id is None:
            cgroup_id = cgroup_files.id_of(self.mount, path)
        return None if cgroup_id is None else (cgroup_id, path)
