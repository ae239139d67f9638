# SPDX-License-Identifier: BSD-2-Clause
"""Which cgroups the bundles of one of containerd's namespaces ask for (``ctr run --cgroup``, ids of any form)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from eunomia.containers import oci
from eunomia.containers.daemons import DataRoot

_BUNDLES = 8192  # that are looked at
_TICK = 20_000_000  # ns, longer than any kernel's


class Groups:
    """The bundles in a directory, by the names of the cgroups that they ask for; read as they come."""

    def __init__(self, state: DataRoot, directory: str) -> None:
        """``directory`` has the bundles of a namespace, as their daemon sees it."""
        self._state = state
        self._directory = directory
        self._changed = -1
        self._groups: dict[str, str] = {}  # by id
        self._by_name: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def asked(self, parent: str, name: str) -> Sequence[tuple[str, str]]:
        """Return ids of containers and the paths that they ask for, of those that end in these two names."""
        try:
            changed = os.stat(self._state.shown(self._directory)).st_mtime_ns
        except (OSError, ValueError):
            return ()
        if changed != self._changed:
            # the kernel's clock for this may stand still while another comes
            self._changed = changed if self._read() and time.time_ns() - changed > _TICK else -1
        return self._by_name.get((parent, name), ())

    def _read(self) -> bool:
        """Read the bundles that came; return whether all could be read: a directory is made before its file."""
        try:
            ids = os.listdir(self._state.shown(self._directory))[:_BUNDLES]
        except OSError:
            return False
        known, self._groups, self._by_name = self._groups, {}, {}
        for container_id in ids:
            group = known.get(container_id) or self._group(container_id)
            if group:
                self._groups[container_id] = group
                above, _, name = group.rpartition("/")
                self._by_name.setdefault((above.rpartition("/")[2], name), []).append((container_id, group))
        return len(self._groups) == len(ids)

    def _group(self, container_id: str) -> str:
        try:
            data, _ = self._state.read(f"{self._directory}/{container_id}/config.json")
        except (OSError, ValueError):
            return ""
        bundle = oci.bundle(data)
        return "" if bundle is None else bundle.group(container_id)
