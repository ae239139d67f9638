# SPDX-License-Identifier: BSD-2-Clause
"""Handlers of system calls, as ``eunomia/syscall.h`` makes them: their section says which calls they want."""

from __future__ import annotations

from eunomia.kernel.errors import BadObject
from eunomia.kernel.hooks.chain import Handler
from eunomia.kernel.hooks.dispatcher import COMPAT, NATIVE, NUMBERS, X32, Dispatcher

_EVENTS = {"syscall_enter": "sys_enter", "syscall_exit": "sys_exit"}
_dispatchers: dict[str, Dispatcher] = {}


class CallLink:
    """A handler's place among those of system calls: :meth:`close` takes it out, :meth:`replace` puts another there."""

    def __init__(self, event: str, handler: Handler, indexes: list[int]) -> None:
        self._event, self._indexes, self.handler = event, indexes, handler
        self._before = _dispatchers[event].misses()

    @property
    def fd(self) -> int:
        """The descriptor of what keeps the dispatcher attached."""
        return _dispatchers[self._event].descriptor

    def misses(self) -> int:
        """Return how often the kernel skipped the hook since, because it was running on that CPU already."""
        return _dispatchers[self._event].misses() - self._before

    def replace(self, new: Handler) -> None:
        """Put another handler here, for the calls that its section names.

        Raises :class:`KernelError`, and the old one goes on then.
        """
        at = indexes(new.section) if new.section else self._indexes
        _dispatchers[self._event].replace(self.handler, new, self._indexes, at)
        self.handler, self._indexes = new, at

    def close(self) -> None:
        """Take the handler out; with the last of them the dispatcher leaves the hook."""
        _dispatchers[self._event].remove(self.handler, self._indexes)
        _leave(self._event)


def is_of_calls(section: str) -> bool:
    """Tell whether a section is one of ``eunomia/syscall.h``."""
    return section.partition("/")[0] in _EVENTS


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


def indexes(section: str) -> list[int]:
    """Return the indexes of all calls that a section wants; none where it wants any call."""
    return sorted({index for each in calls(section).values() for index in each})


def attach(section: str, handler: Handler) -> CallLink:
    """Have a handler called for what its section wants; raises :class:`KernelError`, and leaves nothing then."""
    return attach_at(_EVENTS[section.partition("/")[0]], handler, indexes(section))


def attach_at(event: str, handler: Handler, at: list[int]) -> CallLink:
    """Have a handler called where calls of some indexes begin or end, of any where there are none."""
    if event not in _dispatchers:
        _dispatchers[event] = Dispatcher(event)
    try:
        _dispatchers[event].insert(handler, at)
    except BaseException:
        _leave(event)
        raise
    return CallLink(event, handler, at)


def _leave(event: str) -> None:
    if not _dispatchers[event].is_used:
        _dispatchers.pop(event).close()
