# SPDX-License-Identifier: BSD-2-Clause
"""A stream of rows that are made in user space, without a BPF map; its schema may be declared in Python."""

from __future__ import annotations

from collections import deque

from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.stream_schema import Schema

ROOM = 65536  # the most rows that wait for the engine's next step


class PythonStreamReader:
    """Takes batches by :meth:`emit`, from any thread, and passes them to the engine's next step.

    ``emitted`` and ``lost`` are rows; those that do not fit are lost.
    """

    def __init__(self, schema: Schema, room: int = ROOM) -> None:
        self.schema = schema
        self.emitted = 0
        self.lost = 0
        self.waiting = 0  # rows
        self.odd = 0
        self._room = room
        self._batches: deque[Batch] = deque()

    def emit(self, batch: Batch) -> bool:
        """Take a batch of this schema with its identities; return whether there was room for it."""
        if batch.schema is not self.schema:
            raise ValueError(f"rows of {batch.schema.name!r} in a stream of {self.schema.name!r}")
        if not batch.count:
            return True
        if self.waiting and self.waiting + batch.count > self._room:
            self.lost += batch.count
            return False
        self.emitted += batch.count
        self.waiting += batch.count
        self._batches.append(batch)
        return True

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return what was emitted since the last time."""
        drained = []
        while self._batches:
            batch = self._batches.popleft()
            self.waiting -= batch.count
            batch.clock, batch.taken = clock, batch.taken or taken
            drained.append(batch)
        return drained

    def go_on(self, other: PythonStreamReader) -> None:
        """Go on with the counts of another generation."""
        self.emitted, self.lost = other.emitted, other.lost

    def close(self) -> None:
        """Do nothing."""
