# SPDX-License-Identifier: BSD-2-Clause
"""A stream that runs: where its rows come from, what tells whose they are, and the engine's side of its account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eunomia import process_field
from eunomia.filters import cgroup_field
from eunomia.kernel.loaded import Count
from eunomia.kernel.ring import PerfReader, RingReader
from eunomia.python_stream import PythonStreamReader

if TYPE_CHECKING:
    from eunomia.batch import Batch, Schema
    from eunomia.filters import Mask
    from eunomia.kernel.loaded import Loaded
    from eunomia.sinks import StreamInfo

Key = tuple[str, str]  # the source's name and the stream's


class Stream:
    """One stream of a source; ``live`` is None where its rows are made in user space.

    ``early`` are, by the ids of its schemas, what leaves out rows before anybody asks whose they are.
    """

    __slots__ = (
        "before", "cgroup", "early", "filtered", "info", "is_made", "is_table", "key", "live", "reader", "schemas",
        "takers", "who",
    )  # fmt: skip

    def __init__(self, info: StreamInfo, live: Loaded | None, reader: Any) -> None:
        self.info = info
        self.key: Key = info.key
        self.live = live
        self.reader = reader
        self.filtered = 0
        self.takers = 0  # outputs that take its rows
        self.before = Count(0, 0)  # what earlier generations of its source have emitted and lost
        self.is_made = isinstance(reader, PythonStreamReader)
        self.is_table = not isinstance(reader, RingReader | PerfReader | PythonStreamReader)
        shapes: list[Schema] = [] if self.is_made else reader.spec.shapes
        self.schemas: list[Schema] = [reader.schema, *shapes]
        self.early: dict[int, Mask] = {}
        self.cgroup = {id(s): cgroup_field(s) for s in self.schemas}
        self.who = {id(s): process_field.who(s) for s in self.schemas}

    @property
    def label(self) -> str:
        """What sentences call it."""
        return "/".join(self.key)

    def count(self) -> Count:
        """Return what it has emitted and lost so far."""
        now = Count(self.reader.emitted, self.reader.lost) if self.live is None else self.live.count(self.key[1])
        lost = None if now.lost is None or self.before.lost is None else now.lost + self.before.lost
        return Count(now.emitted + self.before.emitted, lost)

    def leave_out(self, batch: Batch) -> Batch:
        """Return a batch without the rows that nobody wants, and count these."""
        test = self.early.get(id(batch.schema))
        wanted = test(batch) if test is not None else None
        if wanted is None or 0 not in wanted:
            return batch
        kept = batch[wanted]
        self.filtered += batch.count - kept.count
        return kept
