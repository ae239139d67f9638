# SPDX-License-Identifier: BSD-2-Clause
"""Trackers: their declaration, and how they are found.

A built-in tracker is a folder in ``eunomia/trackers``; another package's is an entry point of the group
``eunomia.trackers`` that names its ``TRACKER``, with the compiled probe beside the module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from eunomia.typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from types import ModuleType

    from eunomia.batch import Batch
    from eunomia.stream_schema import Schema

GROUP = "eunomia.trackers"
_FOLDER = os.path.join(os.path.dirname(__file__), "trackers")


class Variant(NamedTuple):
    """One way to hook a tracker's events: the names of its programs."""

    name: str
    programs: tuple[str, ...]


class Tracker(NamedTuple):
    """What BTF does not say of a tracker.

    ``title`` is the question that it answers. ``variants`` are its ways to hook, the best first, and
    ``always`` the programs that each of them needs. ``columns`` are those that a table shows of each stream.
    ``derived`` are the schemas of streams whose rows are made in Python (see :mod:`eunomia.python_schema`), and
    ``derive`` (``module:callable``) makes the :class:`Deriver` that makes them; it is called with the registry of
    containers and the live object. ``whole`` says that rows show all columns of
    a container and its pod, if the format has room for them.
    """

    title: str
    variants: tuple[Variant, ...]
    always: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = {}
    derived: Mapping[str, Schema] = {}
    derive: str = ""
    whole: bool = False


class Deriver(Protocol):
    """Makes the rows of derived streams, from records of the kernel and from lifecycle events of containers.

    There is one for each time that the tracker runs.
    """

    def start(self, news: Sequence[Any]) -> None:
        """Take the containers that run already, once, when everything is attached and the registry knows them."""

    def rows(self, raw: Mapping[str, Sequence[Batch]], news: Sequence[Any], until: int, last: bool) -> list[Batch]:
        """Return batches of rows, their ``stream`` and ``identities`` set, in the order of their times.

        ``raw`` are the records of the ``RAW()`` rings that were drained since the last call, ``news`` the
        lifecycle events since (:class:`eunomia.containers.lifecycle.LifecycleEvent`). All that the kernel wrote
        before ``until`` (monotonic ns) was drained: later events may come before the records that belong to them.
        ``last`` says that nothing follows.
        """

    def next_deadline(self) -> int | None:
        """Return when :meth:`rows` must be called even if nothing comes (monotonic ns); None for never."""


class FoundTracker(NamedTuple):
    """A tracker and its ``folder``, which has ``NAME.bpf.o`` and README.md."""

    name: str
    tracker: Tracker
    folder: str
    broken: str = ""  # why its package's entry point is not a tracker
    quick: bool = False  # whether a part of the kernel's BTF is enough to load it, as for built-in ones

    @property
    def object(self) -> str:
        """The path of the compiled probe."""
        return os.path.join(self.folder, f"{self.name}.bpf.o")


_NONE = Tracker(title="", variants=())


def deriver_of(tracker: Tracker) -> Callable[[Any, Any], Deriver] | None:
    """Return the factory of a tracker's :class:`Deriver`; None if its rows come directly from the kernel."""
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


def find(name: str) -> FoundTracker | None:
    """Return a tracker by name; None if there is none."""
    import importlib

    if name.isidentifier() and os.path.exists(os.path.join(_FOLDER, name, "tracker.py")):
        module = importlib.import_module(f"eunomia.trackers.{name}.tracker")
        return FoundTracker(name, module.TRACKER, os.path.join(_FOLDER, name), quick=True)
    return next(_entry_points(name), None)


def every() -> list[FoundTracker]:
    """Return all trackers, the built-in ones first."""
    own = [found for name in built_in() if (found := find(name)) is not None]
    return own + [found for found in _entry_points() if found.name not in {f.name for f in own}]


def _entry_points(name: str | None = None) -> Iterator[FoundTracker]:
    """Yield other packages' trackers, or those of a name; a broken one has the reason in ``broken``."""
    from importlib import metadata

    for point in metadata.entry_points(group=GROUP):
        if name is None or point.name == name:
            yield _loaded(point)


def _loaded(point: EntryPoint) -> FoundTracker:
    from importlib import import_module

    try:
        module: ModuleType = import_module(point.module)
        tracker = point.load()
        folder = os.path.dirname(module.__file__ or "")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever another package raises, also SystemExit
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    else:
        if isinstance(tracker, Tracker):
            return FoundTracker(point.name, tracker, folder)
        why = f"it is a {type(tracker).__name__}, not a Tracker"
    package = f" of {point.dist.name}" if point.dist is not None else ""
    return FoundTracker(point.name, _NONE, "", f"its entry point {point.value}{package} is broken: {why}")
