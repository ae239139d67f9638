# SPDX-License-Identifier: BSD-2-Clause
"""Which containers a cgroup is in, told by the names along its path and by who made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.containers.entry import ContainerEntry
from eunomia.containers.kubepods import pod_uid
from eunomia.containers.paths import Candidate, candidates
from eunomia.containers.runtime_reader import RuntimeReader

# What the commands are called that make containers' cgroups, where it is not systemd, which names them.
MAKERS = ("runc", "crun", "youki", "runsc", "sysbox-runc", "kata-runtime")


class Membership:
    """The entries of containers by the path of their own cgroup."""

    def __init__(self, readers: Sequence[RuntimeReader], retract: Callable[[ContainerEntry], None]) -> None:
        """``retract`` is called with an entry of which it turns out that it is no container."""
        self._readers = readers
        self._retract = retract
        self._entries: dict[str, ContainerEntry] = {}
        self._guesses: dict[str, Candidate] = {}  # of these, those that only their maker tells

    def all(self) -> list[ContainerEntry]:
        """Return the containers that have a cgroup, or had one a moment ago."""
        return list(self._entries.values())

    def of(
        self, path: str, now: int, by_runtime: bool, recorded: Callable[[str], ContainerEntry | None]
    ) -> list[tuple[ContainerEntry, bool]]:
        """Return the containers that the cgroup at a path is in, outermost first, and which of them are new.

        ``by_runtime`` says that a container runtime has made the cgroup; ``recorded`` gives a container that has a
        record by its id.
        """
        found = candidates(path, self._readers)
        if by_runtime or self._guesses:
            found = self._guessed(path, found, by_runtime)
        around: list[tuple[ContainerEntry, bool]] = []
        for candidate in found:
            entry = self._entries.get(candidate.path)
            if entry is not None and candidate.path == path and candidate.id != entry.candidate.id:
                entry = None  # a cgroup of the same name, which was another's
            is_new = entry is None
            if entry is None:
                entry = self.put(candidate, tuple(e for e, _ in around), now, recorded(candidate.id))
            around.append((entry, is_new))
        return around

    def put(
        self, candidate: Candidate, around: tuple[ContainerEntry, ...], now: int, entry: ContainerEntry | None
    ) -> ContainerEntry:
        """Return a new entry, or the one given, of a record that was there before the cgroup."""
        if entry is None or entry.candidate.path or around:
            entry = ContainerEntry(candidate, around, now)
        else:
            entry.candidate, entry.since, entry.uid = candidate, now, pod_uid(candidate.path)
        self._entries[candidate.path] = entry
        return entry

    def heir(self, entry: ContainerEntry) -> Candidate | None:
        """Return who has the cgroup now that an entry's container had; None where that is still the same.

        Only a path that does not tell the container's id (``ctr run --cgroup``) can become another's.
        """
        path = entry.candidate.path
        if entry.candidate.id in path.rpartition("/")[2]:
            return None
        found = next((c for c in candidates(path, self._readers) if c.path == path), entry.candidate)
        return found if found.id != entry.candidate.id else None

    def replace(self, entry: ContainerEntry, heir: ContainerEntry) -> None:
        """Let the containers inside of an entry be inside of another."""
        for other in self._entries.values():
            other.around = tuple(heir if e is entry else e for e in other.around)

    def drop(self, entry: ContainerEntry) -> None:
        """Forget an entry."""
        path = entry.candidate.path
        if self._entries.get(path) is entry:
            del self._entries[path]
            self._guesses.pop(path, None)

    def _guessed(self, path: str, found: tuple[Candidate, ...], by_runtime: bool) -> tuple[Candidate, ...]:
        """Return the candidates along a path with those that only their maker tells.

        Runtimes make what is above containers' cgroups, too: what they go on below was no container.
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
