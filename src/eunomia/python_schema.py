# SPDX-License-Identifier: BSD-2-Clause
"""Schemas declared in Python, for streams whose rows are made in Python: a list of columns by C's type names."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from eunomia.columns.meanings import MEANINGS
from eunomia.stream_schema import Field, Schema
from eunomia.typing import NamedTuple

# The struct codes of the types that a column may have: C's integers, and the typedefs of eunomia/types.h.
_CODES = {
    "__u8": "B", "__s8": "b", "__u16": "H", "__s16": "h", "__u32": "I", "__s32": "i", "__u64": "Q", "__s64": "q",
    "bool": "?", "double": "d", "pid_t": "I", "uid_t": "I", "gid_t": "I", "umode_t": "H",
    "time_ns_t": "Q", "duration_ns_t": "Q", "cgroup_id_t": "Q", "errno_t": "i", "signal_t": "I", "syscall_t": "Q",
    "capability_t": "I", "open_flags_t": "I", "device_t": "I", "hex32_t": "I", "hex64_t": "Q", "port_be_t": "H",
    "ipv4_t": "I", "ipv6_t": "16s", "ip_t": "16s", "exec_id_t": "16s", "str_t": "II", "path_t": "II",
}  # fmt: skip
_LARGEST = 8  # bytes of the largest alignment
_MEANINGS = {typedef: name for name, meaning in MEANINGS.items() for typedef in meaning.typedefs}
_MEANINGS |= {"bool": "bool", "double": "float"}


class ColumnDeclaration(NamedTuple):
    """A column of a stream made in Python, with what ``eunomia/types.h`` can say of a struct's member.

    ``type`` is a type of C (``__s32``) or of ``eunomia/types.h`` (``duration_ns_t``); with ``names``, the names of an
    enumeration's numbers, it is any text, such as ``enum life``. ``hidden`` columns are left out of tables unless asked
    for. ``none`` is the number that stands for no value.
    """

    name: str
    type: str
    doc: str = ""
    hidden: bool = False
    none: int | None = None
    names: Mapping[int, str] | None = None


def declare(name: str, doc: str, columns: Iterable[ColumnDeclaration]) -> Schema:
    """Return the schema of records that have these columns.

    Raises :class:`ValueError` for an unknown type, and for a name that is used twice.
    """
    fields: dict[str, Field] = {}
    end = 0
    for column in columns:
        code = "I" if column.names is not None else _CODES.get(column.type)
        if code is None:
            raise ValueError(f"{name}.{column.name}: unknown type {column.type!r}: there are {', '.join(_CODES)}")
        if column.name in fields:
            raise ValueError(f"{name}.{column.name} is declared twice")
        size = struct.calcsize(f"={code}")
        alignment = min(size, _LARGEST)
        offset = -(-end // alignment) * alignment
        meaning = "enum" if column.names is not None else _MEANINGS.get(column.type, "")
        fields[column.name] = Field(
            column.name, offset, size, code, meaning, column.type, column.doc, hidden=column.hidden,
            none=column.none, names=dict(column.names) if column.names is not None else None,
        )  # fmt: skip
        end = offset + size
    size = max(_LARGEST, -(-end // _LARGEST) * _LARGEST)
    return Schema(name, size, fields.values(), doc)
