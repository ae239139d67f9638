# SPDX-License-Identifier: BSD-2-Clause
"""How long the engine sleeps, and how much one step takes: batches while rows come, sleep while none do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eunomia.kernel.ring import ROWS, RingReader
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.engine.stream import Stream

# Milliseconds. Between two drains that find something the loop sleeps, so that it works on batches.
PAUSE_MIN, PAUSE_MAX = 1, 10
IDLE = 1000  # the longest sleep: probes end it
IGNORED_IDLE = 50  # ... and where there are rings to be emptied that nobody reads
UNWRITTEN = 10  # while a slow reader has rows to take

_FULL = 1 / 3  # of a ring: past this the pause is halved, below three quarters of it lengthened
_LONG, _SHORT = 5 * 10**8, 10**8  # ns that a step takes: past the first the share is halved, below the other doubled
_SHARE_MIN = 512  # rows


class Pace:
    """Follows how full rings are and how long steps take."""

    def __init__(self) -> None:
        self.fill = 0.0  # of the fullest ring, when the last step came to it
        self._pause = PAUSE_MIN
        self._share = ROWS  # that a step takes of the stream that has most, where others have rows, too
        self._is_shared_out = False

    def saw(self, reader: object) -> None:
        """Take into account how full a reader's buffer was."""
        self.fill = max(self.fill, getattr(reader, "fill", 0.0))

    def share_out(self, streams: Iterable[Stream]) -> None:
        """Let the fullest ring give no more than a share.

        With little of a processor the rows of one drain take seconds, and a ring must not fill while those of a
        flood are written.
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
        """Shorten the pause where a ring was nearly full."""
        if self.fill > _FULL:
            self._pause = max(PAUSE_MIN, self._pause // 2)

    def pause(self) -> int:
        """Return how long to sleep, in ms, after a step that found something."""
        now = self._pause
        if self.fill < _FULL * 3 / 4:
            self._pause = min(PAUSE_MAX, self._pause + 1)
        return now

    def rest(self) -> None:
        """Begin with the shortest pause when rows come again."""
        self._pause = PAUSE_MIN


def until(deadlines: Sequence[int], now: int, most: int = IDLE) -> int:
    """Return how many ms to sleep at most for the first of these deadlines (monotonic ns)."""
    return max(0, min([(t - now) // 10**6 + 1 for t in deadlines] + [most]))
