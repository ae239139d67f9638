# SPDX-License-Identifier: BSD-2-Clause
"""A tracker's latest rows as JSON lines, numbered: what readers of its stream read, each at its own pace.

The engine's thread writes, and never waits: the oldest rows go when the journal is full. A reader that is too slow for
it finds a gap in the numbers, which is exactly what it has lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

LIMIT = 4 << 20  # bytes

ROW, SCHEMA, END = "row", "schema", "end"


class Entry(NamedTuple):
    """Lines of one kind; the first has the number ``first``, the last the number ``last``."""

    first: int
    last: int
    kind: str
    data: bytes


class Journal:
    """The latest entries, up to a size."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._entries: deque[Entry] = deque()
        self._limit = limit
        self._size = 0
        self._last = 0
        self._lock = Lock()
        self._listeners: set[Callable[[], None]] = set()
        self.ended = False

    @property
    def last(self) -> int:
        """The number of the latest line; 0 before the first."""
        return self._last

    def add(self, kind: str, data: bytes, count: int) -> None:
        """Append ``count`` whole lines of one kind."""
        with self._lock:
            self._entries.append(Entry(self._last + 1, self._last + count, kind, data))
            self._last += count
            self._size += len(data)
            while self._size > self._limit and len(self._entries) > 1:
                self._size -= len(self._entries.popleft().data)
            listeners = list(self._listeners)
        for tell in listeners:
            tell()

    def end(self, data: bytes) -> None:
        """Append the last line: nothing follows."""
        self.ended = True
        self.add(END, data, 1)

    def read(self, after: int, most: int = 512) -> tuple[list[Entry], int]:
        """Return what follows line ``after``, at least ``most`` lines if there are, and how many of these are gone."""
        with self._lock:
            if after >= self._last or not self._entries:
                return [], 0
            oldest = self._entries[0].first
            lost = max(0, oldest - after - 1)
            found, count = [], 0
            for entry in self._entries:
                if entry.last <= after:
                    continue
                found.append(entry)
                count += entry.last - entry.first + 1
                if count >= most:
                    break
            return found, lost

    def latest(self, most: int) -> list[bytes]:
        """Return the latest rows, oldest first."""
        with self._lock:
            entries = [e for e in self._entries if e.kind == ROW]
        lines: deque[bytes] = deque()
        for entry in reversed(entries):
            lines.extendleft(reversed(entry.data.splitlines()))
            if len(lines) >= most:
                break
        return list(lines)[-most:]

    def listen(self, tell: Callable[[], None]) -> None:
        """Call ``tell``, in the engine's thread, whenever there is more."""
        with self._lock:
            self._listeners.add(tell)

    def forget(self, tell: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            self._listeners.discard(tell)
