# SPDX-License-Identifier: BSD-2-Clause
"""State of the cgroup freezer, v1 or v2: whether a container is paused."""

from __future__ import annotations

from functools import cache

from eunomia.cgroup_hierarchy import Hierarchy, of_first_version
from eunomia.containers import cgroup_files


@cache
def of_version_1() -> Hierarchy | None:
    """Return v1's freezer; None if v2 freezes, which has a tracepoint for that (v1 has none)."""
    return next((h for h in of_first_version() if h.controller == "freezer"), None)


def is_frozen(mount: str | None, path: str, pid: int) -> bool | None:
    """Whether a container's processes are frozen; None if that cannot be read.

    ``path`` is its cgroup in v2 at ``mount``; ``pid`` is its first process, by which v1's cgroup is found.
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
