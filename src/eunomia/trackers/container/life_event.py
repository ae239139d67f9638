# SPDX-License-Identifier: BSD-2-Clause
"""Declaration of this tracker's rows: the events of a container, and the columns."""

from eunomia.python_schema import ColumnDeclaration, declare

CREATED, STARTED, RENAMED, PAUSED, UNPAUSED, OOM_KILLED, EXITED, REMOVED = range(1, 9)
_NAMES = {
    CREATED: "created", STARTED: "started", RENAMED: "renamed", PAUSED: "paused", UNPAUSED: "unpaused",
    OOM_KILLED: "oom_killed", EXITED: "exited", REMOVED: "removed",
}  # fmt: skip

NO_EXIT_CODE = -1  # of other events, and of an end that was not seen

LIFE_EVENT = declare(
    "life_event",
    "something happened to a container",
    [
        ColumnDeclaration(
            "time", "time_ns_t", "when it happened; of created and renamed, when the runtime wrote it down"
        ),
        ColumnDeclaration("cgroup_id", "cgroup_id_t", "the container's own cgroup; 0 while it has none", hidden=True),
        ColumnDeclaration("event", "enum life", "what happened", names=_NAMES),
        ColumnDeclaration(
            "pid", "pid_t", "first process, as the host sees it; of oom_killed the one that was killed", none=0
        ),
        ColumnDeclaration(
            "exit_code",
            "__s32",
            "of exited: status of the first process, 128 plus the signal that killed it; none if it was not recorded",
            none=NO_EXIT_CODE,
        ),
        ColumnDeclaration("signal", "signal_t", "of exited: signal that killed the first process; empty for none"),
        ColumnDeclaration("duration_ns", "duration_ns_t", "of exited: time since it was started", none=0),
        ColumnDeclaration("previous_name", "str_t", "of renamed: the name before"),
    ],
)
