# SPDX-License-Identifier: BSD-2-Clause
"""Whose processes are that many rows are about, without a look into ``/proc`` for each batch of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from eunomia.identity import NOBODY_KNOWS, Identity
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.containers.registry import Registry

# ns. A process that a runtime starts moves into its cgroup, which it does early: until it was seen in one cgroup
# for so long it is looked up each time, later once in a while. No id is given anew within that while.
STEADY = 1_000_000_000
AGAIN = 250_000_000
_REMEMBERED = 4096  # processes


class ProcessCgroups:
    """Remembers for a moment which cgroup a process was in; what its identity is the registry is asked each time."""

    def __init__(self, registry: Registry, clock: Callable[[], int] = monotonic_ns) -> None:
        self._registry = registry
        self._clock = clock
        # by process: its cgroup, since when it was seen there, and when last
        self._seen: dict[int, tuple[int, int, int]] = {}

    def identities(self, pids: Collection[int]) -> dict[int, Identity]:
        """Return whose each of these processes or threads is."""
        now = self._clock()
        return {pid: self._identity(pid, now) for pid in pids}

    def _identity(self, pid: int, now: int) -> Identity:
        seen = self._seen.get(pid)
        if seen is not None and seen[2] - seen[1] >= STEADY and now - seen[2] < AGAIN:
            return self._registry[seen[0]]
        cgroup_id = self._registry.cgroup_of(pid)
        if cgroup_id is None:
            self._seen.pop(pid, None)
            return NOBODY_KNOWS
        if seen is None and len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        same = seen is not None and seen[0] == cgroup_id and now - seen[2] < STEADY
        self._seen[pid] = (cgroup_id, seen[1] if same and seen is not None else now, now)
        return self._registry[cgroup_id]
