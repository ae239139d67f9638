# SPDX-License-Identifier: BSD-2-Clause
"""Makes JSON lines from columns: C assembles them; Python only encodes distinct values.

Numbers, times and ASCII texts are written by C directly from the records. Other values are encoded
here: each distinct value if these are few, else each row's.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from eunomia import _native
from eunomia.columns.meanings import is_plain
from eunomia.sinks.escape import escape_json
from eunomia.sinks.json_values import Lines, encoded
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.columns.column import Column
    from eunomia.stream_schema import Field

_lib, _ffi = _native.lib, _native.ffi
_json_lines = Lines()


class Made(NamedTuple):
    """A part's values in a batch, for ``struct eu_json_part``."""

    kind: int
    field: Field | None = None
    values: bytes = b""
    index: Any = None

    @staticmethod
    def coded(lines: bytes, index: Sequence[int] | None) -> Made:
        """Take a line for each distinct value, and the index of each row's; None if there is only one."""
        if index is None:
            return Made(_lib.EU_SAME, values=lines[:-1])
        if not isinstance(index, memoryview) or index.itemsize != 4:
            index = array("I", index)
        return Made(_lib.EU_CODED, values=lines, index=index)


class Part:
    """Something in each row of a stream: a key with its value, or, without ``label``, several or none."""

    label = b""

    def make(self, batch: Batch) -> Made:
        """Return the values of a batch's rows."""
        raise NotImplementedError

    def make_anyway(self, batch: Batch) -> Made:
        """Return the values encoded in Python, if C could not write those of :meth:`make`."""
        raise NotImplementedError


class _Column(Part):
    """A column, by its values."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.label = escape_json(encoded(column.name) + b":")

    def make(self, batch: Batch) -> Made:
        few = self.column.few(batch)
        if few is not None:
            return Made.coded(_lines(few.values), few.index)
        return Made(_lib.EU_EACH, values=_lines(self.column.values(batch)))

    make_anyway = make


class _Direct(_Column):
    """A field that C writes from the record."""

    def __init__(self, column: Column, made: Made) -> None:
        super().__init__(column)
        self._made = made

    def make(self, batch: Batch) -> Made:
        return self._made

    def make_anyway(self, batch: Batch) -> Made:
        return super().make(batch)


class _Path(_Direct):
    """A path, which C normalizes if needed."""

    def make(self, batch: Batch) -> Made:
        return self._made._replace(kind=_lib.EU_STRING) if batch.tidy else self._made


class _Time(_Column):
    """The row's time."""

    def make(self, batch: Batch) -> Made:
        if batch.schema.time is not None:
            return Made(_lib.EU_TIME, batch.schema.time)
        return Made(_lib.EU_SAME, values=encoded(batch.times()[0]))


def part_of(column: Column) -> Part:
    """Return how a column is written."""
    field = column.field
    if column.name == "time":
        return _Time(column)
    if field is None or field.show is not None or field.none is not None or field.bits is not None or field.tag:
        return _Column(column)
    if field.code in "bBhHiIqQ" and is_plain(field) and field.meaning != "time":
        return _Direct(column, Made(_lib.EU_SIGNED if field.signed else _lib.EU_UNSIGNED, field))
    if field.meaning == "text" and not field.length and not field.count_in:
        return _Direct(column, Made(_lib.EU_CHARS, field))
    if field.meaning == "str":
        return _Direct(column, Made(_lib.EU_STRING, field))
    if field.meaning == "path":
        return _Path(column, Made(_lib.EU_PATH, field))
    if field.meaning == "time":
        return _Direct(column, Made(_lib.EU_TIME, field))
    return _Column(column)


def memory() -> Any:
    """Return what :func:`write` writes to: new memory for each batch would cost as much as half of its rows."""
    return _ffi.gc(_ffi.new("struct eu_text *"), _lib.eu_text_free)


def write(parts: Sequence[Part], batch: Batch, text: Any) -> tuple[bytes, Any]:
    """Return a batch's rows as lines of JSON, and where each line ends; ``text`` is :func:`memory`."""
    made = [part.make(batch) for part in parts]
    ends = bytearray(4 * batch.count)
    while True:
        given, alive = _given(parts, made)
        size = _lib.eu_json(
            given, len(parts), _ffi.from_buffer(batch.data), batch.schema.size, batch.count, batch.clock,
            _ffi.from_buffer(batch.heap), len(batch.heap), batch.heap_at, _ffi.from_buffer("uint32_t[]", ends), text,
        )  # fmt: skip
        alive.clear()
        if size >= 0:
            break
        if size == -1:
            raise MemoryError
        made[-2 - size] = parts[-2 - size].make_anyway(batch)
    return bytes(_ffi.buffer(text.text, size)), memoryview(ends).cast("I")


def _given(parts: Sequence[Part], made: Sequence[Made]) -> tuple[Any, list[Any]]:
    """Return parts as C structs, and the memory that must stay until C is done."""
    given = _ffi.new("struct eu_json_part[]", len(parts))
    alive: list[Any] = []
    for to, part, one in zip(given, parts, made, strict=True):
        label, values = _ffi.from_buffer(part.label), _ffi.from_buffer(one.values)
        alive += (label, values)
        to.label, to.label_size, to.kind = label, len(part.label), one.kind
        to.values, to.values_size = values, len(one.values)
        if one.field is not None:
            to.offset, to.size = one.field.offset, one.field.size
        if one.index is not None:
            to.index = index = _ffi.from_buffer("uint32_t[]", one.index)
            alive.append(index)
    return given, alive


def lines_of(text: bytes, ends: Sequence[int]) -> list[bytes]:
    """Return the single lines."""
    return [text[start:end] for start, end in zip((0, *ends[:-1]), ends, strict=True)]


def _lines(values: Sequence[Any]) -> bytes:
    """Return values in JSON, one a line."""
    return escape_json(_json_lines(values))
