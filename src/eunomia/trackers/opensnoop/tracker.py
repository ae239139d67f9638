# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the tracker: what its BTF does not say."""

import os

from eunomia.tracker import Tracker, Variant

# arm64 has no open(2) and creat(2), only openat(2).
_CALLS = ("open", "creat", "openat", "openat2") if os.uname().machine == "x86_64" else ("openat", "openat2")

TRACKER = Tracker(
    title="Which files are opened, by whom, which cannot be, and how long does it take?",
    variants=(
        Variant("tp", (*(f"enter_{call}" for call in _CALLS), "exit_calls")),
        Variant("raw_tp", ("enter_raw", "exit_raw")),
    ),
    columns={"open": ("pid", "uid", "comm", "errno", "latency_ns", "flags", "resolved")},
)
