# SPDX-License-Identifier: BSD-2-Clause
"""Cgroup hierarchies: where they are mounted, and their numbers in the kernel.

v2 is one hierarchy; each controller of v1 has one, or shares it with others. The same id is a different cgroup in each,
so ids, paths and records are all of one, :func:`eunomia.containers.cgroup_files.current`.
"""

from __future__ import annotations

from eunomia._native import lib
from eunomia.typing import NamedTuple

# Controllers of v1 in which container runtimes make cgroups, the most reliable first.
CONTROLLERS = ("memory", "pids", "cpu", "devices", "freezer")


class Hierarchy(NamedTuple):
    """A cgroup hierarchy: ``mount`` is its mount point, None if it is not mounted.

    ``id`` is the kernel's number of it: 0 is v2's. ``controller`` is the one of v1 by which probes find a task's
    cgroup, empty for v2. ``why`` says in a few words why it was chosen.
    """

    mount: str | None
    id: int = 0
    controller: str = ""
    why: str = ""

    @property
    def version(self) -> int:
        """1 or 2."""
        return 1 if self.id else 2

    def constants(self) -> dict[str, object]:
        """Return the constants with which probes (``eunomia/cgroup.h``) report ids of this hierarchy.

        Raises :class:`OSError` if the kernel's BTF does not have the controller's index.
        """
        if not self.id:
            return {}
        # enum cgroup_subsys_id; its values depend on the kernel's configuration
        index = lib.eu_kernel_enum(b"cgroup_subsys_id", f"{self.controller}_cgrp_id".encode())
        if index < 0:
            raise OSError(f"the kernel's BTF does not name the cgroup controller {self.controller}")
        return {"eunomia_subsystem": index + 1}


class _Mount(NamedTuple):
    version: int
    root: str
    point: str
    options: tuple[str, ...]


def unified() -> Hierarchy | None:
    """Return the v2 hierarchy; None if it is not mounted."""
    point = _best([m for m in _mounts() if m.version == 2])
    return None if point is None else Hierarchy(point)


def of_first_version() -> list[Hierarchy]:
    """Return the mounted hierarchies of v1 in which runtimes make cgroups, the most reliable first."""
    mounts, ids = _mounts(), _ids()
    found = []
    for controller in CONTROLLERS:
        point = _best([m for m in mounts if m.version == 1 and controller in m.options])
        if point is not None and controller in ids:
            found.append(Hierarchy(point, ids[controller], controller))
    return found


def _best(mounts: list[_Mount]) -> str | None:
    """Return the mount of a hierarchy's root, else any: a container may see only its part."""
    return min(mounts, key=lambda m: m.root != "/").point if mounts else None


def _mounts() -> list[_Mount]:
    found = []
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                mount, _, kind = line.rstrip("\n").partition(" - ")
                type_, _, rest = kind.partition(" ")
                parts = mount.split(" ")
                if type_ in {"cgroup", "cgroup2"} and len(parts) > 4:
                    root, point = parts[3:5]
                    options = tuple(rest.rpartition(" ")[2].split(","))
                    found.append(_Mount(2 if type_ == "cgroup2" else 1, root, _unescape(point), options))
    except OSError:
        pass
    return found


def _ids() -> dict[str, int]:
    """Return the number of each v1 controller's hierarchy, as in ``6:memory:/``."""
    found = {}
    try:
        with open("/proc/self/cgroup", "rb") as lines:
            for line in lines:
                number, controllers = line.split(b":", 2)[:2]
                for controller in controllers.decode("utf-8", "replace").split(","):
                    found[controller] = int(number)
    except (OSError, ValueError):
        pass
    return found


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
