# SPDX-License-Identifier: BSD-2-Clause
"""Values as one-line text, for CSV and tables; made once for each distinct value if these are few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eunomia.columns.joined import Joined, joined
from eunomia.sinks.escape import escape, escape_all
from eunomia.sinks.json_values import encoded
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.columns.column import Column


def cells(column: Column, batch: Batch) -> Iterable[Any]:
    """Return a column's cells, one per row: numbers, or text without control characters."""
    if column.right:  # numbers: formatting is as cheap as a look-up
        return texts(column, column.values(batch))
    few = column.few(batch)
    if few is None:
        return texts(column, column.values(batch))
    return few.map(lambda values: list(texts(column, values))).expanded(batch.count)


def texts(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """Return values of a column as numbers or as text without control characters.

    Lists of texts are quoted as for a shell, other lists and objects are JSON.
    """
    if column.safe:
        return values if column.cell is None else list(map(column.cell, values))
    if column.is_text:
        return escape_all(values)
    return escape_all([text(v) for v in values])


def text(value: object) -> str:
    """Return any value as text, not yet escaped."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        import shlex

        return shlex.join(value)
    if isinstance(value, list | tuple | dict) and not value:
        return ""
    if isinstance(value, bool | list | tuple | dict):
        return encoded(value).decode()
    return str(value)


def joined_texts(names: Iterable[str]) -> Callable[[Any], tuple[str, ...]]:
    """Return a function that makes cells of an identity or a process, escaped; empty if not known."""
    makes = [_cell_of(column) for name in names if (column := joined(name)) is not None]
    return lambda thing: tuple(escape(make(thing)) for make in makes)


def _cell_of(column: Joined) -> Callable[[Any], str]:
    take = column.take
    return column.cell or (lambda thing: text(take(thing)))
