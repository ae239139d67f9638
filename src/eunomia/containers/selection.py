# SPDX-License-Identifier: BSD-2-Clause
"""``--container``, ``--containers-only`` and ``--host-only`` as a live set of cgroup ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.identity import Container, Identity

# What the kernel does with the set of cgroup ids.
CHOSEN = "chosen"  # --container: the set holds their cgroups; nothing else passes
CONTAINERS = "containers"  # --containers-only: the set holds all containers'; nothing else passes
HOST = "host"  # --host-only: the set holds all containers'; they do not pass

_SHORTEST_ID = 4
_DIGITS = "0123456789abcdef"


class Selection:
    """Which cgroups a filter speaks of, followed live; subscribe it to a registry.

    A cgroup in a container belongs to the innermost container.
    """

    def __init__(
        self,
        wanted: Sequence[str] = (),
        mode: str = CHOSEN,
        *,
        added: Callable[[int], None] = lambda _: None,
        removed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``wanted`` are exact names, ids, or at least four digits of an id's start, as Docker takes them.

        ``added`` and ``removed`` are called with each cgroup id that enters and leaves :attr:`ids`. Raises
        :class:`ValueError` for an empty name or a mode that does not go with ``wanted``.
        """
        if mode not in {CHOSEN, CONTAINERS, HOST}:
            raise ValueError(f"mode {mode!r}: expected {CHOSEN!r}, {CONTAINERS!r} or {HOST!r}")
        if (mode == CHOSEN) != bool(wanted):
            raise ValueError("names or ids of containers go with the mode 'chosen', and it needs some")
        if not all(wanted_one.strip("/") for wanted_one in wanted):
            raise ValueError("a container's name or id is empty")
        self.mode = mode
        self.ids: set[int] = set()
        self._added = added
        self._removed = removed
        self._names = {name.removeprefix("/") for name in wanted}
        lowered = (name.lower() for name in wanted)
        self._prefixes = tuple(n for n in lowered if len(n) >= _SHORTEST_ID and not n.strip(_DIGITS))

    def follow(self, added: Callable[[int], None], removed: Callable[[int], None]) -> None:
        """Set what is called with each cgroup id that enters and leaves :attr:`ids` from now on."""
        self._added, self._removed = added, removed

    def __call__(self, cgroup_id: int, identity: Identity | None, path: str) -> None:
        """Take what the registry tells its subscribers."""
        if identity is not None and self.holds(identity):
            if cgroup_id not in self.ids:
                self.ids.add(cgroup_id)
                self._added(cgroup_id)
        elif cgroup_id in self.ids:
            self.ids.remove(cgroup_id)
            self._removed(cgroup_id)

    def holds(self, identity: Identity) -> bool:
        """Whether cgroups of this identity belong in the set."""
        container = identity.container
        if container is None:
            return False
        return self.mode != CHOSEN or self._names_it(container)

    def passes(self, identity: Identity) -> bool:
        """Whether rows of this identity are wanted, for what the kernel could not filter."""
        return self.holds(identity) != (self.mode == HOST)

    def _names_it(self, container: Container) -> bool:
        return container.name in self._names or container.id.startswith(self._prefixes or ("\0",))
