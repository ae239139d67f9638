# SPDX-License-Identifier: BSD-2-Clause
"""Limits the number of columns of a type: a few kilobytes of BTF can describe billions of them."""

from __future__ import annotations

from eunomia.kernel.errors import BadObject
from eunomia.kernel.types import Array, Struct, Type, strip

COLUMNS = 1000  # of one stream, including members of values that are shown whole
DEPTH = 32  # structs, unions and arrays within each other


def check(stream: str, *types: Type) -> None:
    """Raise :class:`BadObject` if a stream of these types has too many columns, or nests too deep.

    The time depends on the number of different types, not of columns.
    """
    known: dict[int, tuple[int, int]] = {}
    columns = 0
    for type_ in types:
        more, depth = _measure(type_, known)
        columns += more
        where = spell_of(stream, type_)
        if columns > COLUMNS:
            raise BadObject(f"{where} has more than {COLUMNS} columns, the most that a stream can have")
        if depth > DEPTH:
            raise BadObject(f"{where} nests types more than {DEPTH} deep, the most that can be shown")


def spell_of(stream: str, type_: Type) -> str:
    """Return a type's name for errors."""
    bare = strip(type_)
    name = getattr(type_, "name", "") or getattr(bare, "name", "")
    kind = ("union" if bare.union else "struct") if isinstance(bare, Struct) else "the type"
    called = f"{kind} {name}".rstrip()
    return f"{stream}: {called}" if stream and stream != name else called


def _measure(type_: Type, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many columns and parts a type makes, and how deep it nests."""
    bare = strip(type_)
    if isinstance(bare, Array):
        inside = [bare.element]
    elif isinstance(bare, Struct):
        inside = [member.type for member in bare.members]
    else:
        return 1, 0
    found = known.get(id(bare))
    if found is None:
        parts = [_measure(inner, known) for inner in inside]
        found = known[id(bare)] = (max(1, sum(n for n, _ in parts)), 1 + max((d for _, d in parts), default=0))
    return found
