# SPDX-License-Identifier: BSD-2-Clause
"""Two things at a time: a call that waits for the kernel, and what Python has to do meanwhile."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

from eunomia.typing import TypeVar

_T = TypeVar("_T")


def beside(meanwhile: Callable[[], None], call: Callable[[], _T]) -> _T:
    """Return what ``call`` returns, which is made in a thread of its own; this one does what is to be done meanwhile.

    Raises what either of them raises, when both are over.
    """
    returned: list[_T] = []
    raised: list[BaseException] = []
    over = allocate_lock()
    over.acquire()

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:
            raised.append(error)
        finally:
            over.release()

    start_new_thread(run, ())
    try:
        meanwhile()
    finally:
        over.acquire()
    if raised:
        raise raised[0]
    return returned[0]
