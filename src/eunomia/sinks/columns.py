# SPDX-License-Identifier: BSD-2-Clause
"""Which columns a sink shows, and those that a row's identity and its process give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from eunomia.actor import COLUMNS as ACTING
from eunomia.actor import is_acting
from eunomia.batch import VIRTUAL, Batch
from eunomia.joined import JOINED, MEMBERS, is_joined

if TYPE_CHECKING:
    from eunomia.batch import Schema
    from eunomia.sinks import StreamInfo

# What stands for several columns: the usual ones of a noun, and all of them.
WHOLE = {noun: tuple(name for name in JOINED if name.startswith(f"{noun}.")) for noun in MEMBERS}
WHOLE |= {f"{noun}.*": names for noun, names in MEMBERS.items()}
WHOLE |= {"process": ACTING, "process.*": ACTING}
_REMEMBERED = {"owner": 4096, "actor": 1024}  # identities and processes whose looks are remembered

T = TypeVar("T")


def has(schema: Schema, name: str) -> bool:
    """Whether a stream of this schema has a column."""
    return name in schema.fields or name in VIRTUAL or is_joined(name) or is_acting(name) or name in WHOLE


def own_columns(schema: Schema) -> list[str]:
    """Return a stream's own fields, without the one that is its time."""
    return [name for name in schema.columns if name not in VIRTUAL and name not in JOINED]


def checked(columns: Iterable[str], streams: Sequence[StreamInfo]) -> list[str]:
    """Return columns without repetition. Raises ValueError for one that no stream has."""
    chosen = list(dict.fromkeys(columns))
    valid = union(streams)
    for name in chosen:
        if any(has(s.schema, name) for s in streams):
            continue
        import difflib

        every = [*valid, *WHOLE, *ACTING, *(n for names in MEMBERS.values() for n in names)]
        near = difflib.get_close_matches(name, every, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no column '{name}'{meant} (there are {', '.join([*valid, *WHOLE])})")
    if not chosen:
        raise ValueError(f"no columns given (there are {', '.join([*valid, *WHOLE])})")
    return chosen


def union(streams: Sequence[StreamInfo]) -> list[str]:
    """Return the columns of all streams: the virtual ones, the fields in order, the joined ones."""
    own: dict[str, None] = {}
    for stream in streams:
        own.update(dict.fromkeys(own_columns(stream.schema)))
    return [*VIRTUAL, *own, *JOINED]


def expanded(columns: Iterable[str], streams: Sequence[StreamInfo]) -> list[str]:
    """Return columns with ``container``, ``pod.*`` and the like as what they stand for, for sinks without objects."""
    owned = {name for s in streams for name in s.schema.fields}
    names = [WHOLE[c] if c in WHOLE and c not in owned else (c,) for c in columns]
    return list(dict.fromkeys(n for group in names for n in group))


def beside(columns: Iterable[str]) -> list[str]:
    """Return columns asked for beside the usual ones: ``container`` is all of its columns then."""
    return [f"{name}.*" if f"{name}.*" in WHOLE else name for name in columns]


class Looks(Generic[T]):
    """The columns that identities make, or processes, those of each made once.

    They are few objects that last, so they are told apart by address; those that are remembered are held, so
    that no other gets the address.
    """

    def __init__(self, make: Callable[[T], tuple[Any, ...]], of: Literal["owner", "actor"] = "owner") -> None:
        self._make = make
        self._of, self._all = of, f"{of}s"
        self._made: dict[int, tuple[T, tuple[Any, ...]]] = {}

    def columns(self, batch: Batch) -> list[Iterable[Any]]:
        """Return the columns of a batch's rows."""
        looks = [self._look(thing) for thing in getattr(batch, self._all)]
        which = getattr(batch, self._of)
        if which is None:
            return [repeat(value, batch.count) for value in looks[0]]
        found: list[Iterable[Any]] = []
        for column in zip(*looks, strict=True):
            same = all(value is column[0] for value in column)
            found.append(repeat(column[0], batch.count) if same else map(column.__getitem__, which))
        return found

    def _look(self, thing: T) -> tuple[Any, ...]:
        known = self._made.get(id(thing))
        if known is None:
            if len(self._made) > _REMEMBERED[self._of]:
                self._made.clear()
            known = self._made[id(thing)] = (thing, self._make(thing))
        return known[1]
