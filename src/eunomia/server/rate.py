# SPDX-License-Identifier: BSD-2-Clause
"""How often each caller may do something: token buckets."""

from __future__ import annotations

import time
from collections.abc import Callable

_MOST = 4096


class Buckets:
    """One bucket for each caller: ``burst`` takes at once, and ``rate`` more each second.

    Callers beyond ``most`` replace the one that has not been seen for the longest time.
    """

    def __init__(
        self, rate: float, burst: float, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._most, self._clock = rate, burst, most, clock
        self._levels: dict[str, tuple[float, float]] = {}  # what is in each, and since when; the latest come last

    def take(self, caller: str) -> float:
        """Take one; return 0, or the seconds until there is one."""
        now = self._clock()
        level, at = self._levels.pop(caller, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - at) * self._rate)
        is_there = level >= 1
        self._levels[caller] = (level - is_there, now)
        if len(self._levels) > self._most:
            del self._levels[next(iter(self._levels))]
        return 0.0 if is_there else (1 - level) / self._rate
