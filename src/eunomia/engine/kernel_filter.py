# SPDX-License-Identifier: BSD-2-Clause
"""Sets the filters in the kernel: the union of what outputs want, changed while probes run.

See ``eunomia/filter.h``. During a change the kernel lets through at least what is wanted both before and after it;
each output then filters for itself.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence

from eunomia.containers.selection import HOST, Selection
from eunomia.filters import Filters, comm_bytes, united
from eunomia.identity import PENDING
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.own_pid import host_pid
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.containers.registry import Registry
    from eunomia.identity import Identity
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.map_handle import MapHandle

_ORDER = "<" if sys.byteorder == "little" else ">"
_ROOM = 1024  # max_entries of EUNOMIA_SET, except for cgroups
_COMM = 16  # TASK_COMM_LEN

# Bits of eunomia_filter, eunomia/set.h.
_BY_PID, _BY_UID, _BY_COMM, _IN_CGROUPS, _NOT_IN_CGROUPS = (1 << n for n in range(32, 37))
_WORD = ".data.eunomia.f"

SETTING = "eunomia_filter"


def word(filters: Filters, cgroups: int = 0) -> int:
    """Return the value of ``eunomia_filter`` for these filters; ``cgroups`` is its bit for the set of cgroups."""
    return (
        (0 if filters.traces_itself else host_pid())
        | (_BY_PID if filters.pids else 0)
        | (_BY_UID if filters.uids else 0)
        | (_BY_COMM if filters.comms else 0)
        | cgroups
    )


def _sets(filters: Filters) -> dict[str, set[bytes]]:
    """Return the keys of each map of a probe; raises :class:`BadSetting` if they are too many."""
    found = {
        "eunomia_pids": {struct.pack(_ORDER + "I", p) for p in filters.pids},
        "eunomia_uids": {struct.pack(_ORDER + "I", u) for u in filters.uids},
        "eunomia_comms": {comm_bytes(c).ljust(_COMM, b"\0") for c in filters.comms},
    }
    for name, keys in found.items():
        if len(keys) > _ROOM:
            option = name.removeprefix("eunomia_").removesuffix("s")
            raise BadSetting(f"--{option}: {len(keys)} values are more than the limit of {_ROOM}")
    return found


class KernelFilter:
    """The filters of all probes with ``eunomia/filter.h``, and the set of cgroups that they share."""

    def __init__(self) -> None:
        self.filters = Filters()
        self.changes = 0  # of what passes, since it was made
        self._objects: list[Loaded] = []  # that have the filters
        self._selections: list[Selection | None] = []  # of the outputs, None for one that wants all
        self._cgroups: _CgroupSet | None = None
        self._registry: Registry | None = None

    @property
    def cgroup_bit(self) -> int:
        """The bit for the set of cgroups; 0 if the outputs' selections cannot be one set."""
        selections = [s for s in self._selections if s is not None]
        if not selections or len(selections) < len(self._selections):
            return 0
        hosts = [s.mode == HOST for s in selections]
        return _NOT_IN_CGROUPS if all(hosts) else 0 if any(hosts) else _IN_CGROUPS

    @property
    def word(self) -> int:
        """The present value of ``eunomia_filter``."""
        return word(self.filters, self.cgroup_bit)

    def start(self, cgroups: Loaded) -> None:
        """Take the object that follows cgroups, which has the shared set."""
        self._cgroups = _CgroupSet(cgroups.maps["eunomia_cgroups"])
        self._objects.append(cgroups)

    def follow_containers(self, registry: Registry) -> None:
        """Update the set of cgroups with the registry's news."""
        self._registry = registry
        assert self._cgroups is not None
        self._cgroups.follow([s for s in self._selections if s is not None], registry)

    def constants(self) -> Mapping[str, object]:
        """Return the settings for loading an object."""
        return {SETTING: self.word}

    def fill(self, live: Loaded) -> None:
        """Fill the sets of an object that is loaded and not attached yet; raises :class:`BadSetting`."""
        for name, keys in _sets(self.filters).items():
            for key in keys:
                live.maps[name].update(key, b"\1")

    def take(self, live: Loaded) -> None:
        """Apply every change to an object, of which the sets are filled."""
        if live not in self._objects:
            self._objects.append(live)

    def drop(self, live: Loaded) -> None:
        """Apply no more changes to an object, if it is one of these."""
        if live in self._objects:
            self._objects.remove(live)

    @staticmethod
    def check(several: Sequence[Filters]) -> None:
        """Raise :class:`BadSetting` if what these outputs want does not fit into the kernel's sets."""
        _sets(united(several))

    def want(self, several: Sequence[tuple[Filters, Selection | None]]) -> None:
        """Let through what any of these outputs wants; with no outputs, everything.

        Raises :class:`BadSetting` if it does not fit into the kernel's sets, and then nothing has changed.
        """
        before, after = self.filters, united([filters for filters, _ in several])
        old_word, old, new = self.word, _sets(before), _sets(after)
        old_selections, selections = self._selections, [selection for _, selection in several]
        self.filters, self._selections = after, selections
        if self.word == old_word and new == old and selections == old_selections:
            return
        self.changes += 1
        follows = [live for live in self._objects if "eunomia_pids" in live.maps]
        for live in follows:
            _change(live, old, new, add=True)
        if self._cgroups is not None:
            self._cgroups.follow([s for s in selections if s is not None], self._registry)
        for live in self._objects:
            write(live, self.word)
        for live in follows:
            _change(live, old, new, add=False)
        if self._cgroups is not None:
            self._cgroups.keep([s for s in selections if s is not None])


def write(live: Loaded, value: int) -> None:
    """Set ``eunomia_filter`` of a live object, atomically: eight bytes are copied as one word."""
    name = next((n for n in live.maps if n.endswith(_WORD)), None)
    if name is not None:
        live.maps[name].update(bytes(4), value.to_bytes(8, sys.byteorder))


def _change(live: Loaded, old: Mapping[str, set[bytes]], new: Mapping[str, set[bytes]], *, add: bool) -> None:
    for name in old:
        for key in new[name] - old[name] if add else ():
            live.maps[name].update(key, b"\1")
        for key in () if add else old[name] - new[name]:
            live.maps[name].delete(key)


class _CgroupSet:
    """The kernel's set of cgroup ids: those in any selection, and new ones that are not known yet."""

    def __init__(self, handle: MapHandle) -> None:
        self._handle = handle
        self._selections: list[Selection] = []
        self._registry: Registry | None = None

    def follow(self, selections: Iterable[Selection], registry: Registry | None) -> None:
        """Add the ids of these selections, if the registry is known; ids in the set stay."""
        for selection in selections:
            if selection in self._selections:
                continue
            self._selections.append(selection)
            selection.follow(self._add, _nothing)
            if self._registry is not None:
                self._registry.subscribe(selection)()  # the present state; we pass changes on ourselves
        if registry is not None and self._registry is None and self._selections:
            self._registry = registry
            registry.subscribe(self)

    def keep(self, selections: Collection[Selection]) -> None:
        """Remove ids that are only in other selections."""
        gone = [s for s in self._selections if s not in selections]
        self._selections = [s for s in self._selections if s in selections]
        for selection in gone:
            selection.follow(_nothing, _nothing)
            for cgroup_id in selection.ids:
                self._remove(cgroup_id)

    def __call__(self, cgroup_id: int, identity: Identity | None, path: str) -> None:
        """Take a change from the registry, and pass it on to the selections."""
        for selection in self._selections:
            selection(cgroup_id, identity, path)
        if identity is None or identity.state != PENDING:
            self._remove(cgroup_id)

    def _add(self, cgroup_id: int) -> None:
        self._handle.update(struct.pack(_ORDER + "Q", cgroup_id), b"\1")

    def _remove(self, cgroup_id: int) -> None:
        """Remove a cgroup that is in no selection, after all of them have seen its identity."""
        if not any(cgroup_id in selection for selection in self._selections):
            self._handle.delete(struct.pack(_ORDER + "Q", cgroup_id))


def _nothing(_cgroup_id: int) -> None:
    """Ignore a cgroup."""
