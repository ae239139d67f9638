# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the tracker: what its BTF does not say."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which system calls does each process make, how many fail, and what time do they take?",
    variants=(
        # as fast as tp_btf, and loaded without the whole BTF of the kernel
        Variant("raw_tp", ("enter_raw", "exit_raw")),
        Variant("tp_btf", ("enter_btf", "exit_btf")),
    ),
    columns={"syscall": ("pid", "comm", "syscall", "count", "errors", "total_ns")},
)
