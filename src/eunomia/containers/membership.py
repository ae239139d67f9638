# SPDX-License-Identifier: BSD-2-Clause
"""Containers that a cgroup is in, by the names along its path and by the command that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.containers.entry import ContainerEntry
from eunomia.containers.kubepods import pod_uid
from eunomia.containers.paths import Candidate, candidates
from eunomia.containers.runtime_reader import RuntimeReader

# The commands that make containers' cgroups, unless systemd does, whose names are recognised.
MAKERS = ("runc", "crun", "youki", "runsc", "sysbox-runc", "kata-runtime")


class Membership:
    """The entries of containers by the path of their own cgroup."""

    def __init__(self, readers: Sequence[RuntimeReader], retract: Callable[[ContainerEntry], None]) -> None:
        """``retract`` is called with an entry that turns out not to be a container."""
        self._readers = readers
        self._retract = retract
        self._entries: dict[str, ContainerEntry] = {}
        self._guesses: dict[str, Candidate] = {}  # of these, those known only by the command that made them

    def all(self) -> list[ContainerEntry]:
        """Return the containers that have a cgroup or had one a moment ago."""
        return list(self._entries.values())

    def of(
        self, path: str, now: int, by_runtime: bool, recorded: Callable[[str], ContainerEntry | None]
    ) -> list[tuple[ContainerEntry, bool]]:
        """Return the containers that the cgroup at a path is in, outermost first, and which of them are new.

        ``by_runtime`` says that a container runtime made the cgroup; ``recorded`` returns the container with a record
        by its id.
        """
        found = candidates(path, self._readers)
        if by_runtime or self._guesses:
            found = self._guessed(path, found, by_runtime)
        around: list[tuple[ContainerEntry, bool]] = []
        for candidate in found:
            entry = self._entries.get(candidate.path)
            if entry is not None and candidate.path == path and candidate.id != entry.candidate.id:
                entry = None  # an earlier cgroup of the same path was another container's
            is_new = entry is None
            if entry is None:
                entry = self.put(candidate, tuple(e for e, _ in around), now, recorded(candidate.id))
            around.append((entry, is_new))
        return around

    def put(
        self, candidate: Candidate, around: tuple[ContainerEntry, ...], now: int, entry: ContainerEntry | None
    ) -> ContainerEntry:
        """Return a new entry, or the given one if its record is older than the cgroup."""
        if entry is None or entry.candidate.path or around:
            entry = ContainerEntry(candidate, around, now)
        else:
            entry.candidate, entry.since, entry.uid = candidate, now, pod_uid(candidate.path)
        self._entries[candidate.path] = entry
        return entry

    def successor(self, entry: ContainerEntry) -> Candidate | None:
        """Return the container that has taken over an entry's cgroup; None if it is still the same.

        That is only possible for paths without the container's id (``ctr run --cgroup``).
        """
        path = entry.candidate.path
        if entry.candidate.id in path.rpartition("/")[2]:
            return None
        found = next((c for c in candidates(path, self._readers) if c.path == path), entry.candidate)
        return found if found.id != entry.candidate.id else None

    def replace(self, entry: ContainerEntry, successor: ContainerEntry) -> None:
        """Move the containers inside an entry into another."""
        for other in self._entries.values():
            other.outer = tuple(successor if e is entry else e for e in other.outer)

    def drop(self, entry: ContainerEntry) -> None:
        """Forget an entry."""
        path = entry.candidate.path
        if self._entries.get(path) is entry:
            del self._entries[path]
            self._guesses.pop(path, None)

    def _guessed(self, path: str, found: tuple[Candidate, ...], by_runtime: bool) -> tuple[Candidate, ...]:
        """Return the candidates along a path, with those known only by the command that made them.

        Runtimes also make the parents of containers' cgroups: a cgroup in which they make more is no container.
        """
        top = path
        while self._guesses and (top := top.rpartition("/")[0]):
            guess = self._guesses.get(top)
            if guess is None:
                continue
            entry = self._entries.get(top)
            if by_runtime and entry is not None and not entry.named:
                self._retract(entry)
            else:
                found = (guess, *found)
        if by_runtime and not found:
            guess = Candidate(path.rpartition("/")[2], path, "")
            self._guesses[path] = guess
            return (guess,)
        return found
