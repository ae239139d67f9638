# SPDX-License-Identifier: BSD-2-Clause
"""What a tracker is, and where trackers are found: a folder each, no list.

A built-in tracker is a folder below ``eunomia/trackers``; another package's is an entry point of the group
``eunomia.trackers`` that names its ``TRACKER``, with the compiled probe beside the module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

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
    """

    title: str
    variants: tuple[Variant, ...]
    always: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = {}


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
