# SPDX-License-Identifier: BSD-2-Clause
"""Chooses the columns that a sink shows, and makes those of containers and processes once for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from eunomia.batch import Batch
from eunomia.columns.column import VIRTUAL
from eunomia.columns.joined import ACTOR, JOINED, OWNER, joined, members, nouns, usual
from eunomia.typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from eunomia.sinks import StreamInfo
    from eunomia.stream_schema import Schema

_REMEMBERED = {OWNER: 4096, ACTOR: 1024}  # identities and processes of which the output is cached

T = TypeVar("T")


def whole(name: str) -> tuple[str, ...]:
    """Return the columns of a name such as ``container``, ``pod.*`` or ``process``; () for others."""
    return tuple(column.name for column in members(name))


def wholes() -> list[str]:
    """Return the names that stand for several columns."""
    every = [noun for of in (OWNER, ACTOR) for noun in nouns(of)]
    return [*nouns(OWNER), *(f"{noun}.*" for noun in nouns(OWNER)), *(n for n in every if n not in nouns(OWNER))]


def has(schema: Schema, name: str) -> bool:
    """Whether a stream of this schema has a column."""
    return name in schema.fields or name in VIRTUAL or joined(name) is not None or bool(members(name))


def own_columns(schema: Schema) -> list[str]:
    """Return a stream's own fields, without the one that is its time."""
    return [name for name in schema.columns if name not in VIRTUAL and name not in JOINED]


def checked(columns: Iterable[str], streams: Sequence[StreamInfo]) -> list[str]:
    """Return columns without duplicates. Raises ValueError for one that no stream has."""
    chosen = list(dict.fromkeys(columns))
    valid = union(streams)
    for name in chosen:
        if any(has(s.schema, name) for s in streams):
            continue
        import difflib

        near = difflib.get_close_matches(name, [*valid, *wholes(), *JOINED], 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no column '{name}'{meant} (there are {', '.join([*valid, *wholes()])})")
    if not chosen:
        raise ValueError(f"no columns given (there are {', '.join([*valid, *wholes()])})")
    return chosen


def union(streams: Sequence[StreamInfo]) -> list[str]:
    """Return the columns of all streams: the virtual ones, the fields in order, the joined ones."""
    own: dict[str, None] = {}
    for stream in streams:
        own.update(dict.fromkeys(own_columns(stream.schema)))
    return [*VIRTUAL, *own, *usual()]


def expanded(columns: Iterable[str], streams: Sequence[StreamInfo]) -> list[str]:
    """Return columns with ``container``, ``pod.*`` and others expanded, for sinks without objects."""
    owned = {name for s in streams for name in s.schema.fields}
    names = [whole(c) if c not in owned and members(c) else (c,) for c in columns]
    return list(dict.fromkeys(n for group in names for n in group))


def beside(columns: Iterable[str]) -> list[str]:
    """Return columns to add to the usual ones: ``container`` then stands for all of its columns."""
    return [f"{name}.*" if members(name) and not name.endswith(".*") else name for name in columns]


class Shared(Generic[T]):
    """Caches what a sink makes of identities, or of processes: once for each, as rows share them.

    They are few and long-lived, so the key is their address; cached ones are referenced, so
    that no other object gets the address.
    """

    def __init__(self, make: Callable[[Any], T], of: Literal["owner", "actor"] | str = OWNER) -> None:
        self._make = make
        self._of, self._all = of, f"{of}s"
        self._made: dict[int, tuple[Any, T]] = {}

    def of(self, batch: Batch) -> tuple[list[T], Sequence[int] | None]:
        """Return the results for a batch's identities or processes, and the index of each row's."""
        return [self._one(thing) for thing in getattr(batch, self._all)], getattr(batch, self._of)

    def _one(self, thing: Any) -> T:
        known = self._made.get(id(thing))
        if known is None:
            if len(self._made) > _REMEMBERED[self._of]:
                self._made.clear()
            known = self._made[id(thing)] = (thing, self._make(thing))
        return known[1]


class SharedCells(Shared[tuple[str, ...]]):
    """The cells of several columns of identities, or of processes."""

    def columns(self, batch: Batch) -> list[Iterable[str]]:
        """Return the columns of a batch's rows."""
        from eunomia.columns.column import Coded

        made, index = self.of(batch)
        return [Coded(column, index).expanded(batch.count) for column in zip(*made, strict=True)]


def chosen(of: str, names: Iterable[str]) -> list[str]:
    """Return the columns among these that are of owners, or of actors."""
    return [name for name in names if (column := joined(name)) is not None and column.of == of]
