# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's ``bpf_rdonly_cast()`` for objects that include ``eunomia/current.h``.

Declared as the kernel's functions usually are (``__ksym``), it would have libbpf read all of the kernel's BTF, which
takes longer than everything else. So the header calls a helper of a number that no helper has, and here that becomes
the call that libbpf would make of it.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

from eunomia.kernel.libbpf import lib

_STRUCT, _FUNC = 4, 12  # BTF_KIND_*
_TYPE = "eunomia_type_"
_EXECINSTR = 4  # SHF_EXECINSTR
_CALL = struct.pack("<BBhi", 0x85, 0, 0, 0x10000)  # BPF_JMP | BPF_CALL, as the header has it
_PSEUDO_KFUNC_CALL = 2 << 4  # in the source register


@functools.cache
def _id(name: str, kind: int) -> int:
    """Return the id of a type in the kernel's BTF, negative if it has none."""
    return int(lib.eu_kernel_type(name.encode(), kind))


def resolved(data: bytes) -> bytes:
    """Return an object file whose programs call the kernel's function; the same file if there is none to call."""
    if _TYPE.encode() not in data or (function := _id("bpf_rdonly_cast", _FUNC)) < 0:
        return data
    call = struct.pack("<BBhi", 0x85, _PSEUDO_KFUNC_CALL, 0, function)
    patched = bytearray(data)
    for begin, end in _code(data):
        at = data.find(_CALL, begin, end)
        while at >= 0:
            if (at - begin) % len(_CALL) == 0:
                patched[at : at + len(_CALL)] = call
            at = data.find(_CALL, at + 1, end)
    return bytes(patched)


def _code(data: bytes) -> list[tuple[int, int]]:
    """Return where sections of instructions begin and end; none in a file that is no ELF file of 64 bits."""
    try:
        (table,) = struct.unpack_from("<Q", data, 40)  # e_shoff; e_shentsize and e_shnum
        size, count = struct.unpack_from("<HH", data, 58)
        sections = [struct.unpack_from("<8xQ8xQQ", data, table + n * size) for n in range(count)]
    except (struct.error, OverflowError):
        return []
    return [(offset, offset + length) for flags, offset, length in sections if flags & _EXECINSTR]


def settings(names: Iterable[str]) -> dict[str, int]:
    """Return the settings of the header, of those in ``names``, that say what ids the kernel's structs have."""
    types = [name for name in names if name.startswith(_TYPE)]
    if not types or _id("bpf_rdonly_cast", _FUNC) < 0:
        return {}
    return {name: max(_id(name.removeprefix(_TYPE), _STRUCT), 0) for name in types}
