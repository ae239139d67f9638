# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the tracker: what its BTF does not say."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which files are opened, by whom, which cannot be, and how long does it take?",
    variants=(
        Variant("io_uring", ("opened", "ring_asked", "ring_opened")),
        Variant("sys_exit", ("opened",)),
    ),
    columns={"open": ("pid", "uid", "comm", "errno", "latency_ns", "flags", "resolved")},
)
