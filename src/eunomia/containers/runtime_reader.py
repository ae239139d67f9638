# SPDX-License-Identifier: BSD-2-Clause
"""Reader of one runtime: counts its errors, and says whether it may block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from eunomia.containers.blocking import WouldBlock, refused
from eunomia.containers.runtime import Metadata, Prefetching, RecordKeeper, Runtime
from eunomia.faults import Faults
from eunomia.identity import Container
from eunomia.typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class Answer(NamedTuple):
    """A slow runtime's answer about a container."""

    metadata: Metadata | None = None
    watched: tuple[str, ...] = ()  # see Runtime.watches
    has_record: bool = False  # see RecordKeeper.has_record


class Check(NamedTuple):
    """A runtime's answer about changes of a container."""

    changed: bool = False
    watched: tuple[str, ...] = ()
    has_record: bool = True


class Listing(NamedTuple):
    """The records in one of a runtime's places."""

    names: tuple[str, ...] = ()
    new: Mapping[str, Answer] = MappingProxyType({})  # readable records that were not known
    unread: tuple[str, ...] = ()  # names without a readable record (yet, or any more)


class RuntimeReader:
    """Asks one runtime; its errors are counted and mean that nothing is known.

    A ``slow`` runtime is asked in a worker thread only. A quick one becomes slow for good when it would block, which
    raises :class:`WouldBlock`. So only one thread at a time calls a runtime, except for :meth:`recognises`.
    """

    def __init__(self, runtime: Runtime, faults: Faults) -> None:
        self.name = runtime.name
        self.behind = runtime
        self.keeper = runtime if isinstance(runtime, RecordKeeper) else None
        self.slow = not getattr(runtime, "quick", False)
        self.title = f"the reader of {runtime.name}"
        self._prefetching = runtime if isinstance(runtime, Prefetching) else None
        self._may_know: Callable[[str, str], bool] | None = getattr(runtime, "may_know", None)
        self._faults = faults

    @property
    def is_prefetching(self) -> bool:
        """Whether the runtime is :class:`Prefetching`."""
        return self._prefetching is not None

    def recognises(self, parent: str, name: str) -> str:
        """Return the container's id; see :meth:`Runtime.recognises`. Never blocks."""
        try:
            with refused():
                return self._call("", self.behind.recognises, parent, name)
        except WouldBlock:
            return ""

    def may_know(self, container_id: str, path: str) -> bool:
        """Whether the runtime may know the container; never blocks."""
        return self._may_know is None or self._call(True, self._may_know, container_id, path)

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return a container's metadata; see :meth:`Runtime.lookup`."""
        return self._call(None, self.behind.lookup, container_id, path)

    def watches(self, container: Container, path: str) -> Sequence[str]:
        """Return files to watch; see :meth:`Runtime.watches`."""
        return self._call((), self.behind.watches, container, path)

    def has_record(self, container: Container, path: str) -> bool:
        """Whether the runtime has a record; True if that cannot be read."""
        return self.keeper is not None and self._call(True, self.keeper.has_record, container, path)

    def places(self) -> Sequence[str]:
        """Return where the runtime keeps records; see :meth:`RecordKeeper.places`."""
        return () if self.keeper is None else self._call((), self.keeper.places)

    def prefetched(self) -> Sequence[str]:
        """Return files to read when a cgroup is made; see :meth:`Prefetching.prefetched`."""
        return () if self._prefetching is None else self._call((), self._prefetching.prefetched)

    def answer(self, container_id: str, path: str, records: bool) -> Answer:
        """Return all answers about a container in one call; ``records`` asks for its record, too."""
        metadata = self.lookup(container_id, path)
        if metadata is None:
            return Answer()
        container = metadata.container
        return Answer(metadata, tuple(self.watches(container, path)), records and self.has_record(container, path))

    def check(self, container: Container, path: str, recorded: bool) -> Check:
        """Return whether a container's metadata has changed, and whether its record still exists."""
        return Check(
            self._call(False, self.behind.changed, container, path),
            tuple(self.watches(container, path)),
            self.has_record(container, path) if recorded else True,
        )

    def listing(
        self, place: str, known: dict[str, tuple[Container, str]], skipped: frozenset[str], limit: int
    ) -> Listing:
        """Return the records in a place.

        ``known`` are containers and paths without a record yet, by id; ``skipped`` are ids that have one.
        """
        if self.keeper is None:
            return Listing()
        nothing: Sequence[str] = ()
        names = tuple(self._call(nothing, self.keeper.records, place))[:limit]
        new: dict[str, Answer] = {}
        unread = []
        for name in names:
            if name in skipped:
                continue
            if name in known:
                if self.has_record(*known[name]):
                    new[name] = Answer(has_record=True)
                else:  # it is being removed
                    unread.append(name)
                continue
            answer = self.answer(name, "", False)
            if answer.metadata is None or not answer.metadata.container.name:
                unread.append(name)
            else:
                new[name] = answer._replace(has_record=True)
        return Listing(names, new, tuple(unread))

    def _call(self, default: _T, function: Callable[..., _T], *arguments: object) -> _T:
        try:
            return function(*arguments)
        except WouldBlock:
            raise
        except Exception as error:  # a runtime reads untrusted files
            self._faults.note(self.title, error)
            return default
