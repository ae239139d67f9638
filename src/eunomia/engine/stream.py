# SPDX-License-Identifier: BSD-2-Clause
"""A running stream: its reader, the fields that identify container and process, and its account in the engine."""

from __future__ import annotations

from eunomia.filters import cgroup_field
from eunomia.kernel.loaded import Count
from eunomia.kernel.ring import PerfReader, RingReader
from eunomia.process_field import process_field
from eunomia.python_stream import PythonStreamReader
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.filters import Mask
    from eunomia.kernel.loaded import Loaded
    from eunomia.sinks import StreamInfo
    from eunomia.stream_schema import Schema

Key = tuple[str, str]  # the source's name and the stream's


class Stream:
    """One stream of a source; ``live`` is None if its rows are made in user space.

    ``early`` has, by the ids of its schemas, masks that leave out rows before the join.
    """

    __slots__ = (
        "before", "cgroup", "early", "filtered", "info", "is_made", "is_table", "key", "live", "process", "reader",
        "schemas", "takers",
    )  # fmt: skip

    def __init__(self, info: StreamInfo, live: Loaded | None, reader: Any) -> None:
        self.info = info
        self.key: Key = info.key
        self.live = live
        self.reader = reader
        self.filtered = 0
        self.takers = 0  # outputs that take its rows
        self.before = Count(0, 0)  # of earlier generations of its source
        self.is_made = isinstance(reader, PythonStreamReader)
        self.is_table = not isinstance(reader, RingReader | PerfReader | PythonStreamReader)
        shapes: list[Schema] = [] if self.is_made else reader.spec.shapes
        self.schemas: list[Schema] = [reader.schema, *shapes]
        self.early: dict[int, Mask] = {}
        self.cgroup = {id(s): cgroup_field(s) for s in self.schemas}
        if isinstance(reader, RingReader) and (cgroup := self.cgroup[id(reader.schema)]):
            reader.code(cgroup)
        self.process = {id(s): process_field(s) for s in self.schemas}

    @property
    def label(self) -> str:
        """Its name in messages."""
        return "/".join(self.key)

    def count(self) -> Count:
        """Return what it has emitted and lost so far."""
        now = Count(self.reader.emitted, self.reader.lost) if self.live is None else self.live.count(self.key[1])
        lost = None if now.lost is None or self.before.lost is None else now.lost + self.before.lost
        return Count(now.emitted + self.before.emitted, lost)

    def leave_out(self, batch: Batch) -> Batch:
        """Return a batch without the rows that no output wants, and count these."""
        test = self.early.get(id(batch.schema))
        wanted = test(batch) if test is not None else None
        if wanted is None or 0 not in wanted:
            return batch
        kept = batch[wanted]
        self.filtered += batch.count - kept.count
        return kept
