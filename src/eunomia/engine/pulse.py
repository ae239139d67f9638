# SPDX-License-Identifier: BSD-2-Clause
"""How many rows each stream had in the time past: what a replacement's are held against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.engine.sources import RunningSource
    from eunomia.engine.stream import Key, Stream

_EVERY = 250_000_000  # ns between two notes
_KEPT = 256  # notes


class Pulse:
    """Notes of what each stream had emitted, a quarter of a second apart while there are rows."""

    def __init__(self) -> None:
        self._notes: deque[tuple[int, dict[Key, int]]] = deque(maxlen=_KEPT)
        self._due = 0
        self._quiet = False

    def note(self, sources: Sequence[RunningSource], found: bool) -> None:
        """Take a note, if it is time or the last row has come for now."""
        now = monotonic_ns()
        if now < self._due and (found or self._quiet):
            return
        self._due, self._quiet = now + _EVERY, not found
        streams = [stream for source in sources for stream in source.streams]
        self._notes.append((now, {stream.key: stream.count().emitted for stream in streams}))

    def since(self, streams: Iterable[Stream], seconds: float) -> dict[Key, int]:
        """Return how many rows streams had in so many seconds up to now, or since they are known."""
        begin = monotonic_ns() - int(seconds * 1e9)
        past = [counts for time, counts in self._notes if time <= begin]
        first: dict[Key, int] = past[-1] if past else {}
        for _, counts in self._notes:
            first = {**counts, **first}  # of streams that came later, what they had when they came
        return {s.key: s.count().emitted - first.get(s.key, 0) for s in streams}
