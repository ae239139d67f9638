# SPDX-License-Identifier: BSD-2-Clause
"""Records of containers that runtimes keep, which exist before their cgroups and after them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from eunomia.containers.entry import ContainerEntry
from eunomia.containers.file_watcher import FileWatcher
from eunomia.containers.lifecycle import ERASED, EXISTING, RECORDED, Lifecycle
from eunomia.containers.paths import Candidate
from eunomia.containers.resolver import Resolver
from eunomia.containers.runtime_reader import Listing, RuntimeReader
from eunomia.identity import Container

LIMIT = 8192  # containers with records


class Records:
    """The containers that have a record, by id, and the places of these records."""

    def __init__(
        self,
        readers: Sequence[RuntimeReader],
        resolver: Resolver,
        watcher: FileWatcher,
        lifecycle: Lifecycle,
        clock: Callable[[], int],
        *,
        entries: Callable[[], Iterable[ContainerEntry]],
        on_answer: Callable[[ContainerEntry, int], None],
        check: Callable[[ContainerEntry, int], None],
        drop: Callable[[ContainerEntry], None],
    ) -> None:
        """``entries`` returns those that have cgroups; ``on_answer``, ``check`` and ``drop`` are the registry's."""
        self._keepers = [reader for reader in readers if reader.keeper is not None]
        self._resolver = resolver
        self._watcher = watcher
        self._lifecycle = lifecycle
        self._clock = clock
        self._with_cgroups = entries
        self._on_answer = on_answer
        self._check = check
        self._drop = drop
        self._entries: dict[str, ContainerEntry] = {}
        self._places: dict[str, RuntimeReader] = {}
        self._names: dict[str, set[str]] = {}  # by place

    def every(self) -> list[ContainerEntry]:
        """Return the containers that have a record."""
        return list(self._entries.values())

    def get(self, container_id: str) -> ContainerEntry | None:
        """Return the container with this id, if it has a record."""
        return self._entries.get(container_id)

    def find_places(self) -> None:
        """Ask runtimes where they keep records, and read new places."""
        for reader in self._keepers:
            apply = partial(self._take_places, reader, self._resolver.starting)
            self._resolver.run(reader, "places", reader.places, apply, again=True)

    def _take_places(self, reader: RuntimeReader, starting: bool, places: Sequence[str] | None) -> None:
        for place in places or ():
            if place not in self._places:
                self._places[place] = reader
                self._scan(place, starting)

    def scan(self, place: str) -> None:
        """Read the new records of a place."""
        self._scan(place, False)

    def _scan(self, place: str, starting: bool) -> None:
        reader = self._places[place]
        known = {e.candidate.id: (e.container, e.candidate.path) for e in self._with_cgroups() if not e.recorded}
        ask = partial(reader.listing, place, known, frozenset(self._entries), LIMIT)
        self._resolver.run(reader, ("records", place), ask, partial(self._take, place, reader, starting), again=True)

    def _take(self, place: str, reader: RuntimeReader, starting: bool, listing: Listing | None) -> None:
        now = self._clock()
        if listing is None:
            return
        before, self._names[place] = self._names.get(place, set()), set(listing.names)
        for name in before - self._names[place]:
            if name in self._entries:
                self._check(self._entries[name], now)
        there = {e.candidate.id: e for e in self._with_cgroups()}
        for name, answer in listing.new.items():
            if name in self._entries:
                continue
            entry = there.get(name)
            if entry is None:
                if answer.metadata is None:  # its cgroup was forgotten meanwhile
                    continue
                entry = ContainerEntry(Candidate(name, "", reader.name), (), now)
                entry.metadata, entry.watched, entry.recorded = answer.metadata, answer.watched, True
                self._on_answer(entry, now)
            self._keep(entry, starting)
        # a directory is made before the files in it
        self._watcher.watch(place, [place, *sorted(f"{place}/{name}" for name in listing.unread)[:LIMIT]])

    # One container

    def look_for(self, entry: ContainerEntry) -> None:
        """Note the record of a container, if a quick runtime has one; slow ones report it with their answers."""
        if entry.recorded or entry.identity is None or entry.candidate.id in self._entries:
            return
        container, path = entry.container, entry.candidate.path
        if any(self._resolver.quick(r, False, r.has_record, container, path) for r in self._keepers_of(container)):
            self.keep(entry, self._resolver.starting)

    def keep(self, entry: ContainerEntry, starting: bool) -> None:
        """Note that a container has a record; ``starting`` says that the record is not new."""
        if self._lifecycle.has_listeners and not entry.recorded and entry.candidate.id not in self._entries:
            self._keep(entry, starting)

    def _keep(self, entry: ContainerEntry, starting: bool) -> None:
        if len(self._entries) >= LIMIT:
            entry.recorded = False
            return
        entry.recorded = True
        self._entries[entry.candidate.id] = entry
        self._lifecycle.emit(EXISTING if starting else RECORDED, entry, self._clock())

    def erase(self, entry: ContainerEntry, now: int) -> None:
        """Note that the record of a container was removed."""
        entry.recorded = False
        self._entries.pop(entry.candidate.id, None)
        self._lifecycle.emit(ERASED, entry, now)
        if not entry.cgroups:
            self._drop(entry)

    def _keepers_of(self, container: Container) -> Sequence[RuntimeReader]:
        return [r for r in self._keepers if r.name == container.runtime] or self._keepers
