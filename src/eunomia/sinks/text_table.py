# SPDX-License-Identifier: BSD-2-Clause
"""Tables for people: common fields of streams in columns, the rest of each row as ``name=value``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import repeat

from eunomia.columns.column import VIRTUAL
from eunomia.columns.joined import ACTOR, OWNER, joined
from eunomia.columns.meanings import FAILURE, LAST
from eunomia.identity import HOST
from eunomia.sinks import ByteSink
from eunomia.sinks.cells import cells, joined_texts
from eunomia.sinks.columns import SharedCells, beside, checked, chosen, expanded, own_columns
from eunomia.sinks.escape import escape, escape_all
from eunomia.sinks.histogram import draw
from eunomia.sinks.layout import TableColumn, cut_all, cut_to, fill, longest, terminal_size, widths
from eunomia.sinks.merge import Key, Piece, interleave, pieces, tally
from eunomia.sinks.shorten import shorten_all
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.columns.column import Column
    from eunomia.identity import Identity
    from eunomia.sinks import StreamInfo
    from eunomia.sinks.writer import Writer
    from eunomia.stream_schema import Schema

_OFF = "\x1b[0m"
_BOLD, _DIM, _RED, _CYAN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[36m"
_STYLES = {"time": _DIM, "container": _CYAN}
_MARKS = {FAILURE: _RED}

_SHORT_PATH = 24  # least cells for a path in the details ...
_PATH_SHARE = 3  # ... which is one part in so many of the line

_LONG_ONES = 2  # columns of any length that fit into a line

# A word in a command line that looks like one of the details after it.


class TableSink(ByteSink):
    """Writes aligned lines, fitted to a terminal; in files and pipes nothing is cut.

    The column ``container`` is a container's name, or the start of its id while the name is not known,
    ``-`` on the host, ``?`` if unknown. With ``columns`` only those are shown.
    """

    def __init__(
        self,
        writer: Writer,
        streams: Sequence[StreamInfo],
        columns: Sequence[str] | None = None,
        color: bool | None = None,
        *,
        added: Sequence[str] = (),
    ) -> None:
        self._writer = writer
        self._terminal = writer.terminal
        self._color = _use_color(writer.terminal) if color is None else color
        self._added = added
        self._since_header = -1  # lines; -1 before the first
        self._line, self._lines = 0, 0
        self._arrange(streams, columns if columns is None else expanded(checked(columns, streams), streams))
        self._measure()

    def _arrange(self, streams: Sequence[StreamInfo], columns: list[str] | None) -> None:
        """Decide on the columns, and on what becomes details."""
        self._named = columns
        self._streams = {s.key: s for s in streams}
        self._histograms = {s.key: [f for f in s.schema.fields.values() if f.scale] for s in streams}
        self._details: dict[Key, list[str]] = {}
        if columns is None:
            names = self._default(streams)
            more = [n for n in expanded(beside(self._added), streams) if n not in names]
            at = names.index("details") if "details" in names else len(names)
            names[at:at] = more
        else:
            names = columns
            self._histograms = {key: [f for f in fields if f.name in names] for key, fields in self._histograms.items()}
        drawn = {f.name for fields in self._histograms.values() for f in fields}
        self._columns = [TableColumn(n, _column(n, streams), flexible=n == "details") for n in names if n not in drawn]
        self._labels = _labels(streams)
        for column in self._columns:
            if column.name == "stream":
                column.width = max(len(column.header), *map(len, self._labels.values()))
        self.wants = frozenset(names).union(drawn, *self._details.values())
        self._owned = chosen(OWNER, self.wants)
        self._acted = chosen(ACTOR, self.wants)
        owned = joined_texts(self._owned)
        self._owners = SharedCells(lambda identity: (*owned(identity), _container(identity)), OWNER)
        self._actors = SharedCells(joined_texts(self._acted), ACTOR)

    def adapt(self, streams: Sequence[StreamInfo]) -> None:
        """Show streams as they are now, below a heading of their own where that differs."""
        before = [column.header for column in self._columns]
        widths_before = {column.name: column.width for column in self._columns}
        self._arrange(streams, self._named)
        for column in self._columns:
            column.width = max(column.width, widths_before.get(column.name, 0))
        if before != [column.header for column in self._columns]:
            self._since_header = -1

    def _default(self, streams: Sequence[StreamInfo]) -> list[str]:
        """Return the columns that all streams share; other columns become details."""
        shown = {s.key: _usual(s) for s in streams}
        lists = list(shown.values())
        common = [n for n in lists[0] if all(n in other for other in lists)] if lists else []
        for key, names in shown.items():
            drawn = {f.name for f in self._histograms[key]}
            self._details[key] = [n for n in names if n not in common and n not in drawn]
        if len(streams) == 1:
            common = _before_long_ones(common, streams[0].schema)
            self._details[streams[0].key] = [n for n in lists[0] if n not in common and n not in drawn]
        several = ["stream"] if len(streams) > 1 else []
        rest = ["details"] if any(self._details.values()) else []
        return ["time", *several, "container", *common, *rest]

    def _measure(self) -> None:
        if self._terminal is None:
            return
        line, lines = terminal_size(self._terminal)
        if line != self._line and self._since_header > 0:
            self._since_header = lines  # repeat the heading
        self._line, self._lines = line, lines

    def write(self, batches: Sequence[Batch]) -> None:
        """Write a tick's rows, in the order of their times."""
        self._measure()
        for group in pieces(batches):
            made = [self._cells(piece) for piece in group]
            widened = False
            for i, column in enumerate(self._columns):
                for shown in made:
                    if self._terminal is None or not column.flexible:
                        widened |= column.grow(longest(shown[i]))
            if widened and self._terminal is not None and self._since_header > 0:
                self._since_header = self._lines
            sizes = self._sizes()
            rows, order = interleave(
                group,
                [self._rows(piece, cells, sizes) for piece, cells in zip(group, made, strict=True)],
            )
            self._emit(rows, group, order, sizes)

    def _emit(self, rows: Sequence[str], group: Sequence[Piece], order: Sequence[Key], sizes: list[int]) -> None:
        if self._since_header < 0:
            self._writer.start(self._header(sizes))
            self._since_header = 0
        if self._terminal is None:
            self._writer.write("".join(rows).encode("utf-8", "backslashreplace"), tally(group), order)
            return
        key = group[0].key
        page = max(self._lines - 2, 8)
        at = 0
        while at < len(rows):
            if self._since_header >= page:
                self._writer.write(self._header(sizes), {})
                self._since_header = 0
            upto = min(len(rows), at + page - self._since_header)
            whose = order[at:upto]
            counts = {k: whose.count(k) for k in set(whose)} if whose else {key: upto - at}
            text = "".join(rows[at:upto])
            self._writer.write(text.encode("utf-8", "backslashreplace"), counts, whose)
            self._since_header += text.count("\n")
            at = upto

    def _sizes(self) -> list[int]:
        if self._terminal is not None:
            return widths(self._columns, self._line)
        return [c.width for c in self._columns]

    def _overflows(self, sizes: list[int]) -> bool:
        return self._terminal is not None and sum(sizes) + len(sizes) - 1 > self._line

    def _header(self, sizes: list[int]) -> bytes:
        cells = [c.header.rjust(w) if c.right else c.header.ljust(w) for c, w in zip(self._columns, sizes, strict=True)]
        line = " ".join(cells).rstrip()
        if self._overflows(sizes):
            line = cut_to(line, self._line)
        return f"{_BOLD}{line}{_OFF}\n".encode() if self._color else f"{line}\n".encode()

    def _rows(self, piece: Piece, cells: list[Sequence[str]], sizes: list[int]) -> list[str]:
        """Return each row's text, with its newline, and the histograms below it."""
        fits = not self._overflows(sizes)
        filled = []
        for i, (column, width) in enumerate(zip(self._columns, sizes, strict=True)):
            last = i == len(self._columns) - 1 and not column.right
            wide = cells[i]
            if self._terminal is not None and column.is_path:
                wide = shorten_all(wide, width)
            if last and self._terminal is not None:
                wide = cut_all(wide, width)
            elif not last:
                cut = self._terminal is not None and not column.right  # a cut number would be wrong
                wide = fill(wide, width, right=column.right, cut=cut)
            elif column.right:
                wide = fill(wide, width, right=True, cut=False)
            if self._color and fits:
                wide = _styled(wide, column, column.name in piece.batch.schema.fields)
            filled.append(wide)
        lines: Iterable[str] = map(" ".join, zip(*filled, strict=True))
        if not fits:
            lines = (cut_to(line, self._line) for line in lines)
        made = [f"{line.rstrip()}\n" for line in lines]
        for field in self._histograms.get(piece.key, ()):
            if field.name in piece.batch.schema.fields and field.scale is not None:
                name, scale = escape(field.name), field.scale._replace(unit=escape(field.scale.unit))
                drawn = [draw(slots, name, scale) for slots in piece.batch.values(field.name)]
                made = [m + "".join(f"{d}\n" for d in ds) for m, ds in zip(made, drawn, strict=True)]
        return made

    def _cells(self, piece: Piece) -> list[Sequence[str]]:
        """Return the columns' cells as text, neither cut nor filled."""
        batch = piece.batch
        who = dict(zip((*self._owned, "container"), self._owners.columns(batch), strict=True))
        who |= zip(self._acted, self._actors.columns(batch), strict=True) if self._acted else ()
        columns: list[Sequence[str]] = []
        for name in (c.name for c in self._columns):
            if name == "time":
                columns.append([t[11:23] for t in piece.times])
            elif name == "stream":
                columns.append([self._labels.get(piece.key, batch.stream)] * batch.count)
            elif name == "tracker":
                columns.append([escape(batch.tracker)] * batch.count)
            elif name == "details":
                columns.append(self._detail_cells(batch, piece.key, who))
            elif name in batch.schema.fields:
                columns.append(_shown(batch.schema.column(name), batch))
            elif name in who:
                columns.append([str(v) if v else "-" for v in who[name]])
            else:
                columns.append([""] * batch.count)
        return columns

    def _detail_cells(self, batch: Batch, key: Key, who: dict[str, Iterable[Any]]) -> list[str]:
        """Return errors first, then the command line or path, then the rest, without empty values."""
        columns: list[Iterable[str]] = []
        schema = batch.schema
        own = {n: schema.column(n) for n in self._details.get(key, ()) if n in schema.fields}
        names = sorted(self._details.get(key, ()), key=lambda n: own[n].rank if n in own else LAST)
        for name in names:
            column = own.get(name)
            if column is None:
                values: Iterable[Any] = who.get(name, repeat("", batch.count))
                columns.append([f"{name}={_word(v)}" if v else "" for v in values])
            elif schema.fields[name].meaning == "argv":
                columns.append(escape_all([" ".join(map(_argument, v)) for v in batch.values(name)]))
            else:
                shown = _shown(column, batch)
                if column.is_path and self._terminal is not None:
                    shown = shorten_all(shown, max(_SHORT_PATH, self._line // _PATH_SHARE))
                absent = {"", "false"} if schema.fields[name].meaning == "bool" else {""}
                columns.append(["" if v in absent else f"{column.label}={_word(v)}" for v in shown])
        if not columns:
            return [""] * batch.count
        return [" ".join(filter(None, row)) for row in zip(*columns, strict=True)]

    def flush(self) -> None:
        """Write the heading, if nothing was written yet, and waiting rows."""
        if self._since_header < 0:
            self._writer.start(self._header(self._sizes()))
            self._since_header = 0
        self._writer.flush()

    def close(self) -> None:
        """Write waiting rows, for a bounded time, and close."""
        self._writer.close()


def _use_color(terminal: int | None) -> bool:
    """Whether to use colours; see no-color.org."""
    return terminal is not None and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _usual(stream: StreamInfo) -> list[str]:
    """Return a stream's own fields that are shown by default."""
    schema = stream.schema
    if stream.default_columns:
        own = own_columns(schema)
        always = {"time", "tracker", "stream", "container", "container.name"}
        return [n for n in stream.default_columns if n not in always and (n in own or joined(n) is not None)]
    return [n for n in own_columns(schema) if not schema.fields[n].hidden]


def _before_long_ones(names: list[str], schema: Schema) -> list[str]:
    """Return the columns up to the first long one, if more of these than fit into a line."""
    long = [n for n in names if n in schema.fields and schema.column(n).flexible]
    return names[: names.index(long[0])] if len(long) > _LONG_ONES else names


def _column(name: str, streams: Sequence[StreamInfo]) -> Column | None:
    """Return a column of the first stream that has it; None for the table's own columns."""
    if name not in VIRTUAL:
        streams = [s for s in streams if name in s.schema.fields] or (streams if joined(name) is not None else ())
    return next((s.schema.column(name) for s in streams), None)


def _labels(streams: Sequence[StreamInfo]) -> dict[Key, str]:
    """Return the values of the column ``stream``, with the tracker if two have a stream of one name."""
    names = [s.stream for s in streams]
    return {s.key: escape(s.stream if names.count(s.stream) == 1 else f"{s.tracker}/{s.stream}") for s in streams}


def _container(identity: Identity) -> str:
    container = identity.container
    if container is None:
        return "-" if identity.state == HOST else "?"
    name = container.name or container.id[:12] or "?"
    return escape(f"{identity.pod.name}/{name}" if identity.pod else name)


def _shown(column: Column, batch: Batch) -> Sequence[str]:
    brief = column.brief
    if brief is not None:
        return ["" if value is None else brief(value) for value in column.values(batch)]
    return ["" if value is None else str(value) for value in cells(column, batch)]


def _word(text: str) -> str:
    """Return a value, quoted if it would look like two details."""
    if " " not in text and "'" not in text:
        return text
    import shlex

    return shlex.quote(text)


def _is_like_a_detail(text: str) -> bool:
    name, equals, _ = text.partition("=")
    return bool(equals) and name.replace(".", "_").isidentifier() and name[0].isascii()


def _argument(text: str) -> str:
    import shlex

    quoted = shlex.quote(text)
    return f"'{text}'" if quoted == text and _is_like_a_detail(text) else quoted


def _styled(cells: Sequence[str], column: TableColumn, own: bool) -> Sequence[str]:
    style = _MARKS.get(column.style) if own else _STYLES.get(column.name)
    if not style:
        return cells
    return [f"{style}{c}{_OFF}" if c.strip() else c for c in cells]
