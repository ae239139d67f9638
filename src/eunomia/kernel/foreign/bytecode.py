# SPDX-License-Identifier: BSD-2-Clause
"""Analyses how a BPF program uses its maps: the sizes it sends and the helpers it calls.

Each function is walked once for each set of arguments. Every register and stack slot has the few values
that it can have there (a constant, a map, a value of a map, a place on the stack or among the
globals), or is unknown. Constants matter because they are the sizes of events.
"""

from __future__ import annotations

import operator
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from eunomia.kernel.elf import Image, image
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.foreign.highest_bit import Tries

_MANY = 8  # different values in one place; with more it is unknown
_STEPS = 25_000  # instructions, half a second, after which the walk ends with what it has found
_SLOTS = 64  # known places in memory that make a step cost as much as another
_DEPTH = 8  # calls within calls, as in the kernel

_RESERVE, _DYNPTR, _RING_OUTPUT, _SUBMIT = 131, 198, 130, 132
_SEQ_WRITE, _SEQ_PRINTS = 127, frozenset({126, 150})  # seq_printf, seq_printf_btf
_PERF_OUTPUTS = frozenset({25, 111, 121})  # perf_event_output, skb_output, xdp_output
_LOOKUPS = frozenset({1, 89, 107, 145, 156, 164, 195, 210})  # lookup, peek, *_storage_get, for_each, percpu
_UPDATES = frozenset({2, 87, 107, 145, 156, 210})  # update, push, *_storage_get (which can create)
_DELETES = frozenset({3, 88, 108, 146, 157, 211})  # delete, pop, *_storage_delete
_PRINTS = frozenset({6, 177})  # trace_printk, trace_vprintk
# Helpers that do not write to their arguments' targets.
_READERS = _LOOKUPS | _UPDATES | _DELETES | _PERF_OUTPUTS | {_RING_OUTPUT, _SUBMIT, _SEQ_WRITE}

_STACKS = frozenset({27})  # get_stackid
_USER_STACK = 1 << 8  # BPF_F_USER_STACK

_LOAD_IMMEDIATE, _CALL, _EXIT, _JUMP = 0x18, 0x85, 0x95, 0x05
_FRAME = 10


Marks = Mapping[tuple[int, int], frozenset[int]]


class Output(NamedTuple):
    """One place where a program sends a record; ``size`` in bytes, None if it varies.

    ``functions`` contain the call, the innermost first. If the record is a value of a map or a
    global variable, ``map_value`` or ``variable`` names it; ``reserved`` ones are filled in place.
    ``marks`` are the constants that every such record contains, by offset and size.
    """

    size: int | None
    section: str
    offset: int
    functions: tuple[str, ...] = ()
    map_value: str = ""
    variable: str = ""
    reserved: bool = False
    marks: Marks = MappingProxyType({})


class MapUse(NamedTuple):
    """How programs use one map: calls of helpers on it, and writes to its values.

    A map that is looked up but neither updated nor written to is a setting, filled from outside.
    ``adds``: its values are incremented in place, like counters. ``since``: its values are subtracted
    from something, like the start of a time. ``lent``: its bytes are passed to a helper, like those of a buffer
    in which a record or a key is built.
    Iterators' programs are included: their outputs are what they write by ``bpf_seq_write``, and
    ``prints`` is whether they write text.
    """

    outputs: list[Output]
    deletes: bool = False
    updates: bool = False
    lookups: bool = False
    writes: bool = False
    adds: bool = False
    since: bool = False
    lent: bool = False
    prints: bool = False


class Uses(dict[str, MapUse]):
    """The use of each map, by its name; ``cut`` says that the code was too long to be followed to its end."""

    cut = False


class Walked(NamedTuple):
    """How programs use maps, by name, and globals, by section and offset.

    ``stacks`` are the maps that get stacks, and whether of user space; ``tries`` runs pieces of the code;
    ``whole`` says whether all code was followed.
    """

    maps: Uses
    globals: dict[tuple[str, int], MapUse]
    stacks: set[tuple[str, bool]]
    tries: Tries
    whole: bool


class _Atom(NamedTuple):
    """One value: a constant, a map, or a place in a map's value, a ring's record, the frame or the globals.

    ``number`` is the constant, or the offset in the place.
    """

    kind: str  # const, map, value, record, frame, data; was and more: what was read from a place, and more than that
    name: str = ""
    number: int = 0


_Value = frozenset[_Atom] | None
_Memory = dict[tuple[str, int, int], _Value]  # by its region, offset and width
_State = tuple[list[_Value], _Memory]


class Instruction(NamedTuple):
    """One decoded instruction: ``to`` is ``dst``, ``number`` is ``imm``."""

    code: int
    to: int
    source: int
    offset: int
    number: int


def prints(data: bytes) -> bool:
    """Return whether a program of an object calls ``bpf_trace_printk`` or ``bpf_trace_vprintk``."""
    return any(
        at.code == _CALL and at.source == 0 and at.number in _PRINTS
        for code in image(data).code.values()
        for at in _decode(code.data)
    )


def uses(data: bytes) -> Uses:
    """Return how the programs of an object use each of their maps."""
    return walked(data).maps


def walked(data: bytes) -> Walked:
    """Return the analysis of an object's programs."""
    from eunomia.kernel.foreign.highest_bit import Tries

    walk = Walk(image(data))
    walk.run()
    walk.found.cut = walk.steps >= _STEPS
    return Walked(walk.found, walk.globals, walk.stacks, Tries(walk), not walk.found.cut)


def constants(marks: Marks, offset: int, size: int) -> frozenset[int] | None:
    """Return the numbers that a record has at an offset; None if that is not known."""
    for (start, width), numbers in marks.items():
        if start <= offset and offset + size <= start + width:
            skipped = offset - start if sys.byteorder == "little" else start + width - offset - size
            return frozenset(n >> 8 * skipped & ((1 << 8 * size) - 1) for n in numbers)
    return None


def _const(number: int) -> _Value:
    return frozenset({_Atom("const", number=number & 0xFFFFFFFFFFFFFFFF)})


def _numbers(value: _Value) -> list[int] | None:
    if value is None or any(a.kind != "const" for a in value):
        return None
    return sorted(a.number for a in value)


def _join(one: _Value, other: _Value) -> _Value:
    if one == other:
        return one
    if one is None or other is None:
        return None
    both = one | other
    if len(both) <= _MANY:
        return both
    places = frozenset(_Atom("value", a.name, _SOMEWHERE) for a in both if a.kind == "value")
    return places if len(places) == len({(a.kind, a.name) for a in both}) else None


class Walk:
    """Follows all code of an object.

    ``adding`` has, by map and section of globals, the instructions that add to varying places in it.
    """

    def __init__(self, obj: Image) -> None:
        self.found = Uses()
        self.globals: dict[tuple[str, int], MapUse] = {}
        self.stacks: set[tuple[str, bool]] = set()
        self.filled: dict[str, list[Marks]] = {}  # the content of ring records when they are submitted
        self.image = obj
        self.code = {name: _decode(code.data) for name, code in obj.code.items()}
        self.places = {(s.section, s.offset): s.name for s in obj.symbols if s.kind == "OBJECT"}
        functions = [s for s in obj.symbols if s.kind == "FUNC" and s.section in self.code]
        self.functions = {(s.section, s.offset // 8): s.name for s in functions}
        self.walked: set[tuple[object, ...]] = set()
        self.entered: set[tuple[str, int]] = set()
        self.adding: dict[str, set[tuple[str, int]]] = {}
        self._states: dict[str, list[dict[tuple[int, object], _State]]] = {}
        self.steps = 0

    def run(self) -> None:
        """Walk every function; those of .text last, because programs determine their arguments."""
        unknown: tuple[_Value, ...] = (None,) * 5
        for (where, start), name in sorted(self.functions.items(), key=lambda f: f[0][0] == ".text"):
            if where != ".text" or (where, start) not in self.entered:
                self.function(where, start, unknown, (name,))
        for use in self.found.values():
            for i, output in enumerate(use.outputs):
                filled = self.filled.get(_record(output.section, output.offset // 8))
                if output.reserved and filled:
                    use.outputs[i] = output._replace(marks=_common(filled))

    def function(self, where: str, start: int, given: tuple[_Value, ...], chain: tuple[str, ...]) -> None:
        """Follow all paths through a function, then note the arguments of its calls."""
        key = (where, start, given)
        if key in self.walked:
            return
        self.walked.add(key)
        self.entered.add((where, start))
        regs: list[_Value] = [None, *given, None, None, None, None, frozenset({_Atom("frame")})]
        calls: dict[tuple[int, object], _State] = {}
        # States with different maps in registers are kept apart, so that a size stays with its map.
        states: dict[tuple[int, object], _State] = {}
        ready: list[tuple[int, object]] = []

        def arrive(pc: int, state: _State) -> None:
            if not 0 <= pc < len(code):
                return
            place = (pc, tuple(v if v and any(a.kind == "map" for a in v) else None for v in state[0]))
            old = states.get(place)
            new = state if old is None else _merge(old, state)
            if old is None or new != old:
                states[place] = new
                ready.append(place)

        code = self.code[where]
        self._states.setdefault(where, []).append(states)
        arrive(start, (regs, {}))
        while ready and self.steps < _STEPS:
            place = ready.pop()
            pc = place[0]
            at, state = code[pc], states[place]
            self.steps += 1 + len(state[1]) // _SLOTS
            if at.code == _CALL:
                calls[place] = state
            elif at.code == _EXIT:
                continue
            for target, after in self.step(where, pc, at, (list(state[0]), dict(state[1]))):
                arrive(target, after)
        for (pc, _), passed in calls.items():
            self.call(where, pc, passed, chain)

    def step(self, where: str, pc: int, at: Instruction, state: _State) -> Iterator[tuple[int, _State]]:
        """Yield the next instructions and their states; it may change ``state``."""
        regs, stack = state
        kind = at.code & 7
        if at.code == _LOAD_IMMEDIATE:
            regs[at.to] = self.immediate(where, pc, at)
            yield pc + 2, state
            return
        if at.code == _CALL:
            self.returned(where, pc, at, state)
        elif kind in (5, 6):
            jump = at.number if at.code == 0x06 else at.offset  # gotol has its distance in ``number``
            yield pc + 1 + jump, state if at.code in (_JUMP, 0x06) else (list(regs), dict(stack))
            if at.code in (_JUMP, 0x06):
                return
        elif kind in (4, 7):
            if at.code & 0xF8 == 0x18:  # a register subtracted
                self.note(regs[at.source], "was", since=True)
            regs[at.to] = _arithmetic(at, regs[at.to], regs[at.source])
        elif kind == 1:
            regs[at.to] = _load(at, regs[at.source], stack)
        elif kind in (2, 3):
            self.stored((where, pc), at, regs)
            _store(at, state)
        else:
            regs[0] = None  # LD_ABS and LD_IND
        yield pc + 1, state

    def returned(self, where: str, pc: int, at: Instruction, state: _State) -> None:
        """Change a state to what it is after a call of a helper or a function."""
        regs, memory = state
        if at.source == 0 and at.number not in _READERS:
            for passed in regs[1:6]:
                self.written(passed)
        _forget_written(at, state)
        result: _Value = None
        if at.source == 0 and at.number in _LOOKUPS and regs[1] is not None:
            result = frozenset(_Atom("value", a.name) for a in regs[1] if a.kind == "map") or None
        elif at.source == 0 and at.number == _RESERVE:
            result = frozenset({_Atom("record", _record(where, pc))})
            _forget(memory, _record(where, pc), 0, 1 << 32)
        regs[:6] = [result, None, None, None, None, None]

    def written(self, place: _Value) -> None:
        """Note that something is written to a place."""
        self.note(place, "value", writes=True)
        self.note(place, "data", writes=True)

    def registers(self, where: str, pc: int) -> list[_Value] | None:
        """Return the possible values of registers before an instruction; None if the walk did not reach it."""
        for states in self._states.get(where, ()):
            for (at, _), state in states.items():
                if at == pc:
                    return state[0]
        return None

    def stored(self, here: tuple[str, int], at: Instruction, regs: list[_Value]) -> None:
        """Note a store to a map's value or a global, and whether it adds to it."""
        place = _shifted(regs[at.to], at.offset)
        self.written(place)
        if at.code & 7 == 3 and at.code & 0xE0 == 0xC0:
            adds = at.number & ~1 == 0
        else:
            value = (regs[at.source] if at.code & 7 == 3 else None) or ()
            more = {(a.name, a.number) for a in value if a.kind == "more"}
            adds = bool(place) and all((a.name, a.number) in more for a in place or ())
        if adds:
            self.note(place, "value", adds=True)
            self.note(place, "data", adds=True)
            for atom in place or ():
                if atom.number >= _SOMEWHERE:
                    self.adding.setdefault(atom.name, set()).add(here)

    def note(self, place: _Value, kind: str, **what: Any) -> None:
        """Note a use of the maps or globals that may contain a place."""
        for atom in place or ():
            if atom.kind != kind:
                continue
            if kind == "data" or atom.name.startswith("."):
                where = atom.name, atom.number % _SOMEWHERE
                self.globals[where] = self.globals.get(where, MapUse([]))._replace(**what)
            else:
                self.found[atom.name] = self.found.get(atom.name, MapUse([]))._replace(**what)

    def immediate(self, where: str, pc: int, at: Instruction) -> _Value:
        """Return the value that a 16-byte load puts into its register."""
        symbol = self.image.code[where].relocations.get(pc * 8)
        if symbol is None:
            high = self.code[where][pc + 1].number if pc + 1 < len(self.code[where]) else 0
            return _const((at.number & 0xFFFFFFFF) | (high & 0xFFFFFFFF) << 32) if at.source == 0 else None
        place = symbol.offset + at.number
        name = self.places.get((symbol.section, place), symbol.name)
        if symbol.section in (".maps", "maps"):
            return frozenset({_Atom("map", name)})
        if symbol.section.startswith((".data", ".bss", ".rodata")):
            return frozenset({_Atom("data", symbol.section, place)})
        return None

    def call(self, where: str, pc: int, state: _State, chain: tuple[str, ...]) -> None:
        """Note how a call uses maps; walk into functions of the object."""
        at = self.code[where][pc]
        regs = state[0]
        if at.source == 1:
            section, target = self.target(where, pc, at)
            if section in self.code and len(chain) < _DEPTH:
                name = self.functions.get((section, target), "")
                # Each function has its own frame: pointers into the caller's frame are unknown here.
                given = tuple(
                    None if v and any(a.kind in ("frame", "was", "more") for a in v) else v for v in regs[1:6]
                )
                self.function(section, target, given, (name, *chain))
            return
        if at.source != 0:
            return
        self.sending(at.number, Output(None, where, pc * 8, chain), state)
        if at.number in _STACKS:
            users = [bool(n & _USER_STACK) for n in _numbers(regs[3]) or ()]
            self.stacks.update((name, user) for name in _maps(regs[2]) for user in users)
        for passed in regs[2:6] if at.number in _READERS else ():
            self.note(passed, "value", lent=True)
            self.note(passed, "data", lent=True)
        for name in _maps(regs[1]):
            use = self.found.get(name, MapUse([]))
            self.found[name] = use._replace(
                deletes=use.deletes or at.number in _DELETES,
                updates=use.updates or at.number in _UPDATES,
                lookups=use.lookups or at.number in _LOOKUPS,
            )

    def target(self, where: str, pc: int, at: Instruction) -> tuple[str, int]:
        """Return where the called function begins."""
        symbol = self.image.code[where].relocations.get(pc * 8)
        if symbol is None:
            return where, pc + at.number + 1
        return symbol.section, symbol.offset // 8 + at.number + 1

    def sending(self, helper: int, made: Output, state: _State) -> None:
        """Note the record that a call of a helper sends, if it sends one."""
        regs, memory = state
        chain = made.functions
        if helper in (_RESERVE, _DYNPTR):
            self.output(regs[1], regs[2], None, made._replace(reserved=True))
        elif helper == _RING_OUTPUT:
            self.output(regs[1], regs[3], regs[2], made._replace(marks=_marks(memory, regs[2])))
        elif helper in _PERF_OUTPUTS:
            self.output(regs[2], regs[5], regs[4], made._replace(marks=_marks(memory, regs[4])))
        elif helper == _SUBMIT:
            for atom in regs[1] or ():
                if atom.kind == "record":
                    self.filled.setdefault(atom.name, []).append(_marks(memory, frozenset({atom})))
        elif helper == _SEQ_WRITE:
            program = frozenset({_Atom("map", chain[-1])})
            self.output(program, regs[3], regs[2], made._replace(marks=_marks(memory, regs[2])))
        elif helper in _SEQ_PRINTS:
            self.found[chain[-1]] = self.found.get(chain[-1], MapUse([]))._replace(prints=True)

    def output(self, to: _Value, size: _Value, record: _Value, made: Output) -> None:
        """Note a call that sends, for each possible map and size."""
        if record is not None and len(record) == 1:
            (source,) = record
            if source.kind == "value" and source.number == 0:
                made = made._replace(map_value=source.name)
            elif source.kind == "data":
                made = made._replace(variable=self.places.get((source.name, source.number), ""))
        for name in _maps(to):
            outputs = self.found.setdefault(name, MapUse([])).outputs
            numbers = _numbers(size)
            for one in [made] if not numbers else [made._replace(size=n & 0xFFFFFFFF) for n in numbers]:
                if one not in outputs:
                    outputs.append(one)


def _record(where: str, pc: int) -> str:
    return f"{where}:{pc}"


def _marks(memory: _Memory, record: _Value) -> Marks:
    """Return the constants in memory from the start of a record."""
    place = _place(record, 0)
    if place is None:
        return {}
    base, start = place
    found = {}
    for (of, offset, width), value in memory.items():
        numbers = _numbers(value)
        if of == base and offset >= start and numbers is not None:
            found[offset - start, width] = frozenset(numbers)
    return found


def _common(filled: list[Marks]) -> Marks:
    """Return the constants that are known at every submit."""
    first, *others = filled
    both = {k: v.union(*[o[k] for o in others]) for k, v in first.items() if all(k in o for o in others)}
    return {k: v for k, v in both.items() if len(v) <= _MANY}


def _maps(value: _Value) -> list[str]:
    """Return the maps that a value can be; the result of a look-up counts as its outer map."""
    return sorted({a.name for a in value or () if a.kind in ("map", "value")})


def _decode(data: bytes) -> list[Instruction]:
    out = []
    little = sys.byteorder == "little"
    for code, regs, offset, number in struct.iter_unpack("=BBhi", data[: len(data) // 8 * 8]):
        low, high = regs & 15, regs >> 4
        to, source = (low, high) if little else (high, low)
        out.append(Instruction(code, min(to, _FRAME), min(source, _FRAME), offset, number))
    return out


def _merge(one: _State, other: _State) -> _State:
    regs = [_join(a, b) for a, b in zip(one[0], other[0], strict=True)]
    memory = {k: _join(v, other[1][k]) for k, v in one[1].items() if k in other[1]}
    return regs, {k: v for k, v in memory.items() if v is not None}


def _arithmetic(at: Instruction, old: _Value, right: _Value) -> _Value:
    """Return a register's value after an operation; unknown unless both operands are known."""
    operation, wide = at.code & 0xF0, at.code & 7 == 7
    if not at.code & 8:
        right = _const(at.number)
    if operation == 0xB0:
        if at.offset or (right is not None and not wide and any(a.kind != "const" for a in right)):
            return None  # a sign-extending move, or half of an address
        return right if wide else _each(right, lambda a: a & 0xFFFFFFFF)
    if operation in (0x00, 0x10) and wide and (_places(old) or (operation == 0x00 and _places(right))):
        return _moved(old, right, -1 if operation else 1)
    if operation in (0x00, 0x10) and (more := _more(old) or (_more(right) if operation == 0 else None)):
        return more
    if old is None or right is None or len(right) != 1:
        return None
    (by,) = right
    if by.kind != "const":
        return None
    number = by.number
    mask = 0xFFFFFFFFFFFFFFFF if wide else 0xFFFFFFFF
    change = _OPERATIONS.get(operation)
    return _each(old, lambda a: change(a & mask, number & mask) & mask) if change else None


def _more(value: _Value) -> _Value:
    """Return the value of a number that was read from a place, after something is added to it."""
    return frozenset(a._replace(kind="more") for a in value or () if a.kind in ("was", "more")) or None


def _shifted(place: _Value, offset: int) -> _Value:
    """Return places in values and globals, moved by an instruction's offset."""
    return frozenset(a._replace(number=a.number + offset) for a in place or () if a.kind in ("value", "data")) or None


_SOMEWHERE = 1 << 32  # somewhere in a map's value or a global; the addend is its beginning


def _places(value: _Value) -> bool:
    return bool(value) and all(a.kind in ("frame", "value", "record", "data") for a in value or ())


def _moved(old: _Value, right: _Value, sign: int) -> _Value:
    """Return a place moved by a distance; in a map's value it stays known, wherever in it that is."""
    place, by = (old, right) if _places(old) else (right, old)
    numbers = _numbers(by)
    if place is None:
        return None
    if numbers is None or len(numbers) != 1:
        return (
            frozenset(
                a._replace(number=_SOMEWHERE + (a.number % _SOMEWHERE if a.kind == "data" else 0))
                for a in place
                if a.kind in ("value", "data", "record")
            )
            or None
        )
    (number,) = numbers
    distance = sign * (number - (1 << 64) if number >> 63 else number)
    return frozenset(a._replace(number=a.number + distance) for a in place)


_OPERATIONS: dict[int, Callable[[int, int], int]] = {
    0x00: operator.add,
    0x10: operator.sub,
    0x20: operator.mul,
    0x40: operator.or_,
    0x50: operator.and_,
    0x60: lambda a, b: a << (b & 63),
    0x70: lambda a, b: a >> (b & 63),
    0xC0: lambda a, b: a >> (b & 63),  # arithmetic: right for sizes, which are never negative
}


def _each(value: _Value, change: Callable[[int], int]) -> _Value:
    numbers = _numbers(value)
    if numbers is None:
        return None
    return frozenset(_Atom("const", number=change(n)) for n in numbers)


_WIDTHS = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


def _place(base: _Value, offset: int) -> tuple[str, int] | None:
    """Return the region of an address and the offset in it; None if that is not known."""
    if base is None or len(base) != 1:
        return None
    (atom,) = base
    if atom.kind not in ("frame", "value", "record") or atom.number >= _SOMEWHERE:
        return None
    return ("" if atom.kind == "frame" else f"{atom.kind} {atom.name}"), atom.number + offset


def _load(at: Instruction, base: _Value, memory: _Memory) -> _Value:
    place = _place(base, at.offset)
    if place is None or place[0]:  # other programs write to a map's values
        found = _shifted(base, at.offset)
        return found and frozenset(a._replace(kind="was") for a in found)
    return memory.get((*place, _WIDTHS[at.code & 0x18]))


def _store(at: Instruction, state: _State) -> None:
    regs, memory = state
    mode, width = at.code & 0xE0, _WIDTHS[at.code & 0x18]
    place = _place(regs[at.to], at.offset)
    if place is None:
        _forget_all(memory, regs[at.to])
    else:
        _forget(memory, place[0], place[1], place[1] + width)
    if mode == 0xC0:  # atomics; those that fetch put the old value into a register
        if at.number & 1:
            regs[0 if at.number == 0xF1 else at.source] = None
        return
    if place is None:
        return
    value = regs[at.source] if at.code & 7 == 3 else _const(at.number)
    if value is not None:
        memory[(*place, width)] = value if width == 8 else _each(value, lambda n: n & ((1 << 8 * width) - 1))


def _forget(memory: _Memory, base: str, start: int, end: int) -> None:
    for key in [k for k in memory if k[0] == base and k[1] < end and k[1] + k[2] > start]:
        del memory[key]


def _forget_all(memory: _Memory, address: _Value) -> None:
    """Forget the content of all regions that an address may be in; in the frame its offset is known."""
    bases = {f"{a.kind} {a.name}" for a in address or () if a.kind in ("value", "record")}
    for key in [k for k in memory if k[0] in bases]:
        del memory[key]


def _forget_written(at: Instruction, state: _State) -> None:
    """Forget the memory that a call may have written through its arguments."""
    regs, memory = state
    if at.source == 0 and at.number in _READERS:
        return
    for i in range(1, 6):
        place = _place(regs[i], 0)
        if place is None:
            _forget_all(memory, regs[i])
        else:
            length = (_numbers(regs[i + 1]) if i < 5 and at.source == 0 else None) or [512]
            _forget(memory, place[0], place[1], place[1] + max(length))
