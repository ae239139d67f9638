# SPDX-License-Identifier: BSD-2-Clause
"""What BTF does not know of this tracker."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which containers come and go, and how do they end?",
    variants=(Variant("raw_tp", ("on_exec", "on_exit", "made", "unmade", "frozen", "chosen")),),
    columns={"life": ("event", "pid", "exit_code", "signal", "duration_ns", "previous_name", "container.image")},
    derive="eunomia.trackers.container.life:Life",
    whole=True,
)
