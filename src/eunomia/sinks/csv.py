# SPDX-License-Identifier: BSD-2-Clause
"""CSV (RFC 4180): a header, then the columns of all streams, empty if a stream lacks one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import repeat

from eunomia.columns.column import VIRTUAL
from eunomia.columns.joined import ACTOR, OWNER
from eunomia.sinks import ByteSink
from eunomia.sinks.cells import cells, joined_texts
from eunomia.sinks.columns import SharedCells, beside, checked, chosen, expanded, union
from eunomia.sinks.merge import Piece, interleave, pieces, tally
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.sinks import StreamInfo
    from eunomia.sinks.writer import Writer


class CsvSink(ByteSink):
    """Writes one line per row; text that could break a line or move a cursor is escaped as in tables."""

    def __init__(
        self,
        writer: Writer,
        streams: Sequence[StreamInfo],
        columns: Sequence[str] | None = None,
        added: Sequence[str] = (),
    ) -> None:
        self._writer = writer
        names = union(streams) if columns is None else checked(columns, streams)
        self._columns = expanded([*names, *beside(added)], streams)
        self._shared = []
        for of in (OWNER, ACTOR):
            if names := chosen(of, self._columns):
                self._shared.append((names, SharedCells(joined_texts(names), of)))
        self._buffer = io.StringIO(newline="")
        self._rows = csv.writer(self._buffer)
        self.wants = frozenset(self._columns)
        self._rows.writerow(self._columns)
        writer.start(self._taken())

    def _taken(self) -> bytes:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text.encode("utf-8", "backslashreplace")

    def write(self, batches: Sequence[Batch]) -> None:
        """Write a tick's rows, in the order of their times."""
        for group in pieces(batches):
            if len(group) == 1:
                self._rows.writerows(self._cells(group[0]))
                self._writer.write(self._taken(), tally(group))
                continue
            rows, order = interleave(group, [list(self._cells(piece)) for piece in group])
            self._rows.writerows(rows)
            self._writer.write(self._taken(), tally(group), order)

    def _cells(self, piece: Piece) -> Iterable[tuple[Any, ...]]:
        batch = piece.batch
        shared: dict[str, Iterable[Any]] = {}
        for names, made in self._shared:
            shared |= zip(names, made.columns(batch), strict=True)
        columns: list[Iterable[Any]] = []
        for name in self._columns:
            if name == "time":
                columns.append(piece.times)
            elif name in batch.schema.fields or name in VIRTUAL:
                columns.append(cells(batch.schema.column(name), batch))
            else:
                columns.append(shared.get(name) or repeat("", batch.count))
        return zip(*columns, strict=True)

    def flush(self) -> None:
        """Write waiting rows."""
        self._writer.flush()

    def close(self) -> None:
        """Write waiting rows, for a bounded time, and close."""
        self._writer.close()
