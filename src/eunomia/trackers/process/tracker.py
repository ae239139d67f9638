# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of the tracker: what its BTF does not say."""

from eunomia.tracker import Tracker, Variant

TRACKER = Tracker(
    title="Which programs start, who starts them, and how do they end?",
    variants=(
        # as fast as tp_btf, and loaded without the whole BTF of the kernel
        Variant("raw_tp", ("exec_raw", "fork_raw", "exit_raw")),
        Variant("tp_btf", ("exec_btf", "fork_btf", "exit_btf")),
    ),
    always=("failed_exec",),
    columns={
        "exec": ("pid", "ppid", "uid", "comm", "argv", "cwd", "errno"),
        "fork": ("pid", "ppid", "uid", "comm", "child_pid"),
        "exit": ("pid", "ppid", "uid", "comm", "exit_code", "signal", "duration_ns"),
    },
)
