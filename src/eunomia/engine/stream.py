# SPDX-License-Identifier: BSD-2-Clause
"""A running stream: its reader, the fields that identify container and process, and its account in the engine."""

from __future__ import annotations

from eunomia.filters import cgroup_field
from eunomia.kernel.count import Count
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
        "before", "cgroup", "early", "filtered", "info", "is_made", "is_table", "key", "live", "missed", "process",
        "reader", "retired", "schemas", "takers",
    )  # fmt: skip

    def __init__(self, info: StreamInfo, live: Loaded | None, reader: Any) -> None:
        self.info = info
        self.key: Key = info.key
        self.live = live
        self.reader = reader
        self.filtered = 0
        self.takers = 0  # outputs that take its rows
        self.before = Count(0, 0)  # of earlier generations of its source
        self.retired, self.missed = Count(0, 0), 0  # of this one itself, when another took its place
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

    @property
    def columns(self) -> object:
        """What is to be compared with another stream's to know whether they look the same."""
        return self.key, [list(schema.fields.items()) for schema in self.schemas]

    @property
    def map(self) -> str:
        """The map that it is read from; empty for what is made in user space."""
        return "" if self.is_made else str(self.reader.spec.map.name)

    def count(self) -> Count:
        """Return what it has emitted and lost so far, over all generations of its source."""
        return _sum(self._own(), self.before)

    def _own(self) -> Count:
        if self.live is None:
            return Count(self.reader.emitted, self.reader.lost)
        return self.live.count(self.key[1])

    def inherit(self, stream: Stream, kept: frozenset[str]) -> None:
        """Go on with the account of another generation, whose programs run no more; ``kept`` are maps that both have.

        If the ledger is one of these maps, its counts go on by themselves.
        """
        assert self.live is not None
        assert stream.live is not None
        self.filtered = stream.filtered
        stream.retired, stream.missed = stream._own(), stream.live.missed()
        ledgers = self.live.ledgers(self.key[1])
        if ledgers and kept >= ledgers:
            self.reader.go_on(stream.reader)
            self.before = _sum(stream.before, Count(0, stream.missed - self.missed))
        else:
            self.before = _sum(stream.count(), self.retired.negated())

    def leave_out(self, batch: Batch) -> Batch:
        """Return a batch without the rows that no output wants, and count these."""
        test = self.early.get(id(batch.schema))
        wanted = test(batch) if test is not None else None
        if wanted is None or 0 not in wanted:
            return batch
        kept = batch[wanted]
        self.filtered += batch.count - kept.count
        return kept


def _sum(one: Count, other: Count) -> Count:
    return one.after(other)
