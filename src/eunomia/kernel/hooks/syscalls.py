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
        """Put another handler here; raises :class:`KernelError`, and the old one goes on then."""
        _dispatchers[self._event].replace(self.handler, new, self._indexes)
        self.handler = new

    def close(self) -> None:
        """Take the handler out; with the last of them the dispatcher leaves the hook."""
        _dispatchers[self._event].remove(self.handler, self._indexes)
        _leave(self._event)


def is_of_calls(section: str) -> bool:
    """Tell whether a section is one of ``eunomia/syscall.h``."""
    return section.partition("/")[0] in _EVENTS


def calls(section: str) -> dict[str, list[int]]:
    """Return the names of the calls that a section wants, with their indexes; none where it wants any call.

    ``syscall_exit/open:2,5,2 openat:257,295,257`` has of each call the number by the native ABI, by the 32-bit one,
    and by x32, with a ``-`` where it has none. Raises :class:`BadObject`.
    """
    found: dict[str, list[int]] = {}
    for word in section.partition("/")[2].split():
        name, _, numbers = word.partition(":")
        each = numbers.split(",")
        try:
            found[name] = [base + int(n) for base, n in zip((NATIVE, COMPAT, X32), each, strict=True) if n != "-"]
        except ValueError:
            raise BadObject(f"section {section}: {word} is not NAME:NATIVE,COMPAT,X32") from None
        if any(not n.isdigit() or int(n) >= NUMBERS for n in each if n != "-"):
            raise BadObject(f"section {section}: {word} has a number above {NUMBERS - 1}")
    return found


def attach(section: str, handler: Handler) -> CallLink:
    """Have a handler called for what its section wants; raises :class:`KernelError`, and leaves nothing then."""
    event = _EVENTS[section.partition("/")[0]]
    indexes = sorted({index for each in calls(section).values() for index in each})
    if event not in _dispatchers:
        _dispatchers[event] = Dispatcher(event)
    try:
        _dispatchers[event].insert(handler, indexes)
    except BaseException:
        _leave(event)
        raise
    return CallLink(event, handler, indexes)


def _leave(event: str) -> None:
    if not _dispatchers[event].is_used:
        _dispatchers.pop(event).close()
