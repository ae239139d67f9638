# SPDX-License-Identifier: BSD-2-Clause
"""Readers of what others wrote, when they fail in a way that nobody foresaw: the loop goes on, and it is told.

Readers expect anything of files, sockets and answers that are not ours, and say "not known" of what they cannot
read. Where one raises all the same, it is a fault of ours that a stranger can set off, and must not end the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from eunomia.typing import TypeVar

T = TypeVar("T")

KINDS = 64  # that are told apart

_MISSING = "what it would have told is missing, the run goes on"


class Faults:
    """Counts by reader and kind of error; ``told`` gets a sentence and the error, the first time of each kind."""

    def __init__(self, told: Callable[[str, Exception], None] | None = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._told = told

    def note(self, reader: str, error: Exception, outcome: str = _MISSING) -> None:
        """Count an error of a reader, or of another part that may fail; any thread may call it.

        ``outcome`` is what users are told of what follows.
        """
        kind = (reader, type(error).__name__)
        if kind not in self.counts and len(self.counts) >= KINDS:
            kind = ("another reader", "errors")
        first = kind not in self.counts
        self.counts[kind] += 1
        if first and self._told is not None:
            what = f"{kind[1]}: {error}" if str(error) else kind[1]
            self._told(f"{reader} failed ({what}): {outcome}", error)

    def call(self, reader: str, default: T, function: Callable[..., T], *arguments: object) -> T:
        """Return what a function returns, ``default`` where it raises."""
        try:
            return function(*arguments)
        except Exception as error:  # whatever a stranger's file brings about
            self.note(reader, error)
            return default
