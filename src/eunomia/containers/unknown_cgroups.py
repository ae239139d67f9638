# SPDX-License-Identifier: BSD-2-Clause
"""Unknown cgroup ids of rows, which are looked for together by occasional walks of the cgroup tree."""

from __future__ import annotations

from collections.abc import Container

from eunomia.identity import PENDING, UNKNOWN_IDENTITY, Identity

PAUSE = 200_000_000  # ns between two walks, at least
SHARE = 20  # walks take at most one part in this of the time
SOON = 500_000_000  # ns that rows wait for a walk; they are not held for a later one
_LIMIT = 8192  # ids that are known not to exist

LOOKED_FOR = Identity(PENDING)  # of rows that wait for the walk


class UnknownCgroups:
    """The ids that the next walk looks for, and when it is due."""

    def __init__(self) -> None:
        self._wanted: set[int] = set()
        self._absent: set[int] = set()
        self._next = 0  # when the next walk may begin

    def __call__(self, cgroup_id: int, now: int) -> Identity:
        """Look for an id; return the identity of its rows, :data:`UNKNOWN_IDENTITY` if a walk did not find it."""
        if cgroup_id in self._absent:
            return UNKNOWN_IDENTITY
        self._wanted.add(cgroup_id)
        return LOOKED_FOR if self._next - now < SOON else UNKNOWN_IDENTITY

    @property
    def due(self) -> int | None:
        """When the next walk is due; None if no id is looked for."""
        return self._next if self._wanted else None

    def drop(self, known: Container[int]) -> bool:
        """Drop ids that are known now; return whether any are left."""
        self._wanted = {cgroup_id for cgroup_id in self._wanted if cgroup_id not in known}
        return bool(self._wanted)

    def walked(self, began: int, ended: int, known: Container[int]) -> None:
        """Note the end of a walk; ``known`` are the existing cgroups.

        An id that was not found will not appear later: a cgroup is older than its rows.
        """
        self._next = began + max(PAUSE, SHARE * (ended - began))
        if self.drop(known):
            if len(self._absent) + len(self._wanted) > _LIMIT:
                self._absent.clear()
            self._absent |= self._wanted
            self._wanted.clear()
