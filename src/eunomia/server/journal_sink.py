# SPDX-License-Identifier: BSD-2-Clause
"""The sink that writes a tracker's rows into its journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from eunomia.server.journal import SCHEMA, Journal
from eunomia.server.models import Column, Histogram, Stream
from eunomia.sinks import Key, StreamInfo
from eunomia.sinks.json import JsonSink
from eunomia.sinks.writer import Writer
from eunomia.stream_schema import Field


class _JournalWriter(Writer):
    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def start(self, header: bytes) -> None:
        """There is none."""

    def write(self, data: bytes, rows: Mapping[Key, int], order: Sequence[Key] = ()) -> None:
        """Append whole lines."""
        self._journal.add_rows(bytes(data), sum(rows.values()))
        self._deliver(rows)


class JournalSink(JsonSink):
    """Rows as JSON lines; a line that describes the streams comes first, and again when their columns change."""

    def __init__(
        self,
        journal: Journal,
        name: str,
        streams: Sequence[StreamInfo],
        added: Sequence[str],
        tables: frozenset[str] = frozenset(),
    ) -> None:
        self._journal, self._name, self._tables = journal, name, tables
        ours = [s for s in streams if s.tracker == name]
        super().__init__(_JournalWriter(journal), ours, None, added)
        self._describe(ours)

    def adapt(self, streams: Sequence[StreamInfo]) -> None:
        """Describe the streams as they are from the next row on."""
        self._describe([s for s in streams if s.tracker == self._name])

    def _describe(self, streams: Sequence[StreamInfo]) -> None:
        self._journal.add(SCHEMA, msgspec.json.encode(described(streams, self._tables)) + b"\n")


def described(streams: Sequence[StreamInfo], tables: frozenset[str] = frozenset()) -> list[Stream]:
    """Return the streams as the API describes them."""
    return [
        Stream(
            info.stream,
            "table" if info.stream in tables else "events",
            [_column(field) for field in info.schema.fields.values()],
            list(info.default_columns),
            info.whole,
        )
        for info in streams
    ]


def _column(field: Field) -> Column:
    scale = field.scale
    return Column(
        field.name,
        field.ctype or field.meaning,
        field.doc,
        field.meaning,
        field.size,
        field.hidden,
        field.none is not None,
        bool(field.tag),
        None if scale is None else Histogram(scale.kind, scale.unit, scale.step, scale.more),
    )
