# SPDX-License-Identifier: BSD-2-Clause
"""Whether a container is paused, as the kernel has it: the freezer of either version of cgroups."""

from __future__ import annotations

from functools import cache

from eunomia.cgroup_hierarchy import Hierarchy, of_first_version
from eunomia.containers import cgroup_files


@cache
def of_version_1() -> Hierarchy | None:
    """Return v1's freezer; None where there is none, and v2 freezes: it tells of it by a tracepoint, v1 does not."""
    return next((h for h in of_first_version() if h.controller == "freezer"), None)


def is_frozen(mount: str | None, path: str, pid: int) -> bool | None:
    """Whether a container's processes are stopped; None where that cannot be read.

    ``path`` is its cgroup's, in v2 at ``mount``, and ``pid`` its first process, which v1's cgroup is found by.
    """
    freezer = of_version_1()
    if freezer is None:
        state = _read(f"{mount}{path}/cgroup.freeze")
        return state == b"1" if state else None
    where = cgroup_files.path_of(pid, freezer) if pid else None
    state = _read(f"{freezer.mount}{where}/freezer.state") if where is not None else b""
    return state in {b"FROZEN", b"FREEZING"} if state else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        return b""
