# SPDX-License-Identifier: BSD-2-Clause
"""Merges a tick's batches by time, in pieces that fit the processor's caches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from eunomia.batch import Batch
from eunomia.typing import NamedTuple, TypeVar

# Rows turned into text at a time: with thousands, each row costs several times as much.
PIECE = 1024

T = TypeVar("T")
Key = tuple[str, str]


class Piece(NamedTuple):
    """Some rows of a batch."""

    batch: Batch
    known_times: Sequence[str] | None = None  # if they were needed to cut it

    @property
    def times(self) -> Sequence[str]:
        """Each row's time."""
        return self.batch.times() if self.known_times is None else self.known_times

    @property
    def key(self) -> Key:
        """The key under which its rows are counted."""
        return self.batch.tracker, self.batch.stream


def pieces(batches: Sequence[Batch], rows: int = PIECE) -> Iterator[list[Piece]]:
    """Yield groups of pieces; all rows of a group are no later than those of the next.

    A batch is in order of time, except for small differences between processors that write to one ring.
    """
    filled = [b for b in batches if b.count]
    if len(filled) == 1:
        for start in range(0, filled[0].count, rows):
            yield [Piece(_cut(filled[0], start, start + rows))]
        return
    times = [b.values("time") for b in filled]
    at = [0] * len(filled)
    while True:
        left = [i for i, b in enumerate(filled) if at[i] < b.count]
        if not left:
            return
        ends = {i: min(at[i] + rows, filled[i].count) for i in left}
        first = min(left, key=lambda i: times[i][ends[i] - 1])
        until = times[first][ends[first] - 1]
        group = []
        for i in left:
            end = ends[i] if i == first else bisect_right(times[i], until, at[i], ends[i])
            if end > at[i]:
                group.append(Piece(_cut(filled[i], at[i], end), times[i][at[i] : end]))
                at[i] = end
        yield group


def _cut(batch: Batch, start: int, end: int) -> Batch:
    return batch if start == 0 and end >= batch.count else batch.part(start, min(end, batch.count))


def interleave(group: Sequence[Piece], rows: Sequence[Sequence[T]]) -> tuple[Sequence[T], Sequence[Key]]:
    """Return the results for all pieces' rows in order of time, and the key of each.

    The keys are empty if there is only one piece.
    """
    if len(group) == 1:
        return rows[0], ()
    times = list(chain.from_iterable(piece.times for piece in group))
    keys = list(chain.from_iterable(repeat(piece.key, piece.batch.count) for piece in group))
    made = list(chain.from_iterable(rows))
    order = sorted(range(len(times)), key=times.__getitem__)
    return [made[i] for i in order], [keys[i] for i in order]


def tally(group: Sequence[Piece]) -> dict[Key, int]:
    """Return the number of rows by stream."""
    counts: dict[Key, int] = {}
    for piece in group:
        counts[piece.key] = counts.get(piece.key, 0) + piece.batch.count
    return counts
