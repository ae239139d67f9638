# SPDX-License-Identifier: BSD-2-Clause
"""Tests whether a program counts numbers by their highest bit in an array, as histograms of powers of two do.

The instructions up to the increment of the array are interpreted here, with test values in
place of a number that they use. If each value leads to the element of its highest bit, the array
counts powers of two. Log2 can be written in many ways, and all of them do that; nothing else does.
"""

from __future__ import annotations

import operator
import sys
from collections import deque
from collections.abc import Callable, Iterator

from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.foreign.bytecode import Instruction, Walk

# 1000 first: most numbers in a program are not the counted one, and fail with it. Not 1: compilers
# may handle it earlier, for example by comparing a time with 2000 before it is divided by 1000.
_TRIED = (1000, 2, 3, 5, 9, 100, 5000, 0xFFFF, 0x10000, (1 << 20) + 5, (1 << 30) + 77)
_STEPS = 400  # of one run: a loop over 63 bits takes 250
_ALL = 150_000  # of all runs for an object, some tenths of a second

_MASK, _HALF = (1 << 64) - 1, (1 << 32) - 1
_LOOKUPS = frozenset({1, 89, 107, 145, 156, 195, 210})  # helpers that return a map's value
# Addresses: the number of their region, and from bit 0 the offset in it.
_VALUE, _MAP, _DATA, _FRAME, _OTHER = (kind << 56 for kind in range(1, 6))
_NUMBER = 36  # bits of the distance


class _Start(NamedTuple):
    """Where to begin, and the register to set; ``known`` is where the walk has the values of the others.

    That is before the instruction that sets it: after it a loop may begin, of which the walk has joined the rounds.
    """

    at: tuple[str, int]
    known: tuple[str, int]
    register: int


class _Machine:
    """The state of an interpreted run."""

    def __init__(self, start: tuple[str, int], registers: list[int]) -> None:
        self.where, self.pc = start
        self.registers = registers
        self.memory: dict[int, int] = {}
        self._frames: list[tuple[str, int, list[int]]] = []

    def enter(self, target: tuple[str, int]) -> bool:
        """Enter a function; return whether the depth of calls allows it."""
        self._frames.append((self.where, self.pc, self.registers[6:]))
        self.registers[10] += 1 << 10
        self.where, self.pc = target
        return len(self._frames) <= 8

    def leave(self) -> bool:
        """Leave a function; return whether it has a caller."""
        if not self._frames:
            return False
        self.where, self.pc, saved = self._frames.pop()
        self.registers[6:] = saved
        return True


class Tries:
    """Interprets pieces of an object's code."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._names: list[str] = []
        self._left = _ALL
        self._before: dict[tuple[str, int], list[tuple[str, int]]] = {}

    def counts(self, name: str, offset: int, size: int, count: int) -> str:
        """Return the function that counts numbers by their highest bits in an array, empty if there is none.

        ``name`` is the map or the section of globals, ``offset`` the beginning in its value of the array of
        ``count`` elements of ``size`` bytes.
        """
        for place in sorted(self._walk.adding.get(name, ())):
            for start in self._numbers(place):
                if self._left <= 0:
                    return ""
                if self._is_log2(start, place, name, (offset, size, count)):
                    return self._function(place)
        return ""

    def _is_log2(self, start: _Start, place: tuple[str, int], name: str, array: tuple[int, int, int]) -> bool:
        offset, size, count = array
        for number in _TRIED:
            at = self._run(start, number, place)
            expected = min(number.bit_length() - 1, count - 1)
            if at is None and expected == count - 1:
                continue  # what is greater is not counted
            if at is None or at != self._address(name, offset + size * expected):
                return False
        return True

    def _function(self, place: tuple[str, int]) -> str:
        where, pc = place
        before = [(at, n) for (section, at), n in self._walk.functions.items() if section == where and at <= pc]
        return max(before)[1] if before else where

    # Candidates for the counted number

    def _numbers(self, place: tuple[str, int]) -> Iterator[_Start]:
        """Yield the instructions that produce numbers, the nearest to the place first."""
        before = self._predecessors()
        seen, ready = {place}, deque([place])
        while ready:
            at = ready.popleft()
            where, pc = at
            if at in self._entries:
                yield from (_Start(at, at, register) for register in range(1, 6))
            for one in before.get(at, ()):
                instruction = self._walk.code[one[0]][one[1]]
                if one[0] == where and one[1] < pc and (register := _written(instruction)) is not None:
                    yield _Start(at, one, register)
                if one not in seen:
                    seen.add(one)
                    ready.append(one)

    def _predecessors(self) -> dict[tuple[str, int], list[tuple[str, int]]]:
        if not self._before:
            self._entries = set(self._walk.functions)
            for where, code in self._walk.code.items():
                for pc, at in enumerate(code):
                    for after in self._following(where, pc, at):
                        self._before.setdefault(after, []).append((where, pc))
        return self._before

    def _following(self, where: str, pc: int, at: Instruction) -> Iterator[tuple[str, int]]:
        if at.code == 0x95:
            return
        if at.code & 7 in (5, 6) and at.code & 0xF0 not in (0x80, 0x90):
            yield where, pc + 1 + (at.number if at.code == 0x06 else at.offset)
            if at.code in (0x05, 0x06):
                return
        if at.code == 0x85 and at.source == 1:
            yield self._walk.target(where, pc, at)
        yield where, pc + (2 if at.code == 0x18 else 1)

    # Interpretation

    def _address(self, name: str, distance: int) -> int:
        kind = _DATA if name.startswith(".") else _VALUE
        return (kind | self._number(name) << _NUMBER) + distance

    def _number(self, name: str) -> int:
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    def _begin(self, start: tuple[str, int]) -> list[int]:
        """Return the registers as far as the walk knows them; unknown ones get values that are not addresses."""
        registers = [_OTHER + (r << 40) + 0x1000 for r in range(10)] + [_FRAME + (1 << 20)]
        known = self._walk.registers(*start)
        for register, value in enumerate(known or ()):
            if not value:
                continue
            kind, name, number = min(value)
            if kind == "const":
                registers[register] = number
            elif kind == "frame":
                registers[register] = registers[10] + number
            elif kind in ("value", "data") and number < 1 << 32:
                registers[register] = self._address(name, number)
            elif kind == "map":
                registers[register] = _MAP | self._number(name) << _NUMBER
        return registers

    def _run(self, start: _Start, number: int, goal: tuple[str, int]) -> int | None:
        """Return the address that a program increments, given a number; None if it does not get there."""
        state = _Machine(start.at, self._begin(start.known))
        state.registers[start.register] = number
        for _ in range(_STEPS):
            self._left -= 1
            code = self._walk.code.get(state.where, ())
            if not 0 <= state.pc < len(code):
                return None
            at = code[state.pc]
            if (state.where, state.pc) == goal:
                return (state.registers[at.to] + at.offset) & _MASK
            if not self._step(state, at):
                return None
        return None

    def _step(self, state: _Machine, at: Instruction) -> bool:
        """Execute an instruction; return whether to continue."""
        registers, kind, here = state.registers, at.code & 7, state.pc
        state.pc += 1
        if at.code == 0x18:
            registers[at.to] = self._constant(state.where, here, at)
            state.pc += 1
        elif kind in (4, 7):
            result = _calculated(at, registers[at.to], registers[at.source])
            registers[at.to] = result or 0
            return result is not None
        elif kind == 1:
            registers[at.to] = _loaded(state.memory, registers[at.source] + at.offset, at)
        elif kind in (2, 3):
            _stored(state.memory, registers, at)
        elif at.code in (0x85, 0x95):
            return self._call(state, at, here) if at.code == 0x85 else state.leave()
        elif kind in (5, 6):
            if _jumps(at, registers[at.to], registers[at.source]):
                state.pc += at.number if at.code == 0x06 else at.offset
        else:
            return False
        return True

    def _call(self, state: _Machine, at: Instruction, here: int) -> bool:
        registers = state.registers
        if at.source == 1:
            return state.enter(self._walk.target(state.where, here, at))
        is_map = at.source == 0 and at.number in _LOOKUPS and registers[1] & ~((1 << 56) - 1) == _MAP
        registers[0] = _VALUE | (registers[1] & ((1 << 56) - 1)) if is_map else 0
        registers[1:6] = [0] * 5
        return True

    def _constant(self, where: str, pc: int, at: Instruction) -> int:
        value = self._walk.immediate(where, pc, at)
        if not value:
            return _OTHER
        kind, name, number = min(value)
        if kind == "map":
            return _MAP | self._number(name) << _NUMBER
        return self._address(name, number) if kind == "data" else number


def _written(at: Instruction) -> int | None:
    """Return the register that an instruction sets to a value that is not constant."""
    if at.code == 0x85:
        return 0
    is_constant = at.code & 7 in (4, 7) and at.code & 0xF8 == 0xB0
    return at.to if at.code & 7 in (1, 4, 7) and not is_constant else None


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> (bits - 1) else number


# By the operation, without its bit for 32 or 64: its result for two numbers of so many bits.
_OPERATIONS: dict[int, Callable[[int, int, int], int]] = {
    0x00: lambda a, b, _: a + b,
    0x10: lambda a, b, _: a - b,
    0x20: lambda a, b, _: a * b,
    0x30: lambda a, b, _: a // b if b else 0,
    0x40: lambda a, b, _: a | b,
    0x50: lambda a, b, _: a & b,
    0x60: lambda a, b, bits: a << (b & (bits - 1)),
    0x70: lambda a, b, bits: a >> (b & (bits - 1)),
    0x80: lambda a, _b, _: -a,
    0x90: lambda a, b, _: a % b if b else a,
    0xA0: lambda a, b, _: a ^ b,
    0xC0: lambda a, b, bits: _signed(a, bits) >> (b & (bits - 1)),
}
_COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    0x10: operator.eq, 0x20: operator.gt, 0x30: operator.ge, 0x40: lambda a, b: bool(a & b), 0x50: operator.ne,
    0x60: operator.gt, 0x70: operator.ge, 0xA0: operator.lt, 0xB0: operator.le, 0xC0: operator.lt, 0xD0: operator.le,
}  # fmt: skip
_SIGNED = frozenset({0x60, 0x70, 0xC0, 0xD0})


def _calculated(at: Instruction, left: int, right: int) -> int | None:
    """Return the result of an operation; None for an unknown one."""
    bits = 64 if at.code & 7 == 7 else 32
    mask = _MASK if bits == 64 else _HALF
    if not at.code & 8:
        right = at.number & _MASK
    left, right, operation = left & mask, right & mask, at.code & 0xF0
    if operation == 0xB0:
        return (_signed(right & ((1 << at.offset) - 1), at.offset) if at.offset else right) & mask
    if operation in (0x30, 0x90) and at.offset:
        left, right = _signed(left, bits), _signed(right, bits)
        whole = abs(left) // abs(right) if right else 0
        whole = -whole if (left < 0) != (right < 0) else whole
        return (whole if operation == 0x30 else left - whole * right) & mask
    calculate = _OPERATIONS.get(operation)
    return calculate(left, right, bits) & mask if calculate else None


def _jumps(at: Instruction, left: int, right: int) -> bool:
    bits = 64 if at.code & 7 == 5 else 32
    mask = _MASK if bits == 64 else _HALF
    if at.code in (0x05, 0x06):
        return True
    if not at.code & 8:
        right = at.number & _MASK
    left, right, operation = left & mask, right & mask, at.code & 0xF0
    if operation in _SIGNED:
        left, right = _signed(left, bits), _signed(right, bits)
    compare = _COMPARISONS.get(operation)
    return compare is not None and compare(left, right)


_WIDTHS = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


def _loaded(memory: dict[int, int], address: int, at: Instruction) -> int:
    """Return the content of memory, 0 if it was not written."""
    width = _WIDTHS[at.code & 0x18]
    number = int.from_bytes((memory.get((address + i) & _MASK, 0) for i in range(width)), sys.byteorder)
    return _signed(number, 8 * width) & _MASK if at.code & 0xE0 == 0x80 else number


def _stored(memory: dict[int, int], registers: list[int], at: Instruction) -> None:
    width, address = _WIDTHS[at.code & 0x18], registers[at.to] + at.offset
    if at.code & 0xE0 == 0xC0:
        if at.number & 1:  # the previous content
            registers[0 if at.number == 0xF1 else at.source] = 0
        return
    number = (registers[at.source] if at.code & 7 == 3 else at.number) & ((1 << 8 * width) - 1)
    for i, byte in enumerate(number.to_bytes(width, sys.byteorder)):
        memory[(address + i) & _MASK] = byte
