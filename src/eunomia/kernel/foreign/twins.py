# SPDX-License-Identifier: BSD-2-Clause
"""Finds twins: programs for the same event by several kinds of hook, of which a loader loads one.

Objects have ``tp_btf`` and ``raw_tp``, or ``fentry`` and ``kprobe``, for kernels that have only one of them.
If both ran, each event would be counted twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.elf import Image
    from eunomia.kernel.spec import Program

# The kinds of hooks, the best first.
_FAMILIES = ("tp_btf", "trampoline", "raw_tp", "tp", "kprobe.multi", "kprobe")
_TRACEPOINTS = {
    "tp_btf": "tp_btf", "raw_tp": "raw_tp", "raw_tracepoint": "raw_tp", "tp": "tp", "tracepoint": "tp",
}  # fmt: skip
_FUNCTIONS = {
    "fentry": ("trampoline", "entry"), "fexit": ("trampoline", "return"), "kprobe": ("kprobe", "entry"),
    "kretprobe": ("kprobe", "return"), "ksyscall": ("kprobe", "entry"), "kretsyscall": ("kprobe", "return"),
}  # fmt: skip
_SYSCALL = re.compile(r"(?:__(?:x64|arm64|riscv|s390x|se|do)_)?sys_(\w+)|SyS_(\w+)")
# Tracepoints that replaced a function to which tools attached their probes.
_REPLACED = {"block_io_start": "blk_account_io_start", "block_io_done": "blk_account_io_done"}

_CALL, _MOVE, _LOAD = 0x85, 0xBF, 1
_STORES, _ARITHMETIC = frozenset({2, 3}), frozenset({4, 7})


class Hook(NamedTuple):
    """A program's event: ``place`` is the same for all names of an event, ``name`` is the section's."""

    place: str
    end: str  # entry, return, or empty
    family: str
    name: str


def hook(section: str) -> Hook | None:
    """Return the hook of a section, None for kinds without twins."""
    word, _, rest = section.partition("/")
    bare, _, flavour = word.partition(".")
    if not rest:
        return None
    if bare in _TRACEPOINTS:
        name = rest.rpartition("/")[2]
        if match := re.fullmatch(r"sys_(enter|exit)_(\w+)", name):
            return Hook(f"syscall {match[2]}", "entry" if match[1] == "enter" else "return", "tp", name)
        if name in _REPLACED:
            return Hook(f"function {_plain(_REPLACED[name])}", "entry", _TRACEPOINTS[bare], name)
        return Hook(f"tracepoint {name}", "", _TRACEPOINTS[bare], name)
    if bare in _FUNCTIONS:
        family, end = _FUNCTIONS[bare]
        if family == "kprobe" and flavour in {"multi", "session"}:
            family = "kprobe.multi"
        if bare.endswith("syscall"):
            return Hook(f"syscall {rest}", end, family, rest)
        if match := _SYSCALL.fullmatch(rest):
            return Hook(f"syscall {match[1] or match[2]}", end, family, rest)
        return Hook(f"function {_plain(rest)}", end, family, rest)
    return None


def _plain(function: str) -> str:
    """Return the part of a function's name that is the same in all kernel versions: folios were pages, and so on."""
    words = function.partition(".")[0].strip("_").split("_")
    return "_".join(sorted("page" if w == "folio" else w for w in words if w and w != "noprof"))


def other_half(program: Program, programs: Sequence[Program]) -> Program | None:
    """Return the program for the return of a function of which another sees the call, or vice versa."""
    section = program.section
    for one, other in (
        ("kprobe/", "kretprobe/"), ("fentry/", "fexit/"), ("fentry.s/", "fexit.s/"), ("ksyscall/", "kretsyscall/"),
        ("uprobe/", "uretprobe/"), ("kprobe.multi/", "kretprobe.multi/"), ("uprobe.s/", "uretprobe.s/"),
        ("/sys_enter_", "/sys_exit_"), ("/sys_enter", "/sys_exit"),
    ):  # fmt: skip
        for a, b in ((one, other), (other, one)):
            wanted = section.replace(a, b, 1) if a in section and (a[0] == "/" or section.startswith(a)) else ""
            found = next((p for p in programs if wanted and p.section == wanted), None)
            if found is not None:
                return found
    return None


def losers(data: bytes, programs: Sequence[Program]) -> dict[str, Program]:
    """Return the programs that a better one replaces, with that one.

    Twins are attached to the same event by different kinds of hook, and write to a common map or variable: two
    programs that do not are meant to be compared. Programs of one kind on one hook are never twins. If functions
    have similar names, as ``f`` and ``__f``, twins have the same code.
    """
    places: dict[str, list[tuple[Program, Hook]]] = {}
    for program in programs:
        found = hook(program.section)
        if found is not None:
            places.setdefault(found.place, []).append((program, found))
    places = {place: these for place, these in places.items() if len({h[2:] for _, h in these}) > 1}
    if not places:
        return {}
    bodies = _Bodies(data)
    lost: dict[str, Program] = {}
    for these in places.values():
        these.sort(key=lambda one: (_FAMILIES.index(one[1].family), _seniority(one[1].name)))
        for i, (program, theirs) in enumerate(these):
            for better, ours in these[:i]:
                if better.name in lost or not _replaces(ours, theirs, these):
                    continue
                if bodies.twins(better, ours, program, theirs):
                    lost[program.name] = better
                    break
    return lost


def _seniority(name: str) -> tuple[bool, int]:
    return "folio" not in name, len(name) - len(name.lstrip("_"))


def _replaces(better: Hook, worse: Hook, these: Sequence[tuple[Program, Hook]]) -> bool:
    if better.family == worse.family:
        return better.name != worse.name and better.end == worse.end
    if better.end == worse.end:
        return True
    # fexit sees the arguments too, so it replaces the pair of kprobe and kretprobe
    return better.end == "return" and any(h.family == worse.family and h.end == "return" for _, h in these)


class _Body(NamedTuple):
    code: bytes
    refers: tuple[tuple[int, str], ...]
    writes: frozenset[str]


class _Bodies:
    def __init__(self, data: bytes) -> None:
        from eunomia.kernel.elf import image
        from eunomia.kernel.errors import BadObject

        try:
            self.image: Image | None = image(data)
        except BadObject:
            self.image = None
        self.known: dict[str, _Body] = {}

    def twins(self, better: Program, ours: Hook, program: Program, theirs: Hook) -> bool:
        one, other = self.of(better.name), self.of(program.name)
        if one is None or other is None:
            return ours.family != theirs.family
        if ours.family == theirs.family:
            return one[:2] == other[:2]
        return bool(one.writes & other.writes) or not (one.writes or other.writes)

    def of(self, name: str) -> _Body | None:
        if self.image is None:
            return None
        if name not in self.known:
            place = next((s for s in self.image.symbols if s.name == name and s.kind == "FUNC"), None)
            if place is None or place.section not in self.image.code:
                return None
            self.known[name] = self._read(place.section, place.offset, set())
        return self.known[name]

    def _read(self, section: str, start: int, seen: set[tuple[str, int]]) -> _Body:
        """Return a function's code, its references, and what it and all that it calls can write to."""
        assert self.image is not None
        code = self.image.code.get(section)
        if code is None or (section, start) in seen:
            return _Body(b"", (), frozenset())
        seen.add((section, start))
        ends = [s.offset for s in self.image.symbols if s.kind == "FUNC" and s.section == section and s.offset > start]
        raw = code.data[start : min(ends, default=len(code.data))]
        refers: list[tuple[int, str]] = []
        writes: set[str] = set()
        held: dict[int, str] = {}  # registers with a variable's address; code is read in order, without following jumps
        for at in range(0, len(raw) - 7, 8):
            opcode, to, by = raw[at], raw[at + 1] & 15, raw[at + 1] >> 4
            number = int.from_bytes(raw[at + 4 : at + 8], "little", signed=True)
            symbol = code.relocations.get(start + at)
            if opcode == _CALL:
                if by == 1:
                    where, target = section, start + at + (number + 1) * 8
                    if symbol is not None:
                        where, target = symbol.section, symbol.offset + (number + 1) * 8
                    writes |= self._read(where, target, seen).writes
                # helpers write to their first argument, if to any; functions of the object are not followed
                writes |= {held[i] for i in range(1, 6 if by == 1 else 2) if i in held}
                held = {i: name for i, name in held.items() if i > 5}
            elif symbol is not None:
                local = symbol.kind == "SECTION" or not symbol.name
                name = f"{symbol.section}+{symbol.offset + number}" if local else symbol.name
                refers.append((at, name))
                held[to] = name
                if symbol.section in {".maps", "maps"}:
                    writes.add(name)
                elif not symbol.section.startswith((".bss", ".data")):
                    del held[to]
            elif opcode & 7 in _STORES and to in held:
                writes.add(held[to])
            elif opcode == _MOVE and by in held:
                held[to] = held[by]
            elif (opcode & 7 in _ARITHMETIC and opcode & 0xF0) or opcode & 7 == _LOAD:
                held.pop(to, None)
        return _Body(raw, tuple(refers), frozenset(writes))
