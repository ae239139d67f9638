# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's monotonic clock, which probes use for their records' times.

In a time namespace the clocks of user space are shifted and the probes' clock is not: to compare with a time of the
kernel, use :func:`monotonic_ns`.
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
    """Return the offset of the kernel's clock from ours, in ns, from the fastest of several measurements."""
    if not _is_moved():
        return 0
    best: tuple[int, int] | None = None
    for _ in range(_TRIES):
        before = time.monotonic_ns()
        kernel = int(lib.eu_kernel_time())
        after = time.monotonic_ns()
        if kernel < 0:  # without privileges there are no records of the kernel to compare with
            return 0
        if best is None or after - before < best[0]:
            best = (after - before, kernel - (before + after) // 2)
    assert best is not None
    return best[1]


def _made() -> Callable[[], int]:
    offset = _offset()
    # the measurement may be wrong by half a millisecond
    return time.monotonic_ns if abs(offset) < 500_000 else lambda: time.monotonic_ns() + offset


# Returns the time in nanoseconds, as bpf_ktime_get_ns() would.
monotonic_ns: Callable[[], int] = _made()
