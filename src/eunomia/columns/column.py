# SPDX-License-Identifier: BSD-2-Clause
"""Columns of a stream: their values, types and text, whatever their source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat

from eunomia.columns.joined import JOINED, OWNER, Joined, joined
from eunomia.columns.meanings import LAST, MEANINGS, STRING, described
from eunomia.columns.meanings import TIME as TIME_TYPE
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.stream_schema import Field, Schema


class Coded:
    """A column as its distinct values and the index of each row's value.

    ``index`` is None if all rows have the one value. Values are distinct as the kernel wrote them; texts are
    distinct as texts, too.
    """

    __slots__ = ("index", "values")

    def __init__(self, values: Sequence[Any], index: Sequence[int] | None) -> None:
        self.values = values
        self.index = index

    def __iter__(self) -> Iterator[Any]:
        return iter((self.values, self.index))

    def expanded(self, count: int) -> Iterable[Any]:
        """Return the value of each of ``count`` rows."""
        if not count:
            return ()
        return repeat(self.values[0], count) if self.index is None else map(self.values.__getitem__, self.index)

    def map(self, make: Callable[[Sequence[Any]], Sequence[Any]]) -> Coded:
        """Return the column with other values, made from all distinct ones in one call."""
        return Coded(make(self.values), self.index)


class Column:
    """One column of a stream.

    ``json`` is its type in JSON Schema. ``cell`` makes the text of a value, None if ``str`` does; ``brief`` is
    the same for tables, where ``unit`` is then left out of the heading. ``safe`` text needs no escaping,
    ``is_text`` columns have nothing but texts. In tables: ``width`` to begin with, ``flexible`` for text of any
    length, ``right`` for numbers, ``style``, and ``rank`` among the details.
    """

    name = ""
    doc = ""
    json: dict[str, Any] = STRING
    cell: Callable[[Any], str] | None = None
    brief: Callable[[Any], str] | None = None
    unit = ""
    safe = False
    is_text = False
    is_path = False
    width = 14
    flexible = False
    right = False
    style = ""
    rank = LAST
    field: Field | None = None
    joined: Joined | None = None

    @property
    def is_named(self) -> bool:
        """Whether its values are texts and names, which data frames store as dictionaries."""
        return self.json is STRING or "enum" in self.json

    def values(self, batch: Batch) -> Sequence[Any]:
        """Return each row's value as shown to people."""
        return list(self.coded(batch).expanded(batch.count))

    def coded(self, batch: Batch) -> Coded:
        """Return the distinct values, and the index of each row's."""
        raise NotImplementedError

    def few(self, batch: Batch) -> Coded | None:
        """Return :meth:`coded` if that is less work than a value per row; else None."""
        return self.coded(batch)

    @property
    def label(self) -> str:
        """Its heading if values are shown with their unit."""
        return self.name.removesuffix(f"_{self.unit}") if self.brief is not None else self.name


class _Time(Column):
    """The row's time: that of its event, or else of the drain."""

    name = "time"
    json = TIME_TYPE
    safe = True
    width = 12

    def __init__(self, schema: Schema) -> None:
        self.doc = schema.time.doc if schema.time is not None else ""

    def values(self, batch: Batch) -> Sequence[str]:
        return batch.times()

    def coded(self, batch: Batch) -> Coded:
        return coded(self.values(batch))

    def few(self, batch: Batch) -> None:
        return None


class _Same(Column):
    """A name that all rows of a batch share: of their tracker, or their stream."""

    is_text = True

    def __init__(self, name: str, width: int) -> None:
        self.name = name
        self.width = width

    def coded(self, batch: Batch) -> Coded:
        return Coded((getattr(batch, self.name),), None)


class _Field(Column):
    """One of the stream's own fields."""

    def __init__(self, field: Field) -> None:
        meaning = MEANINGS[field.meaning]
        self.field = field
        self.name = field.name
        self.doc = field.doc
        self.json = described(field)
        tagged = bool(field.tag)
        self.cell = None if tagged else meaning.cell
        self.brief = None if tagged else meaning.brief
        self.unit = meaning.unit
        self.safe = meaning.needs_no_escape and not tagged and field.show is None
        self.is_text = (
            meaning.is_text and (meaning.variable or meaning.whole) and field.none is None and field.show is None
        )
        self.is_path = field.meaning == "path"
        self.right = meaning.is_number
        self.style = meaning.style
        self._is_named = (meaning.is_text or field.meaning == "enum") and not tagged
        self.rank = meaning.rank
        self.width = meaning.width or _NARROWEST
        self.flexible = not meaning.width
        if field.meaning == "text":
            self.flexible = field.size > _LONG_TEXT
            self.width = min(self.width, field.size)

    @property
    def is_named(self) -> bool:
        return self._is_named

    def values(self, batch: Batch) -> Sequence[Any]:
        assert self.field is not None
        return batch.render(self.field)

    def coded(self, batch: Batch) -> Coded:
        return batch.coded(self.name)

    def few(self, batch: Batch) -> Coded | None:
        assert self.field is not None
        return batch.few(self.field)


class _Joined(Column):
    """A column of the rows' owners or actors."""

    def __init__(self, column: Joined) -> None:
        self.joined = column
        self.name = column.name
        self.doc = column.doc
        self.json = column.json
        self.is_path = column.is_path
        self.width = column.width or self.width
        self.flexible = not column.width
        self.is_text = column.json is STRING

    def coded(self, batch: Batch) -> Coded:
        assert self.joined is not None
        things, index = (batch.owners, batch.owner) if self.joined.of == OWNER else (batch.actors, batch.actor)
        return Coded(list(map(self.joined.take, things)), index)


_LONG_TEXT = 32  # longer char arrays share the rest of the line
_NARROWEST = 8

# Columns that every stream has, whatever its struct. "time" is the event's, or else the drain's.
VIRTUAL = ("time", "tracker", "stream")
_SAME = {"tracker": _Same("tracker", 10), "stream": _Same("stream", 6)}


def find(schema: Schema, name: str) -> Column:
    """Return a stream's column of this name. Raises :class:`KeyError` if it has none."""
    if name == "time":
        return _Time(schema)
    field = schema.fields.get(name)
    if field is not None:
        return _Field(field)
    if name in _SAME:
        return _SAME[name]
    column = JOINED.get(name) or joined(name)
    if column is None:
        raise KeyError(name)
    return _Joined(column)


def coded(values: Sequence[Any]) -> Coded:
    """Return values as distinct ones and an index; values of different types are distinct."""
    places: dict[Any, int] = {}
    distinct: list[Any] = []
    index: list[int] = []
    for value in values:
        key: Any = (type(value), repr(value) if isinstance(value, float | list | dict) else value)
        at = places.get(key)
        if at is None:
            at = places[key] = len(distinct)
            distinct.append(value)
        index.append(at)
    return Coded(distinct, index if len(distinct) > 1 else None)
