# SPDX-License-Identifier: BSD-2-Clause
"""The handlers of one slot: each ends by a tail call to the next, through a table of its own.

So a chain is a linked list in the kernel: the slot holds the first handler, ``next[index]`` of each the one after it.
Each change is one store that programs see, after what it leads to was made ready: an event that is under way goes
through the old list or the new one.
"""

from __future__ import annotations

from collections.abc import Callable

from eunomia.kernel.errors import KernelError
from eunomia.kernel.hooks.table import put
from eunomia.typing import NamedTuple

LIMIT = 32  # the kernel follows 33 tail calls


class TooManyHandlers(KernelError):
    """A hook has as many handlers as the kernel follows tail calls."""


class Handler(NamedTuple):
    """A loaded program that ends by a tail call: its descriptor, that of the table it calls into, and its section."""

    program: int
    next: int
    section: str = ""


class Chain:
    """The handlers of slot ``index`` of a table, in their order."""

    def __init__(
        self, table: int, index: int, name: str, *, limit: int = LIMIT, store: Callable[[int, int, int], None] = put
    ) -> None:
        """``name`` is what errors call it; ``store`` puts a program in a slot."""
        self.handlers: list[Handler] = []
        self._table, self._index, self._name = table, index, name
        self._limit, self._store = limit, store
        self._end = -1

    def insert(self, handler: Handler) -> None:
        """Have a handler called after all others. Raises :class:`TooManyHandlers`."""
        if len(self.handlers) >= self._limit:
            raise TooManyHandlers(f"{self._name} has {self._limit} handlers, and the kernel calls no more in a row")
        self._store(handler.next, self._index, self._end)
        self._link(len(self.handlers), handler.program)
        self.handlers.append(handler)

    def remove(self, handler: Handler) -> None:
        """Have a handler not called any more. What it calls next stays as it is, for those who are in it."""
        at = self.handlers.index(handler)
        self._link(at, self._after(at))
        del self.handlers[at]

    def replace(self, old: Handler, new: Handler) -> None:
        """Have another handler called in the place of one: each event meets one of the two."""
        at = self.handlers.index(old)
        self._store(new.next, self._index, self._after(at))
        self._link(at, new.program)
        self.handlers[at] = new

    def end(self, program: int) -> None:
        """Say what is called after the last handler; -1 for nothing."""
        self._end = program
        self._link(len(self.handlers), program)

    def _after(self, at: int) -> int:
        return self.handlers[at + 1].program if at + 1 < len(self.handlers) else self._end

    def _link(self, at: int, program: int) -> None:
        """Have what comes before place ``at`` call a program."""
        self._store(self.handlers[at - 1].next if at else self._table, self._index, program)
