# SPDX-License-Identifier: BSD-2-Clause
"""Stores of containers: the configured ones, those of users, and those that conmon's arguments name.

conmon monitors one container of Podman or CRI-O, outlives both, and runs before the container's cgroup is made. Its
arguments (conmon(8)) say where the stores are: Podman's bundle is in the store's root and its pid file in the run
root, CRI-O's are both in the run root, and ``--persist-dir`` is in the root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from eunomia.containers.daemons import daemon_of, option, pids
from eunomia.containers.paths import is_id
from eunomia.containers.storage import Store, roots_stores, users_stores
from eunomia.kernel_clock import monotonic_ns

_PAUSE = 5_000_000  # ns between two searches for conmon processes, at least
_SHARE = 10  # searches take at most one part in this of the time
_RECHECK = 10_000_000_000  # ns after which known conmon processes are read again
_FOUND = 64  # stores found by conmon's arguments
_USERS = 256  # slices whose users' stores are remembered


class Stores:
    """The known stores of the machine; others are searched for."""

    def __init__(
        self,
        clock: Callable[[], int] = monotonic_ns,
        fixed: Sequence[Store] | None = None,
        usual: Callable[[], Iterator[Store]] = roots_stores,
    ) -> None:
        """``fixed`` replaces the search; ``usual`` yields root's stores, also if no container runs."""
        self._clock = clock
        self._search = fixed is None
        self._usual_of = usual
        self._usual = None if fixed is None else list(fixed)
        self._users: dict[str, list[Store]] = {}
        self._resolved: dict[tuple[str, str, int], Store] = {}
        self._conmons: set[str] = set()
        self._searched: int | None = None
        self._rechecked = 0
        self._pause = _PAUSE

    def for_cgroup(self, path: str) -> Iterator[Store]:
        """Yield the stores that may have the container of a cgroup, root's first."""
        if self._usual is None:
            self._usual = list(dict.fromkeys(self._usual_of()))
        # Users' stores come last.
        found = sorted(self._resolved.values(), key=lambda store: store.root.below != "/")
        yield from (store for store in (*self._usual, *found) if store.root.covers(path))
        if self._search and path.startswith("/user.slice/"):
            slice_ = path.split("/", 3)[2]
            if slice_ not in self._users:
                if len(self._users) >= _USERS:
                    self._users.clear()
                self._users[slice_] = list(users_stores(path))
            yield from self._users[slice_]

    def look_again(self) -> bool:
        """Read the arguments of new conmon processes; return whether a search was due."""
        now = self._clock()
        if not self._search or (self._searched is not None and now - self._searched < self._pause):
            return False
        if self._searched is None or now - self._rechecked >= _RECHECK:  # pids are used again
            self._rechecked = now
            self._conmons.clear()
        self._searched = now
        here = set(pids(b"conmon"))
        for pid in here - self._conmons:
            for store in _of_conmon(pid):
                if len(self._resolved) >= _FOUND:
                    self._resolved.clear()
                # the latest conmon gives access to a mount namespace
                self._resolved[store.root.path, store.root.below, store.uid] = store
        self._conmons = here
        # accounts and configurations may have changed
        self._usual, self._users = None, {}
        # a short container's conmon ends with it, so pauses are as short as the share allows
        self._pause = max(_PAUSE, _SHARE * (self._clock() - now))
        return True


def _of_conmon(pid: str) -> Iterator[Store]:
    """Yield the store that a conmon process's arguments name."""
    conmon = daemon_of(pid)
    if conmon is None:
        return
    container_id = option(conmon.arguments, "-c", "--cid")
    bundle = option(conmon.arguments, "-b", "--bundle")
    root = _above(option(conmon.arguments, "--persist-dir") or bundle, container_id) or _above(bundle, container_id)
    run = _above(os.path.dirname(option(conmon.arguments, "-p", "--container-pidfile")), container_id)
    if root and is_id(container_id):
        kept = conmon.data_root(root)
        try:
            yield Store(kept, run, 0 if kept.below == "/" else os.stat(f"/proc/{pid}").st_uid)
        except OSError:
            return


def _above(path: str, container_id: str) -> str:
    """Return ``<root>`` of ``<root>/<driver>-containers/<id>/userdata``; empty for another path."""
    parts = path.rstrip("/").rsplit("/", 3)
    if len(parts) == 4 and parts[1].endswith("-containers") and parts[2:] == [container_id, "userdata"]:
        return parts[0] or "/"
    return ""
