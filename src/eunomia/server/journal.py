# SPDX-License-Identifier: BSD-2-Clause
"""A tracker's latest rows as JSON lines, numbered: what readers of its stream read, each at its own pace.

The engine's thread writes, and never waits: the oldest rows go when the journal is full. A reader that is too slow for
it finds a gap in the numbers, which is exactly what it has lost: rows alone are numbered. Other lines, such as the
description of the streams, have the number of the row before them.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple

LIMIT = 4 << 20  # bytes
ENDED = 64 << 10  # bytes that stay of a tracker that has ended, and that nobody reads
PIECE = 32 << 10  # bytes of rows in an entry, and so what a reader takes at once
_OVERHEAD = 200  # bytes that an entry takes beside its data

ROW, SCHEMA, PAUSE, END = "row", "schema", "pause", "end"


class Entry(NamedTuple):
    """Lines of one kind. Rows have the numbers ``first`` to ``last``; for another line both are that of the row before.

    ``place`` counts entries.
    """

    place: int
    first: int
    last: int
    kind: str
    data: bytes

    @property
    def before(self) -> int:
        """The number of the last row before it."""
        return self.first - 1 if self.kind == ROW else self.last


class Journal:
    """The latest entries, up to a size."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._entries: deque[Entry] = deque()
        self._limit = limit
        self._size = 0
        self._last = 0  # row
        self._place = 0  # of the last entry
        self._schema: Entry | None = None  # the latest, which may be gone from the entries
        self._gone: Entry | None = None  # the schema of the oldest entry, if it is gone itself
        self._lock = Lock()
        self._listeners: set[Callable[[], None]] = set()
        self.ended = False
        self.name = secrets.token_hex(8)  # its numbers are not those of another journal

    @property
    def last(self) -> int:
        """The number of the latest row; 0 before the first."""
        return self._last

    def add_rows(self, data: bytes, count: int) -> None:
        """Append so many rows, each a whole line."""
        with self._lock:
            if count == 1 or len(data) <= PIECE:
                self._append(ROW, data, count)
            else:
                for piece in _pieces(data):
                    self._append(ROW, piece, piece.count(b"\n"))
            self._shrink(self._limit)
        self._tell()

    def add(self, kind: str, data: bytes) -> None:
        """Append another line."""
        with self._lock:
            self._append(kind, data, 0)
            if kind == SCHEMA:
                self._schema = self._entries[-1]
            if kind == END:
                self.ended = True
            self._shrink(self._limit)
        self._tell()

    def _append(self, kind: str, data: bytes, rows: int) -> None:
        first = self._last + 1 if rows else self._last
        self._last += rows
        self._place += 1
        self._size += len(data) + _OVERHEAD
        self._entries.append(Entry(self._place, first, self._last, kind, data))

    def _shrink(self, limit: int) -> None:
        while self._size > limit and len(self._entries) > 1:
            gone = self._entries.popleft()
            self._size -= len(gone.data) + _OVERHEAD
            if gone.kind == SCHEMA:
                self._gone = gone

    def trim(self) -> None:
        """Keep little: it has ended, and nobody reads it."""
        with self._lock:
            self._shrink(ENDED)

    def _tell(self) -> None:
        for tell in list(self._listeners):
            tell()

    def start(self, after: int | None) -> tuple[int, int, Entry | None]:
        """Return where a reader begins that has had row ``after``: a place, the number of the row there, the schema.

        Without ``after`` it begins behind what there is, but for the end. One that goes on has had the schema.
        """
        with self._lock:
            if after is None:
                return self._place - self.ended, self._last, self._schema
            for entry in self._entries:
                if entry.last > after or (entry.kind != ROW and entry.last == after):
                    return 0 if entry.before > after else entry.place - 1, after, None
            return self._place, after, None

    def read(self, place: int, after: int) -> tuple[Entry | None, int, Entry | None]:
        """Return the entry that follows a place, and how many rows between row ``after`` and it are gone.

        If a schema is gone too, it is the third.
        """
        with self._lock:
            if place >= self._place:
                return None, 0, None
            oldest = self._entries[0].place
            entry = self._entries[max(0, place + 1 - oldest)]
            schema = self._gone if place + 1 < oldest and self._gone and self._gone.place > place else None
            return entry, max(0, entry.before - after), schema

    def gone(self, after: int) -> int:
        """Return how many rows behind row ``after`` are gone."""
        with self._lock:
            return max(0, self._entries[0].before - after) if self._entries else 0

    def latest(self, most: int) -> list[bytes]:
        """Return the latest rows, oldest first, that were written without a pause."""
        with self._lock:
            entries = list(self._entries)
        lines: deque[bytes] = deque()
        for entry in reversed(entries):
            if entry.kind == PAUSE:
                break
            if entry.kind != ROW:
                continue
            lines.extendleft(reversed(entry.data.splitlines()))
            if len(lines) >= most:
                break
        return list(lines)[-most:]

    def listen(self, tell: Callable[[], None]) -> None:
        """Call ``tell``, in the thread that writes, whenever there is more."""
        with self._lock:
            self._listeners = self._listeners | {tell}

    def forget(self, tell: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            self._listeners = self._listeners - {tell}


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut whole lines into pieces of whole lines, none larger than it must be."""
    begin = 0
    while begin < len(data):
        if (end := data.rfind(b"\n", begin, begin + PIECE) + 1) <= begin:
            end = data.index(b"\n", begin) + 1
        yield data[begin:end]
        begin = end
