# SPDX-License-Identifier: BSD-2-Clause
"""The signals that end a run.

The module ``signal`` makes enumerations of all of them, by ``enum``, which takes 6 ms; ``_signal`` is the part in C.
"""

from __future__ import annotations

import os

from eunomia.typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from signal import SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, getsignal, signal
else:
    from _signal import SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, getsignal, signal


class Stoppable(Protocol):
    """What a signal ends."""

    def stop(self) -> None:
        """End it; a signal handler calls this."""


def by_signals(engine: Stoppable) -> None:
    """Have a signal end the run in good order, also while a start is under way; a second one, at once."""
    signalled: list[int] = []

    def end(signo: int, _frame: object) -> None:
        if signalled:
            signal(SIGINT, SIG_DFL)
            os.kill(os.getpid(), SIGINT)
        signalled.append(signo)
        engine.stop()

    for number in (SIGINT, SIGTERM, SIGHUP):
        if number != SIGHUP or getsignal(number) != SIG_IGN:  # nohup
            signal(number, end)
