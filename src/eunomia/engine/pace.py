# SPDX-License-Identifier: BSD-2-Clause
"""Decides how long the engine sleeps, and how many rows one step takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eunomia.kernel.ring import ROWS, RingReader
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.engine.stream import Stream

# Milliseconds. Between two drains that find rows the loop sleeps, so that batches form.
PAUSE_MIN, PAUSE_MAX = 1, 10
IDLE = 1000  # the longest sleep; probes end it earlier
IGNORED_IDLE = 50  # ... and where rings without a reader must be emptied
UNWRITTEN = 10  # while rows wait for a slow reader

_FULL = 1 / 3  # of a ring: past this the pause is halved, below three quarters of it lengthened
_LONG, _SHORT = 5 * 10**8, 10**8  # ns that a step takes: above the first the share is halved, below the other doubled
_SHARE_MIN = 512  # rows


class Pace:
    """Follows how full rings are and how long steps take."""

    def __init__(self) -> None:
        self.fill = 0.0  # of the fullest ring, in the last step
        self._pause = PAUSE_MIN
        self._share = ROWS  # rows that a step takes of the fullest ring, if others have rows too
        self._is_shared_out = False

    def saw(self, reader: object) -> None:
        """Take into account how full a reader's buffer was."""
        self.fill = max(self.fill, getattr(reader, "fill", 0.0))

    def share_out(self, streams: Iterable[Stream]) -> None:
        """Limit how much is drained from the fullest ring.

        With little processor time the rows of one drain take seconds, and other rings must not fill while
        those of a flood are written.
        """
        if self._share == ROWS and not self._is_shared_out:
            return
        self._is_shared_out = self._share < ROWS
        held = {s.reader: s.reader.held() for s in streams if isinstance(s.reader, RingReader)}
        full = max(held, key=held.__getitem__, default=None)
        for reader in held:
            reader.most = self._share if reader is full else ROWS

    def took(self, nanoseconds: int) -> None:
        """Take into account how long a step took."""
        if nanoseconds > _LONG:
            self._share = max(_SHARE_MIN, self._share // 2)
        elif nanoseconds < _SHORT:
            self._share = min(ROWS, self._share * 2)

    def hurry(self) -> None:
        """Shorten the pause if a ring was nearly full."""
        if self.fill > _FULL:
            self._pause = max(PAUSE_MIN, self._pause // 2)

    def pause(self) -> int:
        """Return how long to sleep, in ms, after a step that found rows."""
        now = self._pause
        if self.fill < _FULL * 3 / 4:
            self._pause = min(PAUSE_MAX, self._pause + 1)
        return now

    def rest(self) -> None:
        """Reset to the shortest pause, for when rows come again."""
        self._pause = PAUSE_MIN


def until(deadlines: Sequence[int], now: int, most: int = IDLE) -> int:
    """Return how many ms to sleep at most for the first of these deadlines (monotonic ns)."""
    return max(0, min([(t - now) // 10**6 + 1 for t in deadlines] + [most]))
