# SPDX-License-Identifier: BSD-2-Clause
"""Selection: the cgroups that selectors choose, kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.containers.selectors import Match, Selectors
from eunomia.identity import PENDING, Identity

# What the kernel does with the set of cgroup ids.
CHOSEN = "chosen"  # selectors: the set has the cgroups that they match; only these pass
CONTAINERS = "containers"  # --containers-only: the set has all containers' cgroups; only these pass
HOST = "host"  # --host-only: the set has all containers' cgroups; all others pass

_GONE = 1024  # removed containers that are remembered for rows of containers inside them


class Selection:
    """The cgroups of a filter, kept up to date; subscribe it to a registry.

    A cgroup belongs to its innermost container; a match of a container includes the containers inside it.
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
        also with each new one that does not enter: the kernel lets new cgroups pass until then. Raises
        :class:`ValueError` for an empty name or a mode that does not go with ``wanted``.
        """
        selectors = wanted if isinstance(wanted, Selectors) else Selectors(tuple(wanted))
        if mode not in {CHOSEN, CONTAINERS, HOST}:
            raise ValueError(f"mode {mode!r}: expected {CHOSEN!r}, {CONTAINERS!r} or {HOST!r}")
        if (mode == CHOSEN) != any(selectors):
            raise ValueError("selectors of containers go with the mode 'chosen', and it needs some")
        self.mode = mode
        self._match: Match | None = selectors.match() if mode == CHOSEN else None
        self._chosen: dict[int, str] = {}  # by cgroup: its container's id
        self._gone: dict[str, None] = {}  # ids of chosen containers whose cgroups were removed; rows may still come
        self._added = added
        self._removed = removed

    @property
    def ids(self) -> set[int]:
        """The ids in the set now."""
        return set(self._chosen)

    def __contains__(self, cgroup_id: int) -> bool:
        return cgroup_id in self._chosen

    def follow(self, added: Callable[[int], None], removed: Callable[[int], None]) -> None:
        """Replace the functions that are called with each id that enters and leaves :attr:`ids`."""
        self._added, self._removed = added, removed

    def __call__(self, cgroup_id: int, identity: Identity | None, path: str) -> None:
        """Update the set; called by the registry."""
        if identity is not None and identity.container is not None:
            self._gone.pop(identity.container.id, None)  # it exists, perhaps under another name
        if identity is not None and identity.container is not None and self.holds(identity):
            known = cgroup_id in self._chosen
            self._chosen[cgroup_id] = identity.container.id
            if not known:
                self._added(cgroup_id)
            return
        if identity is not None and identity.state == PENDING and cgroup_id not in self._chosen:
            return  # not decided yet
        was = self._chosen.pop(cgroup_id, None)
        if was is not None and identity is None:
            self._gone[was] = None
            if len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]
        self._removed(cgroup_id)

    def holds(self, identity: Identity) -> bool:
        """Whether cgroups of this identity belong to the set."""
        if identity.container is None:
            return False
        if self._match is None or self._match(identity):
            return True
        return bool(identity.parents) and not set(identity.parents).isdisjoint(self._chosen.values())

    def passes(self, identity: Identity) -> bool:
        """Whether rows of this identity pass, for rows that the kernel could not filter."""
        holds = self.holds(identity) or not self._gone.keys().isdisjoint(identity.parents)
        return holds != (self.mode == HOST)
