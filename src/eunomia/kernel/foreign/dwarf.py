# SPDX-License-Identifier: BSD-2-Clause
"""Reads types and local variables from DWARF, which has the structs that BTF lacks.

BTF contains the types of maps, globals and prototypes. A struct that a program only reserves in a ring
or fills on its stack is only in DWARF, unless the object is stripped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress

from eunomia.kernel.elf import has_our_types, open_elf
from eunomia.kernel.types import Array, Enum, Float, Int, Member, Opaque, Pointer, Struct, Type, Typedef
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo

_DEPTH = 64  # of nested types; deeper DWARF is broken or malicious
_POINTER_SIZE = 8
_BOOLEAN, _FLOAT, _SIGNED, _SIGNED_CHAR = 2, 4, 5, 6  # DW_ATE_*
_ANNOTATION = {0x6000, "DW_TAG_LLVM_annotation"}
_QUALIFIERS = {
    "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type", "DW_TAG_atomic_type",
}  # fmt: skip
_RECORDS = {"DW_TAG_structure_type", "DW_TAG_class_type", "DW_TAG_union_type"}


class Local(NamedTuple):
    """A variable of a function; ``type`` is its target's if ``pointer`` is true."""

    name: str
    type: Type
    pointer: bool
    parameter: bool


class Declared(NamedTuple):
    """A type with a name, and the file it was declared in."""

    name: str
    type: Type
    file: str


class Dwarf:
    """The debugging information of one object; empty if it has none or it is broken."""

    def __init__(self, data: bytes) -> None:
        """Open it; it is decoded on use."""
        elf = open_elf(data)
        self._ours = has_our_types(data)
        self._info: DWARFInfo | None = None
        with _skipping_broken():
            if elf.has_dwarf_info():
                # BPF's debug sections refer to each other by section symbols, whose value is 0, and hold the
                # addend in place (SHT_REL): relocating changes nothing, and takes 2 s with vmlinux.h.
                self._info = elf.get_dwarf_info(relocate_dwarf_sections=False)
        self._types: dict[int, Type] = {}
        self._declared: list[Declared] | None = None
        self._functions: dict[str, list[DIE]] | None = None

    def _units(self) -> Iterator[CompileUnit]:
        if self._info is not None:
            yield from self._info.iter_CUs()

    def declared(self) -> Iterator[Declared]:
        """Yield every named struct and typedef at the top level."""
        if self._declared is None:
            self._declared = []
            with _skipping_broken():
                self._declared.extend(self._declarations())
        yield from self._declared

    def _declarations(self) -> Iterator[Declared]:
        for unit in self._units():
            files = _files(self._info, unit)
            for die in unit.get_top_DIE().iter_children():
                if die.tag not in {"DW_TAG_structure_type", "DW_TAG_typedef"}:
                    continue
                name = _name(die)
                if name and "DW_AT_declaration" not in die.attributes:
                    yield Declared(name, self._type(die), files.get(_number(die, "DW_AT_decl_file"), ""))

    def structs(self) -> Iterator[Struct]:
        """Yield every struct with a name, its own or a typedef's."""
        for _, type_, _ in self.declared():
            found = named(type_)
            if isinstance(found, Struct) and found.members:
                yield found

    def enumerations(self) -> Iterator[Enum]:
        """Yield every enumeration at the top level, also unnamed ones."""
        found: list[Enum] = []
        with _skipping_broken():
            for unit in self._units():
                for die in unit.get_top_DIE().iter_children():
                    if die.tag == "DW_TAG_enumeration_type":
                        found.append(self._enum(die, 0))
        yield from found

    def locals(self, function: str) -> list[Local]:
        """Return a function's variables and parameters, including those of inlined functions."""
        found: list[Local] = []
        with _skipping_broken():
            if self._functions is None:
                self._functions = {}
                self._find_functions(self._functions)
            for die in self._functions.get(function, ()):
                found.extend(self._variables(die, 0))
        return found

    def _find_functions(self, found: dict[str, list[DIE]]) -> None:
        for unit in self._units():
            for die in unit.get_top_DIE().iter_children():
                if die.tag == "DW_TAG_subprogram" and _number(die, "DW_AT_inline") not in (1, 3):
                    found.setdefault(_name(_origin(die)), []).append(die)

    def _variables(self, scope: DIE, depth: int) -> Iterator[Local]:
        if depth > _DEPTH:
            return
        for die in scope.iter_children():
            if die.tag in ("DW_TAG_variable", "DW_TAG_formal_parameter"):
                origin = _origin(die)
                target = _resolved(_target(origin))
                if target is None:
                    continue
                pointer = target.tag == "DW_TAG_pointer_type"
                pointee = _target(target) if pointer else None
                type_ = self._type(pointee) if pointee is not None else self._type(_target(origin))
                parameter = origin.tag == "DW_TAG_formal_parameter"
                yield Local(_name(origin), type_, pointer, parameter)
            elif die.has_children:
                yield from self._variables(die, depth + 1)

    def _type(self, die: DIE | None, depth: int = 0) -> Type:
        if die is None:
            return Opaque("void")
        known = self._types.get(die.offset)
        if known is None:
            if depth > _DEPTH:
                return Opaque(_name(die))
            known = self._types[die.offset] = self._decode(die, depth + 1)
        return known

    def _decode(self, die: DIE, depth: int) -> Type:
        name, size, tag = _name(die), _number(die, "DW_AT_byte_size"), die.tag
        if tag in _QUALIFIERS:
            return self._type(_target(die), depth)
        if tag == "DW_TAG_typedef":
            return Typedef(name, self._type(_target(die), depth), self._ours)
        if tag == "DW_TAG_base_type":
            kind = _number(die, "DW_AT_encoding")
            if kind == _FLOAT:
                return Float(name, size)
            signed = kind in (_SIGNED, _SIGNED_CHAR)
            return Int(name, size, signed, kind == _BOOLEAN, name == "char")
        if tag == "DW_TAG_pointer_type":
            return Pointer(_POINTER_SIZE, None)  # they may form cycles
        if tag in _RECORDS and "DW_AT_declaration" not in die.attributes:
            members = tuple(self._member(c, depth) for c in die.iter_children() if c.tag == "DW_TAG_member")
            return Struct(name, size, members, tag == "DW_TAG_union_type", _tags(die))
        if tag == "DW_TAG_enumeration_type":
            return self._enum(die, depth)
        if tag == "DW_TAG_array_type":
            element = self._type(_target(die), depth)
            ranges = [c for c in die.iter_children() if c.tag == "DW_TAG_subrange_type"]
            for count in reversed(list(map(_count, ranges))):
                element = Array(element, count)
            return element
        return Opaque(name or "void")

    def _member(self, die: DIE, depth: int) -> Member:
        bits = _number(die, "DW_AT_bit_size")
        offset = _number(die, "DW_AT_data_member_location") * 8
        if "DW_AT_data_bit_offset" in die.attributes:
            offset = _number(die, "DW_AT_data_bit_offset")
        elif "DW_AT_bit_offset" in die.attributes:  # up to DWARF 3: counted from the other end of its storage
            offset += _number(die, "DW_AT_byte_size") * 8 - _number(die, "DW_AT_bit_offset") - bits
        return Member(_name(die), self._type(_target(die), depth), offset, bits, _tags(die))

    def _enum(self, die: DIE, depth: int) -> Enum:
        names: dict[int, str] = {}
        for child in die.iter_children():
            if child.tag == "DW_TAG_enumerator":
                names.setdefault(_number(child, "DW_AT_const_value"), _name(child))
        base = self._type(_target(die), depth) if _target(die) is not None else None
        signed = any(v < 0 for v in names) or (isinstance(base, Int) and base.signed)
        return Enum(_name(die), _number(die, "DW_AT_byte_size"), signed, names)


def _skipping_broken() -> AbstractContextManager[None]:
    # On broken DWARF pyelftools may raise anything. DWARF is optional: use what was read so far.
    return suppress(Exception)


def named(type_: Type) -> Type:
    """Return the type behind typedefs; an unnamed struct gets its typedef's name."""
    name = ""
    while isinstance(type_, Typedef):
        name, type_ = type_.name, type_.target
    if isinstance(type_, Struct) and not type_.name:
        return type_._replace(name=name)
    return type_


def _name(die: DIE) -> str:
    found = die.attributes.get("DW_AT_name")
    return _text(found.value) if found is not None and isinstance(found.value, bytes) else ""


def _number(die: DIE, attribute: str) -> int:
    found = die.attributes.get(attribute)
    return found.value if found is not None and isinstance(found.value, int) else 0


def _target(die: DIE) -> DIE | None:
    return die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None


def _origin(die: DIE) -> DIE:
    for _ in range(_DEPTH):
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in die.attributes:
                die = die.get_DIE_from_attribute(link)
                break
        else:
            break
    return die


def _resolved(die: DIE | None) -> DIE | None:
    """Look through typedefs and qualifiers."""
    for _ in range(_DEPTH):
        if die is None or (die.tag != "DW_TAG_typedef" and die.tag not in _QUALIFIERS):
            return die
        die = _target(die)
    return None


def _count(die: DIE) -> int:
    if "DW_AT_count" in die.attributes:
        return _number(die, "DW_AT_count")
    return _number(die, "DW_AT_upper_bound") + 1 if "DW_AT_upper_bound" in die.attributes else 0


def _tags(die: DIE) -> tuple[str, ...]:
    if not die.has_children:
        return ()
    found = []
    for child in die.iter_children():
        if child.tag in _ANNOTATION and _name(child) == "btf_decl_tag":
            value = child.attributes.get("DW_AT_const_value")
            if value is not None and isinstance(value.value, bytes):
                found.append(_text(value.value))
    return tuple(found)


def _files(info: DWARFInfo | None, unit: CompileUnit) -> dict[int, str]:
    """Return a unit's source files by number; from 0 in DWARF 5, from 1 before."""
    program = info.line_program_for_CU(unit) if info is not None else None
    if program is None:
        return {}
    header = program.header
    first = 0 if header.version >= 5 else 1
    folders = list(header.get("include_directory") or ())
    found = {}
    for number, entry in enumerate(header.file_entry, first):
        name, folder = _text(entry.name), entry.dir_index - first
        if not name.startswith("/") and 0 <= folder < len(folders):
            name = f"{_text(folders[folder])}/{name}"
        found[number] = name
    return found


def _text(raw: bytes | str) -> str:
    return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)
