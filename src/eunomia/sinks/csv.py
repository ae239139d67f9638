# SPDX-License-Identifier: BSD-2-Clause
"""CSV as RFC 4180 has it: a header, then the columns of all streams, empty where a stream has none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from eunomia.actor import is_acting
from eunomia.batch import VIRTUAL
from eunomia.joined import is_joined
from eunomia.sinks import ByteSink
from eunomia.sinks.cells import acting_texts, joined_texts, texts
from eunomia.sinks.columns import Looks, beside, checked, expanded, union
from eunomia.sinks.merge import Piece, interleave, pieces, tally

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.sinks import StreamInfo
    from eunomia.sinks.writer import Writer


class CsvSink(ByteSink):
    """Writes one line a row; what could break a line or move a cursor is escaped as in tables."""

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
        self._joined = [name for name in self._columns if is_joined(name)]
        self._looks = Looks(joined_texts(self._joined))
        self._acting = [name for name in self._columns if is_acting(name)]
        self._acts = Looks(acting_texts(self._acting), "actor")
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
        who = dict(zip(self._joined, self._looks.columns(batch), strict=True))
        who |= zip(self._acting, self._acts.columns(batch), strict=True) if self._acting else ()
        columns: list[Iterable[Any]] = []
        for name in self._columns:
            if name == "time":
                columns.append(piece.times)
            elif name in batch.schema.fields:
                columns.append(texts(batch.schema.fields[name], batch.values(name)))
            elif name in who:
                columns.append(who[name])
            else:
                columns.append(repeat(getattr(batch, name) if name in VIRTUAL else "", batch.count))
        return zip(*columns, strict=True)

    def flush(self) -> None:
        """Pass on what waits."""
        self._writer.flush()

    def close(self) -> None:
        """Pass on what waits, for a bounded time, and let go."""
        self._writer.close()
