# SPDX-License-Identifier: BSD-2-Clause
"""What a tracker is, and where trackers are found: a folder each, no list.

A built-in tracker is a folder below ``eunomia/trackers``; another package's is an entry point of the group
``eunomia.trackers`` that names its ``TRACKER``, with the compiled probe beside the module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from types import ModuleType

    from eunomia.batch import Batch

GROUP = "eunomia.trackers"
_FOLDER = os.path.join(os.path.dirname(__file__), "trackers")


class Variant(NamedTuple):
    """One way to hook what a tracker watches: the programs that belong to it, by name."""

    name: str
    programs: tuple[str, ...]


class Tracker(NamedTuple):
    """What BTF does not know of a tracker.

    ``title`` is the question that it answers. ``variants`` are its ways to hook, the best first, and
    ``always`` the programs that each of them needs. ``columns`` are what a table shows of each stream.
    ``derive`` (``module:callable``) makes the :class:`Deriver` of a tracker that has ``DERIVED()`` streams; it is
    called with the registry of containers and the live object. ``whole`` says that rows show all that is known of
    a container and its pod, where formats have room for it.
    """

    title: str
    variants: tuple[Variant, ...]
    always: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = {}
    derive: str = ""
    whole: bool = False


class Deriver(Protocol):
    """Makes the rows of derived streams; one lives as long as its tracker runs."""

    def start(self, news: Sequence[Any]) -> None:
        """Learn what there is, once, when everything is attached and the registry knows what runs."""

    def rows(self, raw: Mapping[str, Sequence[Batch]], news: Sequence[Any], until: int, last: bool) -> list[Batch]:
        """Return batches of rows, their ``stream`` and ``identities`` set, in the order of their times.

        ``raw`` are the records of the ``RAW()`` rings that were drained since the last call, ``news`` what the
        registry heard since (:class:`eunomia.containers.registry.News`). All that the kernel wrote before
        ``until`` (monotonic ns) was drained: news after that may come before their records do. ``last`` says
        that nothing comes any more.
        """

    def next_deadline(self) -> int | None:
        """Return when :meth:`rows` has something to do although nothing came (monotonic ns), None if never."""


class Found(NamedTuple):
    """A tracker and where it lives: ``folder`` holds ``NAME.bpf.o`` and README.md."""

    name: str
    tracker: Tracker
    folder: str
    quick: bool = False  # whether it may be loaded by a part of the kernel's BTF, as the built-in ones may

    @property
    def object(self) -> str:
        """The path of the compiled probe."""
        return os.path.join(self.folder, f"{self.name}.bpf.o")


def deriver_of(tracker: Tracker) -> Callable[[Any, Any], Deriver] | None:
    """Return what makes a tracker's :class:`Deriver`; None where its rows come from the kernel as they are."""
    if not tracker.derive:
        return None
    from importlib import import_module

    module, _, name = tracker.derive.partition(":")
    factory: Callable[[Any, Any], Deriver] = getattr(import_module(module), name)
    return factory


def built_in() -> list[str]:
    """Return the names of the trackers that come with Eunomia."""
    with os.scandir(_FOLDER) as entries:
        return sorted(e.name for e in entries if os.path.exists(os.path.join(e.path, "tracker.py")))


def find(name: str) -> Found | None:
    """Return a tracker by name; None where there is none."""
    import importlib

    if name.isidentifier() and os.path.exists(os.path.join(_FOLDER, name, "tracker.py")):
        module = importlib.import_module(f"eunomia.trackers.{name}.tracker")
        return Found(name, module.TRACKER, os.path.join(_FOLDER, name), quick=True)
    return next((found for found in _entry_points() if found.name == name), None)


def every() -> list[Found]:
    """Return all trackers, the built-in ones first."""
    own = [found for name in built_in() if (found := find(name)) is not None]
    return own + [found for found in _entry_points() if found.name not in {f.name for f in own}]


def _entry_points() -> Iterator[Found]:
    from importlib import import_module, metadata

    for point in metadata.entry_points(group=GROUP):
        module: ModuleType = import_module(point.module)
        if module.__file__ is not None:
            yield Found(point.name, point.load(), os.path.dirname(module.__file__))
