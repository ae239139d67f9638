# SPDX-License-Identifier: BSD-2-Clause
"""Which stores may have a container: the configured ones, its user's, and those to which conmon leads.

conmon looks after one container of Podman's or CRI-O's, outlives both, and runs before the container's cgroup is
made. Its arguments (conmon(8)) say where these are: Podman's bundle lies in the store's root and its pid file in the
run root, CRI-O's both in the run root, and ``--persist-dir`` in the root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from eunomia.containers.daemons import daemon_of, option, pids
from eunomia.containers.paths import is_id
from eunomia.containers.storage import Store, roots_stores, users_stores
from eunomia.kernel_clock import monotonic_ns

_PAUSE = 5_000_000  # ns between two looks for conmons, at least
_SHARE = 10  # they take at most one part in this of the time
_ALL_ANEW = 10_000_000_000  # ns between two looks at conmons that were looked at before
_FOUND = 64  # stores that conmon led to
_USERS = 256  # slices whose users' stores are remembered


class Stores:
    """The stores of the machine as far as they are known; one that was not heard of is searched for."""

    def __init__(
        self,
        clock: Callable[[], int] = monotonic_ns,
        fixed: Sequence[Store] | None = None,
        usual: Callable[[], Iterator[Store]] = roots_stores,
    ) -> None:
        """``fixed`` replaces the search; ``usual`` yields those of root, where nothing runs."""
        self._clock = clock
        self._search = fixed is None
        self._usual_of = usual
        self._usual = None if fixed is None else list(fixed)
        self._users: dict[str, list[Store]] = {}
        self._found: dict[tuple[str, str, int], Store] = {}
        self._conmons: set[str] = set()
        self._searched: int | None = None
        self._anew = 0
        self._pause = _PAUSE

    def heard(self, path: str) -> Iterator[Store]:
        """Yield the stores that may say whose a cgroup is, root's first."""
        if self._usual is None:
            self._usual = list(dict.fromkeys(self._usual_of()))
        # What a user says comes last.
        found = sorted(self._found.values(), key=lambda store: store.root.below != "/")
        yield from (store for store in (*self._usual, *found) if store.root.speaks_for(path))
        if self._search and path.startswith("/user.slice/"):
            slice_ = path.split("/", 3)[2]
            if slice_ not in self._users:
                if len(self._users) >= _USERS:
                    self._users.clear()
                self._users[slice_] = list(users_stores(path))
            yield from self._users[slice_]

    def look_again(self) -> bool:
        """Look at the conmons that came since; return whether it was time for that."""
        now = self._clock()
        if not self._search or (self._searched is not None and now - self._searched < self._pause):
            return False
        if self._searched is None or now - self._anew >= _ALL_ANEW:  # pids are used again
            self._anew = now
            self._conmons.clear()
        self._searched = now
        here = set(pids(b"conmon"))
        for pid in here - self._conmons:
            for store in _of_conmon(pid):
                if len(self._found) >= _FOUND:
                    self._found.clear()
                # A mount namespace that was reached by one conmon is reached by the latest.
                self._found[store.root.path, store.root.below, store.uid] = store
        self._conmons = here
        # A user's account or configuration may be new as well.
        self._usual, self._users = None, {}
        # A container that ends soon takes its conmon with it, so pauses are no longer than they must be.
        self._pause = max(_PAUSE, _SHARE * (self._clock() - now))
        return True


def _of_conmon(pid: str) -> Iterator[Store]:
    """Yield the store in which a process called conmon says that its container is."""
    conmon = daemon_of(pid)
    if conmon is None:
        return
    container_id = option(conmon.arguments, "-c", "--cid")
    bundle = option(conmon.arguments, "-b", "--bundle")
    root = _above(option(conmon.arguments, "--persist-dir") or bundle, container_id) or _above(bundle, container_id)
    run = _above(os.path.dirname(option(conmon.arguments, "-p", "--container-pidfile")), container_id)
    if root and is_id(container_id):
        kept = conmon.keeps(root)
        try:
            yield Store(kept, run, 0 if kept.below == "/" else os.stat(f"/proc/{pid}").st_uid)
        except OSError:
            return


def _above(path: str, container_id: str) -> str:
    """Return what ``<root>/<driver>-containers/<id>/userdata`` is below; empty for another path."""
    parts = path.rstrip("/").rsplit("/", 3)
    if len(parts) == 4 and parts[1].endswith("-containers") and parts[2:] == [container_id, "userdata"]:
        return parts[0] or "/"
    return ""
