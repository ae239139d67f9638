# SPDX-License-Identifier: BSD-2-Clause
"""What BTF does not know of this tracker."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which system calls does each process make, how many fail, and what time do they take?",
    variants=(
        # as quick as tp_btf while it runs, and loaded without the kernel's whole BTF
        Variant("raw_tp", ("enter_raw", "exit_raw")),
        Variant("tp_btf", ("enter_btf", "exit_btf")),
    ),
    columns={"syscall": ("pid", "comm", "syscall", "count", "errors", "total_ns")},
)
