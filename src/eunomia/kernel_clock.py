# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's monotonic clock, by which probes date what happens.

In a time namespace our own clocks are moved and the probes' is not: whatever is compared with a time of the
kernel's is told by :func:`monotonic_ns`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from eunomia._native import lib

_FIRST_NAMESPACE = "time:[4026531834]"  # PROC_TIME_INIT_INO, include/linux/proc_ns.h
_TRIES = 5


def _is_moved() -> bool:
    try:
        return os.readlink("/proc/self/ns/time") != _FIRST_NAMESPACE
    except FileNotFoundError:  # a kernel without time namespaces, or no /proc
        return os.path.exists("/proc/self/stat") is False
    except OSError:
        return False


def _offset() -> int:
    """Return what to add to our monotonic clock, in ns: measured, by the try that took the least time."""
    if not _is_moved():
        return 0
    best: tuple[int, int] | None = None
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        kernel = int(lib.eu_kernel_time())
        after = time.monotonic_ns()
        if kernel < 0:  # without rights nothing of the kernel's is seen either
            return 0
        if best is None or after - before < best[0]:
            best = (after - before, kernel - (before + after) // 2)
    assert best is not None
    return best[1]


def _made() -> Callable[[], int]:
    offset = _offset()
    # half a millisecond is what the measure may be off by
    return time.monotonic_ns if abs(offset) < 500_000 else lambda: time.monotonic_ns() + offset


# Returns the time in nanoseconds, as bpf_ktime_get_ns() would.
monotonic_ns: Callable[[], int] = _made()
