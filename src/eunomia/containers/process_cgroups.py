# SPDX-License-Identifier: BSD-2-Clause
"""Cache of processes' cgroups, so that ``/proc`` is not read for each batch."""

from __future__ import annotations

from collections.abc import Callable, Collection

from eunomia.identity import UNKNOWN_IDENTITY, Identity
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.containers.registry import Registry

# ns. A process that a runtime starts moves into its cgroup early: until it was seen in one cgroup for STEADY, it is
# looked up each time, later every AGAIN. No process id is reused that fast.
STEADY = 1_000_000_000
AGAIN = 250_000_000
_REMEMBERED = 4096  # processes


class ProcessCgroups:
    """Remembers for a moment which cgroup a process was in; its identity is always the registry's current one."""

    def __init__(self, registry: Registry, clock: Callable[[], int] = monotonic_ns) -> None:
        self._registry = registry
        self._clock = clock
        # by process: its cgroup, when it was first seen there, and when last
        self._seen: dict[int, tuple[int, int, int]] = {}

    def identities(self, pids: Collection[int]) -> dict[int, Identity]:
        """Return the identity of each of these processes or threads."""
        now = self._clock()
        return {pid: self._identity(pid, now) for pid in pids}

    def _identity(self, pid: int, now: int) -> Identity:
        seen = self._seen.get(pid)
        if seen is not None and seen[2] - seen[1] >= STEADY and now - seen[2] < AGAIN:
            return self._registry[seen[0]]
        cgroup_id = self._registry.cgroup_of(pid)
        if cgroup_id is None:
            self._seen.pop(pid, None)
            return UNKNOWN_IDENTITY
        if seen is None and len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        same = seen is not None and seen[0] == cgroup_id and now - seen[2] < STEADY
        self._seen[pid] = (cgroup_id, seen[1] if same and seen is not None else now, now)
        return self._registry[cgroup_id]
