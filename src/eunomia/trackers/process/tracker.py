# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the tracker: what its BTF does not say."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which programs start, who starts them, and how do they end?",
    variants=(Variant("raw_tp", ("on_exec", "on_fork", "on_exit", "on_failed_exec")),),
    columns={
        "exec": ("pid", "ppid", "uid", "comm", "argv", "cwd", "errno"),
        "fork": ("pid", "ppid", "uid", "comm", "child_pid"),
        "exit": ("pid", "ppid", "uid", "comm", "exit_code", "signal", "duration_ns"),
    },
)
