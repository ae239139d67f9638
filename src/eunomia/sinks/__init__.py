# SPDX-License-Identifier: BSD-2-Clause
"""Sinks: what becomes of rows in the end. One file a sink; :func:`open_sink` finds it by its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eunomia.typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from eunomia.batch import Batch, Schema
    from eunomia.sinks.writer import Writer

FORMATS = ("table", "json", "csv")

Key = tuple[str, str]  # a tracker's name and a stream's


class StreamInfo(NamedTuple):
    """A stream that a sink will see. ``default_columns`` are what a table shows; empty for all not hidden.

    ``whole`` rows show all that is known of a container and its pod, where the format has room for it.
    """

    tracker: str
    stream: str
    schema: Schema
    default_columns: tuple[str, ...] = ()
    whole: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What its rows are counted under."""
        return self.tracker, self.stream


class Sink(Protocol):
    """Takes batches of several streams, drained at about the same time, and counts what becomes of their rows.

    Batches are shared with other sinks: none may write into them. ``wants`` are the columns that it reads. One that
    has a method ``adapt`` is told the streams by it when some of them have other columns than before.
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
        """Whether nobody reads any more."""

    def write(self, batches: Sequence[Batch]) -> None:
        """Write a tick's rows, in the order of their times."""

    def flush(self) -> None:
        """Pass on what waits, as far as that is possible without waiting."""

    def close(self) -> None:
        """Pass on what waits, for a bounded time, and let go."""


class ByteSink:
    """A sink whose account is its writer's."""

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
        """Rows that a slow reader has yet to take, by stream."""
        return self._writer.waiting

    @property
    def closed(self) -> bool:
        """Whether nobody reads any more."""
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

    ``added`` are columns beside the usual ones, where ``columns`` is None. ``color`` matters to tables; None
    leaves it to the terminal and its environment. Raises ValueError for a format or a column that does not
    exist, with the ones that do.
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
