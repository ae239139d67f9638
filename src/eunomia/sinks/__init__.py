# SPDX-License-Identifier: BSD-2-Clause
"""Sinks write rows in a format. Each has its own file; :func:`open_sink` finds it by the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eunomia.typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.sinks.writer import Writer
    from eunomia.stream_schema import Schema

FORMATS = ("table", "json", "csv")

Key = tuple[str, str]  # a tracker's name and a stream's


class StreamInfo(NamedTuple):
    """Description of a stream for sinks. ``default_columns`` are a table's; empty for all that are not hidden.

    ``whole`` rows show all columns of a container and its pod, if the format has room for them.
    """

    tracker: str
    stream: str
    schema: Schema
    default_columns: tuple[str, ...] = ()
    whole: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The key under which its rows are counted."""
        return self.tracker, self.stream


class Sink(Protocol):
    """Takes batches of several streams, drained at about the same time, and counts their rows by outcome.

    Batches are shared with other sinks and must not be changed. ``wants`` are the columns that it reads. If it has a
    method ``adapt``, it is called with the streams when columns of some of them have changed.
    """

    wants: frozenset[str]

    @property
    def delivered(self) -> Mapping[Key, int]:
        """Rows written, by stream."""

    @property
    def dropped(self) -> Mapping[Key, Mapping[str, int]]:
        """Rows not written, by stream and reason."""

    @property
    def waiting(self) -> Mapping[Key, int]:
        """Rows taken that are neither delivered nor dropped yet, by stream; empty where there are none."""

    @property
    def closed(self) -> bool:
        """Whether the reader is gone."""

    def write(self, batches: Sequence[Batch]) -> None:
        """Write a tick's rows, in the order of their times."""

    def flush(self) -> None:
        """Write waiting rows, as far as possible without blocking."""

    def close(self) -> None:
        """Write waiting rows, for a bounded time, and close."""


class ByteSink:
    """A sink with the account of its writer."""

    _writer: Writer

    @property
    def delivered(self) -> Mapping[Key, int]:
        """Rows written, by stream."""
        return self._writer.delivered

    @property
    def dropped(self) -> Mapping[Key, Mapping[str, int]]:
        """Rows not written, by stream and reason."""
        return self._writer.dropped

    @property
    def waiting(self) -> Mapping[Key, int]:
        """Rows that wait for a slow reader, by stream."""
        return self._writer.waiting

    @property
    def closed(self) -> bool:
        """Whether the reader is gone."""
        return self._writer.closed


def open_sink(
    kind: str,
    writer: Writer,
    streams: Sequence[StreamInfo],
    columns: Sequence[str] | None = None,
    color: bool | None = None,
    *,
    added: Sequence[str] = (),
) -> Sink:
    """Return a sink of a format, one of :data:`FORMATS`, over a writer.

    ``added`` are columns in addition to the usual ones, if ``columns`` is None. ``color`` is for tables; with None
    it depends on the terminal and the environment. Raises ValueError for an unknown format or column, with
    a list of the known ones.
    """
    if kind == "json":
        from eunomia.sinks.json import JsonSink

        return JsonSink(writer, streams, columns, added)
    if kind == "csv":
        from eunomia.sinks.csv import CsvSink

        return CsvSink(writer, streams, columns, added)
    if kind == "table":
        from eunomia.sinks.text_table import TableSink

        return TableSink(writer, streams, columns, color, added=added)
    raise ValueError(f"no output format {kind!r}; there are {', '.join(FORMATS)}")
