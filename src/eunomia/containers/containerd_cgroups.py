# SPDX-License-Identifier: BSD-2-Clause
"""Cgroups that the bundles of a containerd namespace request (``ctr run --cgroup``, ids of any form)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from eunomia.containers import oci
from eunomia.containers.daemons import DataRoot

_BUNDLES = 8192  # that are read
_TICK = 20_000_000  # ns, longer than the tick of any kernel's file times


class RequestedCgroups:
    """The bundles in a directory, by the names of the cgroups that they request."""

    def __init__(self, state: DataRoot, directory: str) -> None:
        """``directory`` has the bundles of a namespace; it is a path in the daemon's mount namespace."""
        self.state = state
        self.directory = directory
        self._changed = -1
        self._groups: dict[str, tuple[int, str]] = {}  # by id: when it was written, and its cgroup
        self._unread: list[str] = []
        self._by_name: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def requested(self, parent: str, name: str) -> Sequence[tuple[str, str]]:
        """Return ids of containers and the paths that they request, of paths that end in these two names.

        The newest comes first: a bundle stays after its container has ended, and another may use its cgroup.
        """
        self.look()
        return self._by_name.get((parent, name), ())

    @property
    def unread(self) -> Sequence[str]:
        """The bundles whose ``config.json`` is not written yet."""
        return self._unread

    def look(self) -> None:
        """Read new bundles."""
        try:
            changed = os.stat(self.state.shown(self.directory)).st_mtime_ns
        except (OSError, ValueError):
            self._groups, self._by_name, self._unread = {}, {}, []
            return
        if changed != self._changed:
            # another bundle may come within the same tick of the directory's time
            self._changed = changed if self._read() and time.time_ns() - changed > _TICK else -1

    def _read(self) -> bool:
        """Read new bundles; return whether all could be read: a directory is made before its file."""
        try:
            ids = os.listdir(self.state.shown(self.directory))[:_BUNDLES]
        except OSError:
            return False
        known, self._groups, self._by_name, self._unread = self._groups, {}, {}, []
        for container_id in ids:
            asked = known.get(container_id) or self._group(container_id)
            if asked[1]:
                self._groups[container_id] = asked
            else:
                self._unread.append(f"{self.directory}/{container_id}")
        for container_id, (_, group) in sorted(self._groups.items(), key=lambda item: item[1][0], reverse=True):
            above, _, name = group.rpartition("/")
            self._by_name.setdefault((above.rpartition("/")[2], name), []).append((container_id, group))
        return not self._unread

    def _group(self, container_id: str) -> tuple[int, str]:
        try:
            data, written = self.state.read(f"{self.directory}/{container_id}/config.json")
        except (OSError, ValueError):
            return 0, ""
        bundle = oci.bundle(data)
        return (0, "") if bundle is None else (written, bundle.cgroup_path(container_id))
