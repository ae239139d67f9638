# SPDX-License-Identifier: BSD-2-Clause
"""The time in which an object that replaced another has to show that it works, before the other is let go."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from eunomia.kernel.handover import Handover
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.engine.sources import ProbeSource
    from eunomia.engine.stream import Key
    from eunomia.faults import Faults
    from eunomia.ledger import SourceEntry

LONGEST = 60  # seconds
_SOME = 10  # rows of the old one; with fewer, no row of the new one may be chance (e^-10 for independent events)


class TrialFailed(RuntimeError):
    """A new object failed, or gave no sign of life; the old one runs again."""


class Trial:
    """A source that takes another's place; :attr:`future` is done when it is decided which of the two stays."""

    def __init__(self, old: ProbeSource, new: ProbeSource, seconds: float) -> None:
        assert old.live is not None
        assert new.live is not None
        self.old, self.new = old, new
        self.name = new.name
        self.maps = new.live.kept
        self.handover = Handover(old.live, new.live)
        self.future: Future[list[str]] = Future()
        self.until = 0  # monotonic ns
        self.seconds = seconds
        self._past: Mapping[Key, int] = {}
        self._began: dict[Key, int] = {}
        self._failures: dict[str, int] = {}
        self.orphans: list[SourceEntry] = []  # accounts of streams that only the old one has

    def begin(self, past: Mapping[Key, int], faults: Faults) -> None:
        """Take the time, now that the new programs run.

        ``past`` are the rows that each of the old one's streams had in as long a time before.
        """
        self._past = past
        self.until = monotonic_ns() + int(self.seconds * 1e9)
        lively = {key for key, rows in self._past.items() if rows >= _SOME}
        self._began = {s.key: s.count().emitted for s in self.new.streams if s.key in lively}
        self._failures = self._counted(faults)

    def _counted(self, faults: Faults) -> dict[str, int]:
        failing = f"tracker {self.name}"
        return {kind: count for (reader, kind), count in faults.counts.items() if reader == failing}

    def verdict(self, faults: Faults) -> str | None:
        """Return what is wrong with the new object, an empty text if it may stay, None while that is open."""
        failures = self._counted(faults)
        if failures != self._failures:
            return f"it fails: {', '.join(failures)}"
        if monotonic_ns() < self.until:
            return None
        counts = {s.key: s.count().emitted for s in self.new.streams if s.key in self._began}
        for key, begun in self._began.items():
            if counts[key] == begun:
                return (
                    f"the new one had no row in {key[1]} for {self.seconds:g} s, and the old one "
                    f"{self._past[key]:,} in the {self.seconds:g} s before"
                )
        return ""

    def end(self, error: Exception | None) -> None:
        """Say how it ended."""
        if not self.future.set_running_or_notify_cancel():
            return
        if error is not None:
            self.future.set_exception(error)
            return
        twice = self.handover.twice
        self.future.set_result(
            [f"{name} cannot be put in another's place: for a moment both ran, and saw the same" for name in twice]
        )
