# SPDX-License-Identifier: BSD-2-Clause
"""Reads ELF files: checks that a file is a BPF object, and returns its code, symbols and relocations.

:func:`check` runs before every load, so it reads the headers directly: importing pyelftools takes 75 ms.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from eunomia.kernel.errors import BadObject
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_MACHINE_BPF = 247
_MACHINES = {
    3: "an i386", 8: "a MIPS", 20: "a PowerPC", 21: "a ppc64", 22: "an s390x", 40: "an ARM", 62: "an x86-64",
    183: "an aarch64", 243: "a RISC-V", 258: "a LoongArch",
}  # fmt: skip
_HEADER = 64  # bytes of an ELF64 header
_RELOCATABLE = 1
_SHT_PROGBITS, _SHT_NOBITS = 1, 8
_SHF_EXECINSTR = 4


def check(data: bytes, name: str) -> None:
    """Raise :exc:`BadObject` with the reason if ``data`` cannot be a BPF object."""
    order = _check_header(data, name)
    sections = _sections(data, name, order)
    names = {text for text, _ in sections}
    if ".BTF" not in names:
        raise BadObject(f"{name}: has no BTF (type information): compile with clang -g")
    if not any(executable and text != ".text" for text, executable in sections):
        raise BadObject(f'{name}: has no BPF programs: put functions into sections with SEC("...")')


def has_our_types(data: bytes) -> bool:
    """Return whether an object was compiled with eunomia's headers, so that ``path_t`` and others have our meanings.

    Objects with our streams have their maps; others have the folder of types.h in their DWARF.
    """
    return b"\0ledger_" in data or (b"types.h\0" in data and (b"eunomia\0" in data or b"eunomia/types.h\0" in data))


def section_names(data: bytes, name: str) -> list[str]:
    """Return the names of an object's sections, after :func:`check`."""
    return [text for text, _ in _sections(data, name, _check_header(data, name))]


def _check_header(data: bytes, name: str) -> str:
    """Return the byte order of a header, if it is valid for BPF."""
    if not data:
        raise BadObject(f"{name}: the file is empty")
    if data[:4] != b"\x7fELF":
        raise BadObject(f"{name}: not an ELF file, so no BPF object: compile with clang -target bpf -g -O2 -c")
    if len(data) < 20 or data[5] not in (1, 2):
        raise BadObject(f"{name}: truncated ELF file: its header is incomplete")
    order = "<" if data[5] == 1 else ">"
    kind, machine = struct.unpack_from(order + "HH", data, 16)
    if machine != _MACHINE_BPF:
        what = _MACHINES.get(machine, f"a machine {machine}")
        thing = "object" if kind == _RELOCATABLE else "program"
        raise BadObject(f"{name}: is {what} {thing}, not a BPF one: compile with clang -target bpf")
    if data[4] != 2:
        raise BadObject(f"{name}: is a 32-bit object, but BPF is 64-bit: compile with clang -target bpf")
    if len(data) < _HEADER:
        raise BadObject(f"{name}: truncated ELF file: its header is incomplete")
    if (order == "<") != (sys.byteorder == "little"):
        theirs = "little" if order == "<" else "big"
        flag = "bpfel" if sys.byteorder == "little" else "bpfeb"
        raise BadObject(
            f"{name}: is a {theirs}-endian BPF object, this machine is {sys.byteorder}-endian: "
            f"compile with clang -target {flag}"
        )
    if kind != _RELOCATABLE:
        raise BadObject(f"{name}: is linked, not a relocatable object: compile with clang -target bpf -c")
    return order


def _sections(data: bytes, name: str, order: str) -> list[tuple[str, bool]]:
    """Return each section's name and whether it holds code."""
    cut = BadObject(f"{name}: truncated ELF file: {len(data)} bytes, but its sections extend beyond that")
    (table,) = struct.unpack_from(order + "Q", data, 40)
    entry, count, names_at = struct.unpack_from(order + "HHH", data, 58)
    if entry != 64 or count == 0 or names_at >= count:
        raise BadObject(f"{name}: broken ELF file: no section table")
    if table + count * entry > len(data):
        raise cut
    headers = [struct.unpack_from(order + "IIQQQQ", data, table + i * entry) for i in range(count)]
    for _, kind, _, _, offset, size in headers:
        if kind not in (0, _SHT_NOBITS) and offset + size > len(data):
            raise cut
    _, _, _, _, start, length = headers[names_at]
    texts = data[start : start + length]
    return [
        (
            texts[at : texts.find(b"\0", at)].decode("utf-8", "backslashreplace"),
            kind == _SHT_PROGBITS and bool(flags & _SHF_EXECINSTR) and size > 0,
        )
        for at, kind, flags, _, _, size in headers
    ]


class Symbol(NamedTuple):
    """A named location: ``offset`` bytes into ``section``; ``kind`` is FUNC, OBJECT, SECTION or NOTYPE."""

    name: str
    section: str
    offset: int
    kind: str


class Code(NamedTuple):
    """A section of instructions; ``relocations`` maps an offset in bytes to the symbol it refers to."""

    name: str
    data: bytes
    relocations: dict[int, Symbol]


class Image(NamedTuple):
    """The parts of an object that the search for event types reads."""

    code: dict[str, Code]
    symbols: list[Symbol]


@contextmanager
def _reading() -> Iterator[None]:
    """Turn pyelftools' errors over broken files into :exc:`BadObject`."""
    import zlib

    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError

    try:
        yield
    except (
        ELFError, ConstructError, zlib.error, struct.error, ValueError, LookupError, AttributeError,
        TypeError, AssertionError, MemoryError, OverflowError,
    ) as error:  # fmt: skip
        raise BadObject(f"broken ELF file: {error}") from error


def open_elf(data: bytes) -> ELFFile:
    """Return pyelftools' view of an object."""
    from elftools.elf.elffile import ELFFile

    with _reading():
        return ELFFile(io.BytesIO(data))


def section(data: bytes, name: str) -> bytes:
    """Return a section's bytes, empty if the object lacks it."""
    elf = open_elf(data)
    with _reading():
        found = elf.get_section_by_name(name)
        return bytes(found.data()) if found is not None else b""


def image(data: bytes) -> Image:
    """Return an object's code, symbols and relocations; :exc:`BadObject` if they are invalid."""
    elf = open_elf(data)
    with _reading():
        return _image(elf)


def _image(elf: ELFFile) -> Image:
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    sections = list(elf.iter_sections())
    table = elf.get_section_by_name(".symtab")
    symbols: list[Symbol] = []
    for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
        place, kind = symbol["st_shndx"], symbol["st_info"]["type"].removeprefix("STT_")
        where = sections[place].name if isinstance(place, int) else ""
        symbols.append(Symbol(symbol.name, where, symbol["st_value"], kind))
    code: dict[str, Code] = {}
    for found in sections:
        if found["sh_type"] == "SHT_PROGBITS" and found["sh_flags"] & _SHF_EXECINSTR:
            code[found.name] = Code(found.name, bytes(found.data()), {})
    for found in sections:
        if not isinstance(found, RelocationSection):
            continue
        target = code.get(sections[found["sh_info"]].name)
        if target is not None:
            for relocation in found.iter_relocations():
                target.relocations[relocation["r_offset"]] = symbols[relocation["r_info_sym"]]
    return Image(code, symbols)


def references(data: bytes, name: str) -> set[str]:
    """Return the names of the functions that a section's relocations refer to; none if they are invalid."""
    from elftools.elf.relocation import RelocationSection
    from elftools.elf.sections import SymbolTableSection

    found = set()
    try:
        elf = open_elf(data)
        with _reading():
            symbols = elf.get_section_by_name(".symtab")
            relocations = elf.get_section_by_name(f".rel{name}")
            if isinstance(symbols, SymbolTableSection) and isinstance(relocations, RelocationSection):
                for relocation in relocations.iter_relocations():
                    symbol = symbols.get_symbol(relocation["r_info_sym"])
                    if symbol["st_info"]["type"] == "STT_FUNC":
                        found.add(symbol.name)
    except BadObject:
        return set()
    return found
