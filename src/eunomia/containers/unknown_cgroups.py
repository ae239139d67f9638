# SPDX-License-Identifier: BSD-2-Clause
"""Cgroup ids that rows have and no record told of: they are looked for by a walk of the tree, all at once, seldom."""

from __future__ import annotations

from collections.abc import Container

from eunomia.identity import NOBODY_KNOWS, PENDING, Identity

PAUSE = 200_000_000  # ns between two walks, at least
SHARE = 20  # they take at most one part in this of the time
SOON = 500_000_000  # ns that rows wait for a walk; they are not held for a later one
_LIMIT = 8192  # ids that are remembered not to exist

LOOKED_FOR = Identity(PENDING)  # whose rows wait for the walk


class UnheardIds:
    """Which ids a walk is to look for, and when it may; :data:`NOBODY_KNOWS` are those that none has found."""

    def __init__(self) -> None:
        self._wanted: set[int] = set()
        self._absent: set[int] = set()
        self._next = 0  # when there may be a walk again

    def __call__(self, cgroup_id: int, now: int) -> Identity:
        """Return what there is to say of an id, which is looked for from now on."""
        if cgroup_id in self._absent:
            return NOBODY_KNOWS
        self._wanted.add(cgroup_id)
        return LOOKED_FOR if self._next - now < SOON else NOBODY_KNOWS

    @property
    def due(self) -> int | None:
        """When to walk the tree; None where nothing is looked for."""
        return self._next if self._wanted else None

    def drop(self, known: Container[int]) -> bool:
        """Look no more for what is known by now; return whether anything is left."""
        self._wanted = {cgroup_id for cgroup_id in self._wanted if cgroup_id not in known}
        return bool(self._wanted)

    def walked(self, began: int, ended: int, known: Container[int]) -> None:
        """Note a walk of the tree; ``known`` are the cgroups that there are.

        What it did not find will not be there later: a cgroup is older than its rows.
        """
        self._next = began + max(PAUSE, SHARE * (ended - began))
        if self.drop(known):
            if len(self._absent) + len(self._wanted) > _LIMIT:
                self._absent.clear()
            self._absent |= self._wanted
            self._wanted.clear()
