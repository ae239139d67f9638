# SPDX-License-Identifier: BSD-2-Clause
"""What BTF does not know of this tracker."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which system calls does each process make, how many fail, and what time do they take?",
    variants=(
        Variant("tp_btf", ("enter_btf", "exit_btf")),
        Variant("raw_tp", ("enter_raw", "exit_raw")),
    ),
    columns={"syscall": ("pid", "comm", "syscall", "count", "errors", "total_ns")},
)
