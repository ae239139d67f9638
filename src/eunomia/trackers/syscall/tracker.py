# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the tracker: what its BTF does not say."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which system calls does each process make, how many fail, and what time do they take?",
    variants=(Variant("sys_exit", ("ended",)),),
    columns={"syscall": ("pid", "comm", "syscall", "count", "errors", "total_ns")},
)
