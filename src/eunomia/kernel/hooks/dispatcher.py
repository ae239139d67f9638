# SPDX-License-Identifier: BSD-2-Clause
"""The one program on all system calls: it looks the number up, and calls the handlers of those that are wanted.

A call that nobody wants costs a look at one byte. Of the others the ABI is asked for, and the handler is in a table by
number: native ones first, then those of the 32-bit ABI, then those of x32. Handlers of any call come before these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from eunomia.kernel.errors import Unsupported
from eunomia.kernel.hooks import code, table
from eunomia.kernel.hooks.chain import Chain, Handler
from eunomia.kernel.hooks.place import Place
from eunomia.kernel.libbpf import ffi, lib

Calls = Mapping[str, list[int]]  # indexes by name; none stand for any call

NUMBERS = 1024  # of each ABI
NATIVE, COMPAT, X32 = 0, NUMBERS, 2 * NUMBERS
_X32_BIT = 30
_MOST_ANY, _MOST = 8, 23  # handlers; with the tail call between the two they are 32
_WANTED = NUMBERS  # in the state: whether handlers of any call are there
_STATE = NUMBERS + 8


class Dispatcher:
    """Of system calls that begin (``sys_enter``) or end (``sys_exit``); attached from the first handler to the last."""

    def __init__(self, event: str) -> None:
        """Load it; raises :class:`KernelError`, and leaves nothing then."""
        self._place = Place("tp_btf", event)
        self._link = self._state = self._table = self._first = self._root = self._numbered = -1
        self._wanted = bytearray(_STATE)
        self._chains: dict[int, Chain] = {}
        try:
            self._state = table.array(event, bytes(_STATE))
            self._table = table.table(event, 3 * NUMBERS)
            self._first = table.table(f"{event}_any", 1)
            by_number = self._by_number()
            self._numbered = self._place.load(f"eu_{event}_nr", code.move(6, 1) + by_number)
            state = code.map_value(9, self._state)
            any_ = code.number(3, 0) + code.map_(2, self._first) + code.call(code.TAIL_CALL)
            any_ = state + code.load(1, 0, 9, _WANTED) + code.jump_if(0, "==", 0, any_)
            self._root = self._place.load(f"eu_{event}", code.move(6, 1) + any_ + by_number)
        except BaseException:
            self.close()
            raise
        self.any = Chain(self._first, 0, f"{event}: any system call", limit=_MOST_ANY)

    def _by_number(self) -> bytes:
        """Return code that calls what is in the table; register 6 is the context."""
        number_at, flags_at, flag, shift = _layout()
        call = code.call(code.GET_CURRENT_TASK_BTF) + code.load(4, 3, 0, flags_at)
        call += code.compute(3, ">>", flag) + code.compute(3, "&", 1) + code.compute(3, "<<", shift)
        call += code.compute(7, ">>", _X32_BIT) + code.compute(7, "&", 1) + code.compute(7, "<<", shift + 1)
        call += code.add(3, 8) + code.add(3, 7)
        call += code.move(1, 6) + code.map_(2, self._table) + code.call(code.TAIL_CALL)
        look = code.map_value(9, self._state) + code.add(9, 8) + code.load(1, 0, 9, 0)
        look += code.jump_if(0, "==", 0, call)
        begin = code.load(8, 2, 6, 0) + code.load(4, 7, 2, number_at)
        begin += code.move_half(8, 7) + code.compute(8, "&", ~(1 << _X32_BIT))
        return begin + code.jump_if(8, ">", NUMBERS - 1, look) + code.EXIT

    @property
    def descriptor(self) -> int:
        """Of what keeps it attached."""
        return self._link

    @property
    def is_used(self) -> bool:
        """Whether there is a handler."""
        return bool(self._chains or self.any.handlers)

    def misses(self) -> int:
        """Return how often the kernel skipped it because it was running on that CPU already."""
        out = ffi.new("uint64_t *")
        return int(out[0]) if not lib.eu_recursion_misses(self._root, out) else 0

    def insert(self, handler: Handler, calls: Calls) -> None:
        """Have a handler called for some calls, for any where none is named, after those that are there.

        Raises :class:`KernelError`, and nothing of it is left then.
        """
        done: list[int] = []
        indexes = _indexes(calls)
        try:
            if not indexes:
                self.any.insert(handler)
            for index in indexes:
                chain = self._chains.get(index)
                if chain is None:
                    chain = self._chains[index] = Chain(self._table, index, f"system call {index}", limit=_MOST)
                done.append(index)
                chain.insert(handler)
            self._tell()
            if self._link < 0:
                self._link = self._place.attach(self._root)
        except BaseException:
            self._remove(handler, done)
            raise

    def remove(self, handler: Handler, calls: Calls) -> None:
        """Have a handler not called any more."""
        self._remove(handler, _indexes(calls))

    def _remove(self, handler: Handler, indexes: list[int]) -> None:
        if handler in self.any.handlers and not indexes:
            self.any.remove(handler)
        for index in indexes:
            chain = self._chains[index]
            if handler in chain.handlers:
                chain.remove(handler)
            if not chain.handlers:
                del self._chains[index]
        self._tell()

    def replace(self, old: Handler, new: Handler, calls: Calls) -> None:
        """Have another handler called in the place of one: each call meets one of the two."""
        if not calls:
            self.any.replace(old, new)
        for index in _indexes(calls):
            self._chains[index].replace(old, new)

    def _tell(self) -> None:
        """Have the program know which numbers are wanted."""
        self.any.end(self._numbered if self._chains and self.any.handlers else -1)
        wanted = bytearray(_STATE)
        for index in self._chains:
            wanted[index % NUMBERS] = 1
        wanted[_WANTED] = bool(self.any.handlers)
        if wanted != self._wanted:
            table.write(self._state, bytes(wanted))
            self._wanted = wanted

    def close(self) -> None:
        """Take it off its hook and free it."""
        for fd in (self._link, self._root, self._numbered, self._first, self._table, self._state):
            if fd >= 0:
                os.close(fd)
        self._link = self._root = self._numbered = self._first = self._table = self._state = -1


def _indexes(calls: Calls) -> list[int]:
    return sorted({index for indexes in calls.values() for index in indexes})


_known: list[tuple[int, int, int, int]] = []


def _layout() -> tuple[int, int, int, int]:
    """Return where the number stands in ``pt_regs``, and in a task what says that its call is by the 32-bit ABI.

    That is an offset, a bit there, and the shift that makes the index of it. Raises :class:`Unsupported`.
    """
    if not _known:
        x86 = os.uname().machine == "x86_64"
        number = lib.eu_kernel_member(b"pt_regs", b"orig_ax" if x86 else b"syscallno")
        info = lib.eu_kernel_member(b"task_struct", b"thread_info")
        flags = lib.eu_kernel_member(b"thread_info", b"status" if x86 else b"flags")
        if min(number, info, flags) < 0:
            raise Unsupported("system calls by number: the kernel's BTF has no pt_regs, or no thread_info in its tasks")
        # TS_COMPAT, TIF_32BIT
        _known.append((number, info + flags, 1 if x86 else 22, NUMBERS.bit_length() - 1))
    return _known[0]
