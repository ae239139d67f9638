# SPDX-License-Identifier: BSD-2-Clause
"""Settings are an object's constants in .rodata, given before it is loaded."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

from eunomia.kernel.btf import Btf
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.schema import schema, spell
from eunomia.kernel.types import Array, Enum, Float, Int, Opaque, Pointer, Struct, Type, sizeof, strip

_ORDER = "<" if sys.byteorder == "little" else ">"
_LONGEST = 400  # characters of a number: Python refuses to read thousands of digits
_ECHOED = 40  # characters of a wrong value that an error repeats
_RESERVED = "eunomia_"  # the shared filters' own constants
_TRUTH = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}


class Setting(NamedTuple):
    """A constant that can be set: where it stands, its C type and its default."""

    name: str
    section: str
    offset: int
    type: Type
    default: object
    doc: str
    reserved: bool

    @property
    def ctype(self) -> str:
        """Its type as C spells it."""
        return spell(self.type)


def find(btf: Btf, images: Mapping[str, bytes]) -> dict[str, Setting]:
    """Return an object's settings by name; ``images`` holds each section's initial bytes."""
    found = {}
    for section, name, offset, size, id_ in btf.variables():
        image = images.get(section)
        if image is None or not section.startswith(".rodata") or not name.isidentifier():
            continue
        type_ = btf.variable_type(id_)
        if isinstance(strip(type_), Pointer | Opaque | Struct):
            continue
        doc = next((t.removeprefix("doc:") for t in btf.tags(id_) if t.startswith("doc:")), "")
        default = _decode(type_, image[offset : offset + size])
        found[name] = Setting(name, section, offset, type_, default, doc, name.startswith(_RESERVED))
    return found


def _decode(type_: Type, raw: bytes) -> object:
    bare = strip(type_)
    if isinstance(bare, Array) and isinstance(strip(bare.element), Int) and sizeof(bare.element) == 1:
        return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    row = schema(type_)
    if len(raw) != row.size:
        return raw.hex()
    from eunomia.batch import Batch

    value: object = Batch(row, raw).values("value")[0]
    return value


def encode(setting: Setting, value: object) -> bytes:
    """Return the bytes of a value, given as text or as a Python number, bool or list.

    Raises :class:`BadSetting` where it does not fit the setting's type.
    """
    try:
        return _encode(setting.type, value)
    except (ValueError, OverflowError, struct.error) as error:
        raise BadSetting(f"setting {setting.name} ({setting.ctype}): {error}") from None


def _encode(type_: Type, value: object) -> bytes:
    bare = strip(type_)
    if isinstance(bare, Int) and (kind := schema(type_).fields["value"].meaning) in {"ipv4", "port", "be"}:
        return _network(bare, value, kind)
    match bare:
        case Float():
            return struct.pack(_ORDER + {4: "f", 8: "d"}[bare.size], _real(value))
        case Int():
            return _integer(bare, value, _number(value))
        case Enum():
            numbers = {name: number for number, name in bare.names.items()}
            if str(value) in numbers:
                return numbers[str(value)].to_bytes(bare.size, sys.byteorder, signed=bare.signed)
            try:
                number = _number(value)
            except ValueError:
                raise ValueError(f"{value!r} is none of {', '.join(numbers)}") from None
            return _integer(bare, value, number)
        case Array():
            return _encode_array(bare, value)
    raise ValueError(f"cannot be set: it is a {spell(type_)}")


def _network(type_: Int, value: object, kind: str) -> bytes:
    """Return a number or an address in network byte order, given as it is shown."""
    if kind == "ipv4" and "." in str(value):
        import socket

        try:
            return socket.inet_pton(socket.AF_INET, str(value).strip())
        except (OSError, ValueError):
            raise ValueError(f"{_shown(str(value))} is not an IPv4 address") from None
    raw = _integer(type_, value, _number(value))
    return raw[::-1] if sys.byteorder == "little" and kind != "ipv4" else raw


def _integer(type_: Int | Enum, value: object, number: int) -> bytes:
    low = -(1 << type_.size * 8 - 1) if type_.signed else 0
    high = (1 << type_.size * 8 - type_.signed) - 1
    if isinstance(type_, Int) and type_.boolean:
        low, high = 0, 1
    if not low <= number <= high:
        raise ValueError(f"{_cut(value)} is not between {low} and {high}")
    return number.to_bytes(type_.size, sys.byteorder, signed=type_.signed)


def _encode_array(array: Array, value: object) -> bytes:
    size = sizeof(array)
    element = strip(array.element)
    if isinstance(element, Int) and element.size == 1 and isinstance(value, str):
        raw = os.fsencode(value)
        if len(raw) >= size:
            raise ValueError(f"{value!r} is longer than {size - 1} bytes")
        return raw.ljust(size, b"\0")
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    if len(parts) > array.length:
        raise ValueError(f"{len(parts)} values for {array.length} places")
    return b"".join(_encode(array.element, part) for part in parts).ljust(size, b"\0")


def _number(value: object) -> int:
    if isinstance(value, bool | int):
        return int(value)
    word = str(value).strip().lower()
    if word in _TRUTH:
        return _TRUTH[word]
    try:
        return int(_plain(word), 0)
    except ValueError:
        raise ValueError(f"{_shown(word)} is not a number") from None


def _real(value: object) -> float:
    word = str(value).strip().lower()
    try:
        return float(_plain(word))
    except ValueError:
        raise ValueError(f"{_shown(word)} is not a number") from None


def _plain(word: str) -> str:
    """Return a number's text; refuse what Python reads and C does not: ``1_000``, other scripts' digits."""
    if not word.isascii() or "_" in word or len(word) > _LONGEST:
        raise ValueError(word)
    return word


def _cut(value: object) -> str:
    word = hex(value) if isinstance(value, int) and abs(value) >> 128 else str(value)
    return word if len(word) <= _ECHOED else f"{word[:_ECHOED]}..."


def _shown(word: str) -> str:
    return f"'{_cut(word)}'"
