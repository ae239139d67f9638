# SPDX-License-Identifier: BSD-2-Clause
"""Counter of unexpected errors in readers of untrusted data: they are reported, and the run goes on.

Readers handle any content of untrusted files, sockets and answers, and treat unreadable data as unknown. If one raises
all the same, that is a bug of ours that untrusted data has triggered, and it must not end the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from eunomia.typing import TypeVar

T = TypeVar("T")

KINDS = 64  # of errors that are counted separately

_MISSING = "its data is missing, the run goes on"


class Faults:
    """Counts errors by reader and kind; ``report`` gets a sentence and the error at the first one of each kind."""

    def __init__(self, report: Callable[[str, Exception], None] | None = None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._report = report

    def note(self, reader: str, error: Exception, outcome: str = _MISSING) -> None:
        """Count an error of a reader, or of another part that may fail; any thread may call it.

        ``outcome`` tells users what follows from it.
        """
        kind = (reader, type(error).__name__)
        if kind not in self.counts and len(self.counts) >= KINDS:
            kind = ("another reader", "errors")
        first = kind not in self.counts
        self.counts[kind] += 1
        if first and self._report is not None:
            what = f"{kind[1]}: {error}" if str(error) else kind[1]
            self._report(f"{reader} failed ({what}): {outcome}", error)

    def call(self, reader: str, default: T, function: Callable[..., T], *arguments: object) -> T:
        """Return a function's result, ``default`` if it raises."""
        try:
            return function(*arguments)
        except Exception as error:  # any error that untrusted data may cause
            self.note(reader, error)
            return default
