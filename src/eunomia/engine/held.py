# SPDX-License-Identifier: BSD-2-Clause
"""Rows whose container is about to get a name wait for it, a moment at most and so many at most."""

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
ROOM = 65536  # rows that do so at a time


class Held:
    """The rows that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: list[tuple[Stream, Batch, int]] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    def next_deadline(self) -> int | None:
        """Return until when the first of them waits (monotonic ns), None where there is none."""
        return self._rows[0][2] if self._rows else None

    def hold(self, stream: Stream, batch: Batch) -> Batch:
        """Keep a joined batch's rows whose container has no name yet; return the others."""
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
        """Return the rows that have a name by now, or have waited long enough; of streams that end, all."""
        if not self._rows:
            return []
        now, held, free = monotonic_ns(), self._rows, []
        self._rows = []
        if last_of:
            registry.settle()  # nothing comes after: what can be known at once is
        for stream, batch, until in held:
            registry.join(batch, stream.cgroup[id(batch.schema)])
            waits = any(owner.state == PENDING for owner in batch.owners)
            if waits and now < until and stream not in last_of:
                self._rows.append((stream, batch, until))
            else:
                free.append((stream, batch))
        return free
