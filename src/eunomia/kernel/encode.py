# SPDX-License-Identifier: BSD-2-Clause
"""Encodes values that users write as the bytes of a C type."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator, Sequence

from eunomia.kernel.schema import schema, spell
from eunomia.kernel.types import Array, Enum, Float, Int, Member, Struct, Type, sizeof, strip

_ORDER = "<" if sys.byteorder == "little" else ">"
_LONGEST = 400  # characters of a number: Python refuses to read thousands of digits
_ECHOED = 40  # characters of a wrong value that an error repeats
_TRUTH = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}


def encode(type_: Type, value: object) -> bytes:
    """Return the bytes of a value, given as text or as a Python number, bool or list.

    Raises :class:`ValueError` if it does not fit the type.
    """
    try:
        return _encode(type_, value)
    except (OverflowError, struct.error) as error:
        raise ValueError(str(error)) from None


def _encode(type_: Type, value: object) -> bytes:
    bare = strip(type_)
    if isinstance(bare, Int) and (kind := schema(type_).fields["value"].meaning) in {"ipv4", "port", "be"}:
        return _network(bare, value, kind)
    match bare:
        case Float():
            return struct.pack(_ORDER + {4: "f", 8: "d"}[bare.size], _real(value))
        case Int(size=4, char=False) if isinstance(value, str) and _is_v4(value.strip()):
            return address(value.strip(), 4)  # network byte order
        case Int():
            return integer(bare, value, number(value))
        case Enum():
            return _enum(bare, value)
        case Array():
            return _array(bare, value)
        case Struct(union=False):
            return _struct(bare, value)
    raise ValueError(f"cannot be set: it is a {spell(type_)}")


def _is_v4(word: str) -> bool:
    parts = word.split(".")
    return len(parts) == 4 and all(map(str.isdecimal, parts))


def address(word: str, size: int) -> bytes:
    """Return an address of IPv4 (4 bytes) or IPv6 (16), or a MAC (6), in network byte order."""
    import socket

    if size == 6:
        return bytes.fromhex(word.replace(":", ""))
    try:
        return socket.inet_pton(socket.AF_INET if size == 4 else socket.AF_INET6, word)
    except (OSError, ValueError):
        raise ValueError(f"{shown(word)} is not an IPv{4 if size == 4 else 6} address") from None


def _network(type_: Int, value: object, kind: str) -> bytes:
    """Return a number or an address in network byte order, given as it is shown."""
    if kind == "ipv4" and "." in str(value):
        return address(str(value).strip(), 4)
    raw = integer(type_, value, number(value))
    return raw[::-1] if sys.byteorder == "little" and kind != "ipv4" else raw


def integer(type_: Int | Enum, value: object, wanted: int) -> bytes:
    """Return a number's bytes; raises :class:`ValueError` with ``value`` if it does not fit."""
    low = -(1 << type_.size * 8 - 1) if type_.signed else 0
    high = (1 << type_.size * 8 - type_.signed) - 1
    if isinstance(type_, Int) and type_.boolean:
        low, high = 0, 1
    if not low <= wanted <= high:
        raise ValueError(f"{_cut(value)} is not between {low} and {high}")
    return wanted.to_bytes(type_.size, sys.byteorder, signed=type_.signed)


def bits(member: Member, value: object) -> int:
    """Return the value of a bit field, as the low bits of a number."""
    bare = strip(member.type)
    signed = isinstance(bare, Int | Enum) and bare.signed
    wanted = enumerator(bare, value) if isinstance(bare, Enum) else number(value)
    low, high = (-(1 << member.bits - 1), (1 << member.bits - 1) - 1) if signed else (0, (1 << member.bits) - 1)
    if not low <= wanted <= high:
        raise ValueError(f"{_cut(value)} is not between {low} and {high}")
    return wanted & (1 << member.bits) - 1


def enumerator(type_: Enum, value: object) -> int:
    """Return the number for an enumeration's name or a number."""
    numbers = {name: number_ for number_, name in type_.names.items()}
    if str(value) in numbers:
        return numbers[str(value)]
    try:
        return number(value)
    except ValueError:
        raise ValueError(f"{shown(str(value))} is none of {', '.join(numbers)}") from None


def _enum(type_: Enum, value: object) -> bytes:
    return integer(type_, value, enumerator(type_, value))


def _array(array: Array, value: object) -> bytes:
    size = sizeof(array)
    element = strip(array.element)
    if isinstance(value, str) and not isinstance(element, Struct):
        if size == 16 and not _is_char(element) and ":" in value:
            return address(value.strip(), 16)
        if size == 6 and _is_mac(value.strip()):
            return address(value.strip(), 6)
        if isinstance(element, Int) and element.size == 1 and (_is_char(element) or not _numbers(value)):
            return _text(value, size)
    parts = split(value) if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(element, Array) and not _holds_text(element) and isinstance(value, str):
        array, element = _flat(array), strip(_flat(array).element)
    if len(parts) > array.length:
        raise ValueError(f"{len(parts)} values for {array.length} elements")
    return b"".join(_encode(array.element, part) for part in parts).ljust(size, b"\0")


def _is_mac(word: str) -> bool:
    parts = word.split(":")
    return len(parts) == 6 and all(len(part) == 2 and not part.strip("0123456789abcdefABCDEF") for part in parts)


def _text(value: str, size: int) -> bytes:
    raw = os.fsencode(value)
    if len(raw) >= size:
        raise ValueError(f"{shown(value)} is longer than {size - 1} bytes")
    return raw.ljust(size, b"\0")


def _is_char(type_: Type) -> bool:
    return isinstance(type_, Int) and type_.char


def _holds_text(array: Array) -> bool:
    element = strip(array.element)
    return isinstance(element, Int) and element.size == 1


def _flat(array: Array) -> Array:
    length, element = array.length, strip(array.element)
    while isinstance(element, Array):
        length, element = length * element.length, strip(element.element)
    return Array(element, length)


def _numbers(value: str) -> bool:
    """Return whether a text is a list of numbers: byte arrays accept these and text."""
    try:
        return all(number(part) is not None for part in value.split(","))
    except ValueError:
        return False


def _struct(type_: Struct, value: object) -> bytes:
    """Return a struct's bytes, given as values in the order of its members, or as ``member=value``."""
    parts = split(value) if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    named = [str(part).partition("=") for part in parts]
    members = list(leaves(type_))
    out = bytearray(type_.size)
    if all(sign for _, sign, _ in named):
        by_name = dict(members)
        for name, _, word in named:
            if name not in by_name:
                raise ValueError(f"it has no member {shown(name)}: it has {', '.join(by_name)}")
            put(out, by_name[name], word)
        return bytes(out)
    if len(parts) != len(members):
        raise ValueError(f"{len(parts)} values for its {len(members)} members: {', '.join(p for p, _ in members)}")
    for (_, member), part in zip(members, parts, strict=True):
        put(out, member, part)
    return bytes(out)


def put(out: bytearray, member: Member, value: object) -> None:
    """Write a member's value into the bytes of its struct."""
    if not member.bits:
        raw = encode(member.type, value)
        out[member.bit_offset // 8 : member.bit_offset // 8 + len(raw)] = raw
        return
    first, last = member.bit_offset // 8, (member.bit_offset + member.bits - 1) // 8
    span = int.from_bytes(out[first : last + 1], sys.byteorder)
    shift = member.bit_offset - 8 * first
    if sys.byteorder == "big":
        shift = 8 * (last + 1 - first) - shift - member.bits
    mask = (1 << member.bits) - 1 << shift
    span = span & ~mask | bits(member, value) << shift
    out[first : last + 1] = span.to_bytes(last + 1 - first, sys.byteorder)


def _is_padding(name: str) -> bool:
    word = name.strip("_").rstrip("0123456789")
    return word in {"pad", "padding"}


def leaves(type_: Struct, before: str = "", bit_offset: int = 0) -> Iterator[tuple[str, Member]]:
    """Yield the members of a struct that hold values, with their paths; named padding is left out."""
    for member in type_.members:
        bare = strip(member.type)
        path = f"{before}.{member.name}" if before and member.name else before or member.name
        at = bit_offset + member.bit_offset
        if isinstance(bare, Struct) and not bare.union:
            yield from leaves(bare, path, at)
        elif member.name and not _is_padding(member.name):
            yield path, member._replace(bit_offset=at)


def split(value: str) -> Sequence[str]:
    """Split a text at commas; braces around all of it, as in C, are allowed."""
    inner = value.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    return [part.strip() for part in inner.split(",")]


def number(value: object) -> int:
    """Return a number, given as one or as in C: ``10``, ``0x10``, ``true``."""
    if isinstance(value, bool | int):
        return int(value)
    word = str(value).strip().lower()
    if word in _TRUTH:
        return _TRUTH[word]
    try:
        return int(_plain(word), 0)
    except ValueError:
        raise ValueError(f"{shown(word)} is not a number") from None


def _real(value: object) -> float:
    word = str(value).strip().lower()
    try:
        return float(_plain(word))
    except ValueError:
        raise ValueError(f"{shown(word)} is not a number") from None


def _plain(word: str) -> str:
    """Return a number's text; refuse what Python accepts and C does not: ``1_000``, digits of other scripts."""
    if not word.isascii() or "_" in word or len(word) > _LONGEST:
        raise ValueError(word)
    return word


def _cut(value: object) -> str:
    word = hex(value) if isinstance(value, int) and abs(value) >> 128 else str(value)
    return word if len(word) <= _ECHOED else f"{word[:_ECHOED]}..."


def shown(word: str) -> str:
    """Return a wrong word in quotes, shortened if it is long."""
    return f"'{_cut(word)}'"
