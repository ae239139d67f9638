# SPDX-License-Identifier: BSD-2-Clause
"""What stands between the registry and a runtime, which reads other people's files: an error stays behind it."""

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
    """What a slow runtime said when it was asked for a container."""

    metadata: Metadata | None = None
    watched: tuple[str, ...] = ()  # see Runtime.watches
    kept: bool = False  # see RecordKeeper.keeps


class Check(NamedTuple):
    """What a runtime said when it was asked whether something has changed."""

    changed: bool = False
    watched: tuple[str, ...] = ()
    kept: bool = True


class Listing(NamedTuple):
    """The containers that have a record in one place of a runtime's."""

    names: tuple[str, ...] = ()
    new: Mapping[str, Answer] = MappingProxyType({})  # of those that were not known, and have a record that can be read
    unread: tuple[str, ...] = ()  # names of which there is nothing to read yet, or any more


class RuntimeReader:
    """Asks one runtime; where that raises, its errors are counted and nothing is known.

    Those that are ``slow`` are asked in a thread alone. One that is not becomes so for good when it would have to wait:
    :class:`WouldBlock` is then raised. So one thread at a time is in a runtime, but for :meth:`recognises`.
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
        """Return the container's id; see :meth:`Runtime.recognises`. Never waits."""
        try:
            with refused():
                return self._call("", self.behind.recognises, parent, name)
        except WouldBlock:
            return ""

    def may_know(self, container_id: str, path: str) -> bool:
        """Whether there is any use in asking; never waits."""
        return self._may_know is None or self._call(True, self._may_know, container_id, path)

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return what the runtime says of a container; see :meth:`Runtime.lookup`."""
        return self._call(None, self.behind.lookup, container_id, path)

    def watches(self, container: Container, path: str) -> Sequence[str]:
        """Return what is to be watched; see :meth:`Runtime.watches`."""
        return self._call((), self.behind.watches, container, path)

    def keeps(self, container: Container, path: str) -> bool:
        """Whether the runtime keeps a record; one that cannot be looked for counts as kept."""
        return self.keeper is not None and self._call(True, self.keeper.keeps, container, path)

    def places(self) -> Sequence[str]:
        """Return where the runtime keeps records; see :meth:`RecordKeeper.places`."""
        return () if self.keeper is None else self._call((), self.keeper.places)

    def hurried(self) -> Sequence[str]:
        """Return files to be read as a cgroup is made; see :meth:`Prefetching.hurried`."""
        return () if self._prefetching is None else self._call((), self._prefetching.hurried)

    def answer(self, container_id: str, path: str, records: bool) -> Answer:
        """Return all there is of a container in one go; ``records`` asks for its record, too."""
        metadata = self.lookup(container_id, path)
        if metadata is None:
            return Answer()
        container = metadata.container
        return Answer(metadata, tuple(self.watches(container, path)), records and self.keeps(container, path))

    def check(self, container: Container, path: str, recorded: bool) -> Check:
        """Return whether a container's metadata was rewritten, and whether its record is still there."""
        return Check(
            self._call(False, self.behind.changed, container, path),
            tuple(self.watches(container, path)),
            self.keeps(container, path) if recorded else True,
        )

    def listing(
        self, place: str, known: dict[str, tuple[Container, str]], skipped: frozenset[str], limit: int
    ) -> Listing:
        """Return the records in a place.

        ``known`` are containers and paths of which there is no record yet, by id; those that are ``skipped`` have one.
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
                if self.keeps(*known[name]):
                    new[name] = Answer(kept=True)
                else:  # it is being removed, and its entry is what is left
                    unread.append(name)
                continue
            answer = self.answer(name, "", False)
            if answer.metadata is None or not answer.metadata.container.name:
                unread.append(name)
            else:
                new[name] = answer._replace(kept=True)
        return Listing(names, new, tuple(unread))

    def _call(self, default: _T, function: Callable[..., _T], *arguments: object) -> _T:
        try:
            return function(*arguments)
        except WouldBlock:
            raise
        except Exception as error:  # whatever a stranger's file brings about
            self._faults.note(self.title, error)
            return default
