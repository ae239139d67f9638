# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the container tracker."""

from eunomia.tracker import Tracker, Variant
from eunomia.trackers.container.life_event import LIFE_EVENT

TRACKER = Tracker(
    title="Which containers come and go, and how do they end?",
    variants=(Variant("raw_tp", ("on_exec", "on_exit", "made", "unmade", "frozen", "chosen")),),
    columns={"life": ("event", "pid", "exit_code", "signal", "duration_ns", "previous_name", "container.image")},
    derived={"life": LIFE_EVENT},
    derive="eunomia.trackers.container.life:Life",
    whole=True,
)
