# SPDX-License-Identifier: BSD-2-Clause
"""Which containers are wanted, as a live set of cgroup ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.containers.selectors import Match, Selectors
from eunomia.identity import PENDING, Identity

# What the kernel does with the set of cgroup ids.
CHOSEN = "chosen"  # selectors: the set holds the cgroups of what they match; nothing else passes
CONTAINERS = "containers"  # --containers-only: the set holds all containers'; nothing else passes
HOST = "host"  # --host-only: the set holds all containers'; they do not pass

_GONE = 1024  # removed containers that are remembered for the sake of those in them


class Selection:
    """Which cgroups a filter speaks of, followed live; subscribe it to a registry.

    A cgroup in a container belongs to the innermost container; what holds of a container holds of those in it.
    """

    def __init__(
        self,
        wanted: Selectors | Sequence[str] = (),
        mode: str = CHOSEN,
        *,
        added: Callable[[int], None] = lambda _: None,
        removed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``wanted`` are selectors, or names and ids of containers.

        ``added`` and ``removed`` are called with each cgroup id that enters and leaves :attr:`ids`, and ``removed``
        with each that does not enter it: the kernel holds new ones to be in it until it is told. Raises
        :class:`ValueError` for an empty name or a mode that does not go with ``wanted``.
        """
        selectors = wanted if isinstance(wanted, Selectors) else Selectors(tuple(wanted))
        if mode not in {CHOSEN, CONTAINERS, HOST}:
            raise ValueError(f"mode {mode!r}: expected {CHOSEN!r}, {CONTAINERS!r} or {HOST!r}")
        if (mode == CHOSEN) != any(selectors):
            raise ValueError("selectors of containers go with the mode 'chosen', and it needs some")
        self.mode = mode
        self._match: Match | None = selectors.match() if mode == CHOSEN else None
        self._chosen: dict[int, str] = {}  # the id of the container that each cgroup is in
        self._gone: dict[str, None] = {}  # ids of chosen ones whose cgroups are removed; their rows may come yet
        self._added = added
        self._removed = removed

    @property
    def ids(self) -> set[int]:
        """The cgroups that are in the set now."""
        return set(self._chosen)

    def __contains__(self, cgroup_id: int) -> bool:
        return cgroup_id in self._chosen

    def follow(self, added: Callable[[int], None], removed: Callable[[int], None]) -> None:
        """Set what is called with each cgroup id that enters and leaves :attr:`ids` from now on."""
        self._added, self._removed = added, removed

    def __call__(self, cgroup_id: int, identity: Identity | None, path: str) -> None:
        """Take what the registry tells its subscribers."""
        if identity is not None and identity.container is not None:
            self._gone.pop(identity.container.id, None)  # it is there, and may be called otherwise
        if identity is not None and identity.container is not None and self.holds(identity):
            known = cgroup_id in self._chosen
            self._chosen[cgroup_id] = identity.container.id
            if not known:
                self._added(cgroup_id)
            return
        if identity is not None and identity.state == PENDING and cgroup_id not in self._chosen:
            return  # nobody can tell yet
        was = self._chosen.pop(cgroup_id, None)
        if was is not None and identity is None:
            self._gone[was] = None
            if len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]
        self._removed(cgroup_id)

    def holds(self, identity: Identity) -> bool:
        """Whether cgroups of this identity belong in the set."""
        if identity.container is None:
            return False
        if self._match is None or self._match(identity):
            return True
        return bool(identity.parents) and not set(identity.parents).isdisjoint(self._chosen.values())

    def passes(self, identity: Identity) -> bool:
        """Whether rows of this identity are wanted, for what the kernel could not filter."""
        holds = self.holds(identity) or not self._gone.keys().isdisjoint(identity.parents)
        return holds != (self.mode == HOST)
