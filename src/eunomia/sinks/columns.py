# SPDX-License-Identifier: BSD-2-Clause
"""Which columns a sink shows, and the ones that a row's identity gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

from eunomia.batch import JOINED, VIRTUAL, Batch
from eunomia.identity import NOBODY_KNOWS, Identity

if TYPE_CHECKING:
    from eunomia.batch import Schema
    from eunomia.sinks import StreamInfo

WHOLE = {
    noun: tuple(name for name in JOINED if name.startswith(f"{noun}.")) for noun in ("container", "pod")
}
_REMEMBERED = 4096  # identities whose looks are remembered

T = TypeVar("T")


def has(schema: Schema, name: str) -> bool:
    """Whether a stream of this schema has a column."""
    return name in schema.fields or name in VIRTUAL or name in JOINED or name in WHOLE


def checked(columns: Iterable[str], streams: Sequence[StreamInfo]) -> list[str]:
    """Return columns without repetition. Raises ValueError for one that no stream has."""
    chosen = list(dict.fromkeys(columns))
    valid = union(streams)
    for name in chosen:
        if any(has(s.schema, name) for s in streams):
            continue
        import difflib

        near = difflib.get_close_matches(name, [*valid, *WHOLE], 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no column {name!r}{meant} (there are {', '.join([*valid, *WHOLE])})")
    if not chosen:
        raise ValueError(f"no columns given (there are {', '.join([*valid, *WHOLE])})")
    return chosen


def union(streams: Sequence[StreamInfo]) -> list[str]:
    """Return the columns of all streams: the virtual ones, the fields in order, the joined ones."""
    own: dict[str, None] = {}
    for stream in streams:
        own.update(dict.fromkeys(c for c in stream.schema.columns if c not in VIRTUAL and c not in JOINED))
    return [*VIRTUAL, *own, *JOINED]


def expanded(columns: Iterable[str], streams: Sequence[StreamInfo]) -> list[str]:
    """Return columns with ``container`` and ``pod`` as their members, for sinks that have no objects."""
    owned = {name for s in streams for name in s.schema.fields}
    names = [WHOLE[c] if c in WHOLE and c not in owned else (c,) for c in columns]
    return list(dict.fromkeys(n for group in names for n in group))


class Looks(dict[Identity, T]):
    """What identities look like to a sink, made once each; forgets all when it has seen too many."""

    def __init__(self, make: Callable[[Identity], T]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, identity: Identity) -> T:
        if len(self) >= _REMEMBERED:
            self.clear()
        look = self[identity] = self.make(identity)
        return look


def identity_columns(batch: Batch, looks: Looks[tuple[Any, ...]], width: int) -> list[Iterable[Any]]:
    """Return the ``width`` columns that the looks of a batch's identities make.

    Identities are few objects shared by many rows: they are told apart by address, and hashed once each.
    """
    identities = batch.identities or [NOBODY_KNOWS] * batch.count
    places = list(map(id, identities))
    known = {place: looks[identity] for place, identity in dict(zip(places, identities, strict=True)).items()}
    columns: list[Iterable[Any]] = []
    for i in range(width):
        values = {place: look[i] for place, look in known.items()}
        sample = next(iter(values.values()))
        if all(v is sample for v in values.values()):
            columns.append(repeat(sample, batch.count))
        else:
            columns.append(map(values.__getitem__, places))
    return columns
