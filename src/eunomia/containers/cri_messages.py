# SPDX-License-Identifier: BSD-2-Clause
"""Encoding of the messages of the Container Runtime Interface that are used here.

Fields are read by their numbers in the public API (``api.proto`` of k8s.io/cri-api; the same in v1 and v1alpha2).
The encoding is https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

FIELDS_LIMIT = 20_000  # of one message that are read

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES = 10


class Message:
    """A received message; a field that is missing, or of another type, is empty, 0 or nothing."""

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        """Raises :class:`ValueError` for an invalid message."""
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def text(self, number: int) -> str:
        """Return a text field; bytes that are not UTF-8 are replaced."""
        value = self._fields.get(number, [b""])[-1]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""

    def number(self, number: int) -> int:
        """Return a signed number, an enum's value or a boolean."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            return 0
        return value - (1 << 64) if value >= 1 << 63 else value

    def message(self, number: int) -> Message:
        """Return a nested message; raises :class:`ValueError` for an invalid one."""
        value = self._fields.get(number, [b""])[-1]
        return Message(value if isinstance(value, bytes) else b"")

    def messages(self, number: int) -> Iterator[Message]:
        """Yield the messages of a repeated field; raises :class:`ValueError` for an invalid one."""
        for value in self._fields.get(number, ()):
            if isinstance(value, bytes):
                yield Message(value)

    def texts(self, number: int) -> dict[str, str]:
        """Return a map of texts; raises :class:`ValueError` for an invalid one."""
        return {entry.text(1): entry.text(2) for entry in self.messages(number)}


def encoded(message: Mapping[int, str | Mapping[int, str]]) -> bytes:
    """Return the bytes of a request made of texts and nested messages of texts."""
    out = b""
    for number, value in message.items():
        data = value.encode() if isinstance(value, str) else encoded(value)
        out += _length(number << 3 | _LENGTH) + _length(len(data)) + data
    return out


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = count = 0
    while at < len(data):
        count += 1
        if count > FIELDS_LIMIT:
            raise ValueError(f"a message of more than {FIELDS_LIMIT} fields")
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            size, at = _varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        if size > len(data) - at:
            raise ValueError("a field goes beyond the end of the message")
        if kind == _LENGTH:
            yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_VARINT_BYTES):
        if at + i >= len(data):
            raise ValueError("a number goes beyond the end of the message")
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & (1 << 64) - 1, at + i + 1
    raise ValueError("a number of more than ten bytes")
