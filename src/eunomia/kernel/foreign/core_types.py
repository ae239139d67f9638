# SPDX-License-Identifier: BSD-2-Clause
"""Finds the kernel's structs in an object: those that CO-RE relocates, and all that they refer to.

A program that includes ``vmlinux.h`` can have hundreds of them in its BTF.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

from eunomia.kernel.errors import BadObject

_ORDER = "<" if sys.byteorder == "little" else ">"

# by enum btf_kind (include/uapi/linux/btf.h): bytes after the 12 of a type, and then for each of its entries
_AFTER = {1: 4, 3: 12, 14: 4, 17: 4}
_ENTRIES = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_RECORDS = (4, 5)
_REFERENCES = (2, 8, 9, 10, 11, 18)  # pointer, typedef, volatile, const, restrict, type tag


def kernel_structs(btf: bytes, ext: bytes) -> set[str]:
    """Return the names of the kernel's structs, given an object's .BTF and .BTF.ext sections."""
    try:
        ids = set(_relocated(ext))
        return _reach(btf, ids) if ids else set()
    except (struct.error, IndexError, ValueError):
        raise BadObject("its BTF is broken") from None


def _relocated(raw: bytes) -> Iterator[int]:
    """Yield the type ids of CO-RE relocations (struct bpf_core_relo, include/uapi/linux/bpf.h)."""
    if len(raw) < 32:
        return
    (header,) = struct.unpack_from(_ORDER + "I", raw, 4)
    start, length = struct.unpack_from(_ORDER + "II", raw, 24)
    if header < 32 or not length:
        return
    at, end = header + start + 4, header + start + length
    (width,) = struct.unpack_from(_ORDER + "I", raw, at - 4)
    while at < end and width >= 8:
        _, count = struct.unpack_from(_ORDER + "II", raw, at)
        at += 8
        for _ in range(count):
            yield struct.unpack_from(_ORDER + "I", raw, at + 4)[0]
            at += width


def _reach(raw: bytes, ready: set[int]) -> set[str]:
    header, types, types_size, strings = struct.unpack_from(_ORDER + "IIII", raw, 4)
    places = [0]
    at, end = header + types, header + types + types_size
    while at < end:
        places.append(at)
        (info,) = struct.unpack_from(_ORDER + "I", raw, at + 4)
        kind = info >> 24 & 0x1F
        at += 12 + _AFTER.get(kind, 0) + _ENTRIES.get(kind, 0) * (info & 0xFFFF)
    names: set[str] = set()
    seen: set[int] = {0}
    while ready:
        id_ = ready.pop()
        if id_ in seen:
            continue
        seen.add(id_)
        at = places[id_]
        name, info, target = struct.unpack_from(_ORDER + "III", raw, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        if kind in _RECORDS:
            start = header + strings + name
            names.add(raw[start : raw.index(b"\0", start)].decode("utf-8", "backslashreplace").partition("___")[0])
            ready.update(struct.unpack_from(_ORDER + "I", raw, at + 16 + 12 * i)[0] for i in range(count))
        elif kind in _REFERENCES:
            ready.add(target)
        elif kind == 3:  # an array
            ready.add(struct.unpack_from(_ORDER + "I", raw, at + 12)[0])
    names.discard("")
    return names
