# SPDX-License-Identifier: BSD-2-Clause
"""Handlers of system calls, as ``eunomia/syscall.h`` makes them: their section says which calls they want."""

from __future__ import annotations

from eunomia.kernel.errors import BadObject
from eunomia.kernel.hooks import LOCK
from eunomia.kernel.hooks.chain import Handler
from eunomia.kernel.hooks.dispatcher import COMPAT, NATIVE, NUMBERS, X32, Calls, Dispatcher
from eunomia.kernel.hooks.functions import ATTACH_TYPES, Functions, usable

EVENTS = {"syscall_enter": "sys_enter", "syscall_exit": "sys_exit"}
_Key = tuple[str, bool]  # the event, and whether it is seen by functions
_hosts: dict[_Key, Dispatcher | Functions] = {}


class CallLink:
    """A handler's place among those of system calls: :meth:`close` takes it out, :meth:`replace` puts another there."""

    def __init__(self, key: _Key, handler: Handler, calls: Calls) -> None:
        self._key, self._calls, self.handler = key, calls, handler
        self._host = _hosts[key]
        self._before = self._host.misses()

    @property
    def fd(self) -> int:
        """The descriptor of what keeps the shared program attached."""
        return self._host.descriptor

    def misses(self) -> int:
        """Return how often the kernel skipped the hook since, because it was running on that CPU already."""
        return max(self._host.misses() - self._before, 0)

    def replace(self, new: Handler) -> None:
        """Put another handler here, for the calls that its own section names.

        Raises :class:`KernelError`, and the old one goes on then.
        """
        with LOCK:
            wanted = calls(new.section) if new.section else self._calls
            both = _common(self._calls, wanted)
            if wanted != both or (not wanted and self._calls):
                self._host.insert(new, _without(wanted, both))
            if both or not (wanted or self._calls):
                self._host.replace(self.handler, new, both)
            if self._calls != both or (not self._calls and wanted):
                self._host.remove(self.handler, _without(self._calls, both))
            self.handler, self._calls = new, wanted

    def close(self) -> None:
        """Take the handler out; with the last of them the shared program leaves the hook."""
        with LOCK:
            self._host.remove(self.handler, self._calls)
            _leave(self._key)


def _common(one: Calls, other: Calls) -> Calls:
    return {name: at for name, at in one.items() if other.get(name) == at}


def _without(these: Calls, those: Calls) -> Calls:
    return {name: at for name, at in these.items() if name not in those}


def is_of_calls(section: str) -> bool:
    """Tell whether a section is one of ``eunomia/syscall.h``."""
    return section.partition("/")[0] in EVENTS


def calls(section: str) -> dict[str, list[int]]:
    """Return the names of the calls that a section wants, with their indexes; none where it wants any call.

    ``syscall_exit/open:2,5,2/openat:257,295,257`` has of each call the number by the native ABI, by the 32-bit one,
    and by x32; numbers that are too high stand for none. Raises :class:`BadObject`.
    """
    found: dict[str, list[int]] = {}
    for word in section.split("/")[1:]:
        name, _, rest = word.partition(":")
        numbers = rest.split(",")
        if len(numbers) != 3 or not all(n.isdigit() for n in numbers):
            raise BadObject(f"section {section}: {word} is not NAME:NATIVE,COMPAT,X32")
        bases = zip((NATIVE, COMPAT, X32), map(int, numbers), strict=True)
        found[name] = [base + number for base, number in bases if number < NUMBERS]
    return found


def attach(section: str, handler: Handler) -> CallLink:
    """Have a handler called for what its section wants; raises :class:`KernelError`, and leaves nothing then."""
    return attach_at(EVENTS[section.partition("/")[0]], handler, calls(section))


def by_functions(section: str) -> int:
    """Return how programs of a section are loaded where they hang on functions (enum bpf_attach_type), else 0."""
    return ATTACH_TYPES[EVENTS[section.partition("/")[0]]] if usable(calls(section)) else 0


def attach_at(event: str, handler: Handler, wanted: Calls) -> CallLink:
    """Have a handler called where some calls begin or end, or any where none is named."""
    with LOCK:
        key = event, usable(wanted)
        if key not in _hosts:
            _hosts[key] = Functions(event) if key[1] else Dispatcher(event)
        try:
            _hosts[key].insert(handler, wanted)
        except BaseException:
            _leave(key)
            raise
        return CallLink(key, handler, wanted)


def _leave(key: _Key) -> None:
    if not _hosts[key].is_used:
        _hosts.pop(key).close()
