# SPDX-License-Identifier: BSD-2-Clause
"""Holds rows of pending containers until the name is known, for a limited time and number of rows."""

from __future__ import annotations

from collections.abc import Collection

from eunomia.identity import PENDING
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.containers.registry import Registry
    from eunomia.engine.stream import Stream

HOLD = 1_000_000_000  # ns that rows wait
ROOM = 65536  # rows that wait at the same time


class Held:
    """The waiting rows, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: list[tuple[Stream, Batch, int]] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def next_deadline(self) -> int | None:
        """Return when the first of them stops waiting (monotonic ns), None if there is none."""
        return self._rows[0][2] if self._rows else None

    def hold(self, stream: Stream, batch: Batch) -> Batch:
        """Keep the rows of a joined batch that have no container name yet; return the others."""
        if not stream.cgroup[id(batch.schema)] or all(owner.state != PENDING for owner in batch.owners):
            return batch
        waits = bytes(owner.state == PENDING for owner in batch.owners)
        each = waits[:1] * batch.count if batch.owner is None else bytes(map(waits.__getitem__, batch.owner))
        held = batch[each]
        if sum(b.count for _, b, _ in self._rows) + held.count > ROOM:
            return batch
        self._rows.append((stream, held, monotonic_ns() + HOLD))
        return batch[bytes(0 if wait else 1 for wait in each)]

    def released(self, registry: Registry, last_of: Collection[Stream]) -> list[tuple[Stream, Batch]]:
        """Return rows that now have a name, or have waited long enough, and all rows of streams that end."""
        if not self._rows:
            return []
        now, held, free = monotonic_ns(), self._rows, []
        self._rows = []
        if last_of:
            registry.settle()  # these are the last rows: resolve what can be resolved now
        for stream, batch, until in held:
            registry.join(batch, stream.cgroup[id(batch.schema)])
            waits = any(owner.state == PENDING for owner in batch.owners)
            if waits and now < until and stream not in last_of:
                self._rows.append((stream, batch, until))
            else:
                free.append((stream, batch))
        return free
