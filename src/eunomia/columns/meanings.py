# SPDX-License-Identifier: BSD-2-Clause
"""The table of meanings of fields' values, one record for each.

The schema of C types, batches, all sinks, the JSON Schema and `eunomia info` use only this table.
A new meaning is one entry here, beside a typedef in ``eunomia/types.h`` if C code is to declare it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence

from eunomia import meaning as look
from eunomia.meaning import Text
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.stream_schema import Field

_ORDER = "<" if sys.byteorder == "little" else ">"
_CACHE_LIMIT = 8192  # distinct values of one meaning that are cached

# Formats a field's values: the field, its values as the kernel wrote them, the texts of the batch.
Render = Callable[["Field", Sequence[Any], Text], Sequence[Any]]

# JSON Schema types that several meanings share.
INTEGER: dict[str, Any] = {"type": "integer"}
FLOAT: dict[str, Any] = {"type": ["number", "null"]}  # JSON has no NaN
STRING: dict[str, Any] = {"type": "string"}
TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
STRINGS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
FRAMES: dict[str, Any] = {"type": ["string", "integer"]}  # an id, if its stack is gone

LAST = 9  # the rank of ordinary fields among a table's details
FAILURE = "failure"  # the style of errors


class Meaning(NamedTuple):
    """The meaning of a field's values, and how all outputs show them.

    ``description`` is for `eunomia info`. ``show`` formats one value, ``column`` a whole
    column; without either, values are shown as in C. ``json`` is their type in JSON Schema and
    ``example`` one of them, or functions that take these from the field. ``cell`` is the text of a value if
    ``str`` is not suitable, ``brief`` that in a table, with the ``unit``, which its heading then leaves out.
    ``trusted`` text is made here, so it never needs escaping. ``width`` is what a table's column begins with, 0
    for text of any length; ``style`` how the table marks a value; ``rank`` where it stands among the details.
    ``typedefs`` are C's names for it, ``size`` the bytes that it takes, 0 for any, and ``code`` its
    :mod:`struct` code where that is not the C type's. ``variable`` values stand in the batch's heap, ``whole``
    ones are one value, not a list, where they follow a struct. ``forgets``: making a value anew is cheaper than
    remembering it.
    """

    description: str
    show: Callable[[Any], Any] | None = None
    column: Render | None = None
    json: dict[str, Any] | Callable[[Field], dict[str, Any]] = STRING
    example: Any = ""
    unit: str = ""
    cell: Callable[[Any], str] | None = None
    brief: Callable[[Any], str] | None = None
    trusted: bool = False
    width: int = 0
    style: str = ""
    rank: int = LAST
    typedefs: tuple[str, ...] = ()
    size: int = 0
    code: str = ""
    variable: bool = False
    whole: bool = False
    forgets: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is shown as a number."""
        return self.json is INTEGER or self.json is FLOAT

    @property
    def is_plain(self) -> bool:
        """Whether it is shown as the number that it is in C."""
        return self.show is None and self.column is None and self.is_number

    @property
    def is_text(self) -> bool:
        """Whether it is shown as one text."""
        return self.json is STRING

    @property
    def needs_no_escape(self) -> bool:
        """Whether its text cannot contain control characters."""
        return self.trusted or self.is_number


class _Remembered(dict[Any, Any]):
    """Caches formatted values; it is cleared when it is full."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: Any) -> Any:
        if len(self) >= _CACHE_LIMIT:
            self.clear()
        value = self[key] = self.make(key)
        return value


_remembered: dict[Callable[[Any], Any], _Remembered] = {}


def render(field: Field, raw: Sequence[Any], text: Text) -> Sequence[Any]:
    """Return a field's formatted values. ``raw`` is the result of :meth:`eunomia.batch.Batch.raw`."""
    if field.show is not None:
        return list(map(field.show, raw))
    meant = MEANINGS[field.meaning]
    if meant.column is not None:
        return meant.column(field, raw, text)
    if meant.show is None:
        return raw
    if meant.forgets:
        return list(map(meant.show, raw))
    known = _remembered.get(meant.show)
    if known is None:
        known = _remembered[meant.show] = _Remembered(meant.show)
    if field.code[-1] != "s" and raw and raw.count(raw[0]) == len(raw):  # as errors and flags often are
        return [known[raw[0]]] * len(raw)
    return list(map(known.__getitem__, raw))


def is_plain(field: Field) -> bool:
    """Whether a field is one number, shown as the number that it is in C."""
    meant = MEANINGS[field.meaning]
    return len(field.code) == 1 and (meant.is_plain or field.meaning == "time") and field.show is None


def in_use(field: Field, raw: bytes, length: int | None, count: int | None) -> Any:
    """Return the used part of an array: its first ``length`` bytes, or ``count`` texts, if there are so many.

    With an invalid length (more than the array's size) texts end at their first NUL, and others are complete.
    """
    kind = field.meaning if field.meaning != "tail" else field.parts[0].meaning
    valid = length is not None and length <= len(raw)
    if MEANINGS[kind].whole and valid and length is not None:
        raw = raw[: max(0, length)]
    if kind == "bytes":
        return raw.hex()
    if kind == "text":
        return look.decode(raw.rstrip(b"\0")) if valid or field.meaning == "tail" else look.char_array(raw)
    if kind == "texts":
        if count is None and not valid and field.meaning != "tail":
            raw = raw.partition(b"\0")[0]
        return look.texts(raw, count)
    part = field.parts[0]
    there = len(raw) // part.size
    # a length of elements is counted in them, or in bytes
    if length is not None and length * part.size > len(raw):
        length //= part.size
    if length is not None:
        there = max(0, min(there, length))
    return [_one(part, raw[i * part.size : (i + 1) * part.size]) for i in range(there)]


def tagged(field: Field, raw: Sequence[bytes], tags: Sequence[int]) -> list[Any]:
    """Return a union's values by the member that each row's tag selects; bytes in hex if there is none."""
    members = {int(p.tag, 0): p for p in field.parts if p.tag}
    return [
        _one(members[tag], value[: members[tag].size]) if tag in members else value.hex()
        for value, tag in zip(raw, tags, strict=True)
    ]


# Formatters of whole columns


def _enum(field: Field, raw: Sequence[Any], _text: Text) -> list[Any]:
    names = field.names or {}
    return [names.get(v, v) for v in raw]


def _wide(field: Field, raw: Sequence[Any], _text: Text) -> list[int | str]:
    """Return numbers, as text if they have more than 64 bits, which readers of JSON do not accept."""
    values = [int.from_bytes(v, sys.byteorder, signed=field.signed) for v in raw]
    return [v if -(1 << 63) <= v < 1 << 64 else str(v) for v in values]


def _array(field: Field, raw: Sequence[Any], _text: Text) -> list[Any]:
    """Return lists; an array of plain numbers is already a tuple, others are bytes to be split."""
    if not field.parts:
        return list(map(list, raw)) if field.code.lstrip("0123456789") != "s" else [v.hex() for v in raw]
    part = field.parts[0]
    if part.size == 0:
        return [[] for _ in raw]
    return [[_one(part, v[i : i + part.size]) for i in range(0, len(v), part.size)] for v in raw]


def _struct(field: Field, raw: Sequence[Any], _text: Text) -> list[Any]:
    return [{p.name: _one(p, v[p.offset : p.offset + p.size]) for p in field.parts} for v in raw]


def _one(part: Field, raw: bytes) -> Any:
    """Return one value from ``part.size`` bytes."""
    values = struct.unpack(_ORDER + part.code, raw)
    value: Any = values if len(values) > 1 or (part.meaning == "array" and not part.parts) else values[0]
    if part.bits is not None:
        shift, width = part.bits
        value = (int.from_bytes(raw, sys.byteorder) >> shift) & ((1 << width) - 1)
        if part.signed and value >> (width - 1):
            value -= 1 << width
    return render(part, [value], Text(b""))[0]


# JSON types and examples that depend on the field


def json_type(field: Field) -> dict[str, Any]:
    """Return the type of a field's values in JSON Schema, without their description."""
    type_ = MEANINGS[field.meaning].json
    if type_ is INTEGER and field.code[-1] == "s" and field.bits is None and not MEANINGS[field.meaning].show:
        return STRING  # sizes that no C number has
    return type_(field) if callable(type_) else type_


def described(field: Field) -> dict[str, Any]:
    """Return the type of a field's values in JSON Schema, with their description."""
    meant = MEANINGS[field.meaning].description if field.meaning else ""
    text = ". ".join(filter(None, (field.doc, meant)))
    value = json_type(field)
    if field.none is not None and isinstance(value.get("type"), str):
        value = value | {"type": [value["type"], "null"]}
    return value | ({"description": text} if text else {})


def example(field: Field) -> Any:
    """Return an example value of a field, as in JSON."""
    made = MEANINGS[field.meaning].example
    return made(field) if callable(made) else made


def _enum_type(field: Field) -> dict[str, Any]:
    return {"anyOf": [{"enum": list(dict.fromkeys((field.names or {}).values()))}, INTEGER]}


def _array_type(field: Field) -> dict[str, Any]:
    plain = {"type": "number" if field.code[-1] in "efd" else "integer"}
    return {"type": "array", "items": json_type(field.parts[0]) if field.parts else plain}


def _tail_type(field: Field) -> dict[str, Any]:
    (part,) = field.parts
    return json_type(part) if MEANINGS[part.meaning].whole else {"type": "array", "items": json_type(part)}


def _struct_type(field: Field) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {part.name: described(part) for part in field.parts},
        "required": [part.name for part in field.parts],
        "additionalProperties": False,
    }


def _first_name(field: Field) -> object:
    return next(iter((field.names or {}).values()), 0)


def _tail_example(field: Field) -> object:
    (part,) = field.parts
    return example(part) if MEANINGS[part.meaning].whole else [example(part)]


# The table

MEANINGS: dict[str, Meaning] = {
    "": Meaning("number", json=INTEGER, example=1, width=7),
    "wide": Meaning(
        "128-bit number", column=_wide, json={"type": ["integer", "string"]}, example=1  # text beyond 64 bits
    ),
    "bool": Meaning(
        "true or false", bool, json={"type": "boolean"}, example=False, forgets=True, trusted=True, width=5,
        cell=lambda v: "true" if v else "false",
    ),
    "float": Meaning("number", json=FLOAT, example=0.5, width=8),
    "duration": Meaning(
        "nanoseconds", json=INTEGER, example=84213, unit="ns", brief=look.duration, width=8,
        typedefs=("duration_ns_t",),
    ),
    "uid": Meaning("user id", json=INTEGER, example=1000, width=5, typedefs=("uid_t",)),
    "gid": Meaning("group id", json=INTEGER, example=1000, width=5, typedefs=("gid_t",)),
    "pid": Meaning("process id", json=INTEGER, example=4242, width=7, typedefs=("pid_t",)),
    "cgroup_id": Meaning(
        "cgroup id", json=INTEGER, example=7341, width=8, typedefs=("cgroup_id_t",), size=8
    ),
    "text": Meaning("text", look.char_array, example="nginx", width=15, whole=True),
    "bytes": Meaning("bytes in hex", bytes.hex, example="00ff", trusted=True, whole=True, forgets=True),
    "pointer": Meaning("address in hex", hex, example="0xffff888012345678", trusted=True, width=18, forgets=True),
    "hex": Meaning(
        "number in hex", hex, example="0x1f", trusted=True, width=10, forgets=True,
        typedefs=("hex32_t", "hex64_t"),
    ),
    "errno": Meaning(
        "error name, empty on success", look.errno_name, example="ENOENT", trusted=True, width=8, style=FAILURE,
        rank=0, typedefs=("errno_t",),
    ),
    "signal": Meaning(
        "signal name, empty for none", look.signal_name, example="SIGTERM", trusted=True, width=8, style=FAILURE,
        rank=0, typedefs=("signal_t",),
    ),
    "syscall": Meaning(
        "system call name", look.syscall_name, example="openat", trusted=True, width=16, typedefs=("syscall_t",)
    ),
    "capability": Meaning(
        "capability name", look.capability_name, example="CAP_NET_ADMIN", trusted=True, width=16,
        typedefs=("capability_t",),
    ),
    "open_flags": Meaning(
        "open(2) flags, joined by |", look.open_flags, example="O_RDONLY|O_CLOEXEC", trusted=True,
        typedefs=("open_flags_t",),
    ),
    "mode": Meaning(
        "mode in octal", look.octal, example="0644", trusted=True, width=4, typedefs=("mode_t", "umode_t")
    ),
    "device": Meaning(
        "major:minor", look.device, example="8:1", trusted=True, width=7, typedefs=("device_t",)
    ),
    "ipv4": Meaning(
        "IPv4 address", look.ipv4, example="192.0.2.1", trusted=True, width=15, typedefs=("ipv4_t",), size=4,
        code="I",
    ),
    "ipv6": Meaning(
        "IPv6 address", look.ipv6, example="2001:db8::1", trusted=True, width=15, typedefs=("ipv6_t",), size=16,
        code="16s",
    ),
    "ip": Meaning(
        "IP address", look.ip, example="192.0.2.1", trusted=True, width=15, typedefs=("ip_t",), size=16, code="16s"
    ),
    "ip16": Meaning("IP address", look.ip16, example="192.0.2.1", trusted=True, width=15, size=16, code="16s"),
    "mac": Meaning(
        "hardware address", look.mac, example="02:42:ac:11:00:02", trusted=True, width=17, size=6, code="6s"
    ),
    "be": Meaning("number, from network byte order", look.big_endian, json=INTEGER, example=1, width=7, code="s"),
    "texts": Meaning("list of texts", look.texts, json=STRINGS, example=["ls", "-l"], whole=True),
    "tail": Meaning(
        "the bytes after the struct", json=_tail_type, example=_tail_example, variable=True
    ),
    "absent": Meaning("nothing", look.nothing, json={"type": "null"}, example=None),
    "port": Meaning("port number", look.port, json=INTEGER, example=443, width=5, typedefs=("port_be_t",), size=2),
    "exec_id": Meaning(
        "process as NODE:START:PID, empty for none", look.packed_exec_id, example="node-1:84213000000000:4242",
        width=32, typedefs=("exec_id_t",), size=16, code="16s",
    ),
    "kstack": Meaning(
        "kernel stack, innermost function first, joined by ;", json=FRAMES, example="schedule;do_nanosleep",
        typedefs=("kstack_id_t",),
    ),
    "ustack": Meaning(
        "user stack, innermost address first, joined by ;", json=FRAMES, example="/usr/lib/libc.so.6+0x2a1c0",
        typedefs=("ustack_id_t",),
    ),
    "stack": Meaning("stack, innermost frame first, joined by ;", example="schedule;do_nanosleep"),
    # formatted by the batch, which has the clock
    "time": Meaning(
        "time, RFC 3339 with nanoseconds", json=TIME, example="2026-11-23T20:05:29.123456789Z", trusted=True,
        width=30, typedefs=("time_ns_t",), size=8,
    ),
    "enum": Meaning("name", column=_enum, json=_enum_type, example=_first_name, width=10),
    "str": Meaning(
        "text", column=lambda _, raw, text: text.strings(raw), example="text", variable=True, typedefs=("str_t",),
        size=8, code="II",
    ),
    "path": Meaning(
        "path", column=lambda _, raw, text: text.tidy(text.strings(raw)), example="/etc/passwd", variable=True,
        rank=2, typedefs=("path_t",), size=8, code="II",
    ),
    "argv": Meaning(
        "list of texts", column=lambda _, raw, text: text.vectors(raw), json=STRINGS, example=["ls", "-l"],
        variable=True, rank=1, typedefs=("argv_t",), size=8, code="II",
    ),
    "blob": Meaning(
        "bytes in hex", column=lambda _, raw, text: text.blobs(raw), example="00ff", variable=True
    ),
    "array": Meaning(
        "list", column=_array, json=_array_type, example=lambda f: [example(f.parts[0])] if f.parts else [1, 2]
    ),
    "struct": Meaning(
        "object", column=_struct, json=_struct_type, example=lambda f: {p.name: example(p) for p in f.parts}
    ),
    "union": Meaning(
        "bytes in hex", bytes.hex, json=lambda f: {} if f.tag else STRING, example="00ff", forgets=True
    ),
}  # fmt: skip
