# SPDX-License-Identifier: BSD-2-Clause
"""The door between the registry and what reads other people's files: an error stays behind it."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.containers.runtime import Found, Keeper, Runtime
from eunomia.faults import Faults
from eunomia.identity import Container


def guarded(runtime: Runtime, faults: Faults) -> Runtime:
    """Return a runtime that knows nothing where the given one raises."""
    if isinstance(runtime, _Guarded):
        return runtime
    return _GuardedKeeper(runtime, faults) if isinstance(runtime, Keeper) else _Guarded(runtime, faults)


class _Guarded:
    """A :class:`Runtime` that never raises."""

    def __init__(self, runtime: Runtime, faults: Faults) -> None:
        self.name = runtime.name
        self.behind = runtime
        self._faults = faults
        self._reader = f"the reader of {runtime.name}"

    def recognises(self, parent: str, name: str) -> str:
        return self._faults.call(self._reader, "", self.behind.recognises, parent, name)

    def lookup(self, container_id: str, path: str) -> Found | None:
        return self._faults.call(self._reader, None, self.behind.lookup, container_id, path)

    def watches(self, container: Container, path: str) -> Sequence[str]:
        return self._faults.call(self._reader, (), self.behind.watches, container, path)

    def changed(self, container: Container, path: str) -> bool:
        return self._faults.call(self._reader, False, self.behind.changed, container, path)


class _GuardedKeeper(_Guarded):
    """A :class:`Keeper` that never raises. A record that cannot be looked for counts as kept."""

    behind: Keeper

    def places(self) -> Sequence[str]:
        return self._faults.call(self._reader, (), self.behind.places)

    def records(self, place: str) -> Sequence[str]:
        return self._faults.call(self._reader, (), self.behind.records, place)

    def keeps(self, container: Container, path: str) -> bool:
        return self._faults.call(self._reader, True, self.behind.keeps, container, path)
