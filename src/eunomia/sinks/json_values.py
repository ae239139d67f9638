# SPDX-License-Identifier: BSD-2-Clause
"""Values in JSON: by msgspec once many come at a time, for importing it takes longer than starting Python.

Until then they are written here as msgspec writes them; values of kinds that are seldom are left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.meaning import valid
from eunomia.typing import Any

MANY = 256  # at a time; it takes some 3 MB, too, and a quiet machine never has so many

_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_ESCAPES = {i: f"\\u{i:04x}" for i in range(32)} | {ord(c): word for c, word in _SHORT.items()}
_MIN, _MAX = -(1 << 63), (1 << 64) - 1


class _Left(Exception):
    """A value of a kind that is left to msgspec."""


def encoded(value: Any) -> bytes:
    """Return a value in JSON; bytes of texts that are not UTF-8 as :func:`valid` has them."""
    try:
        return _plain(value).encode()
    except _Left:
        import msgspec

        return msgspec.json.encode(valid(value))


class Lines:
    """Makes lines of values, one a line."""

    def __init__(self) -> None:
        self._encode: Callable[[Any], bytes] | None = None

    def __call__(self, values: Sequence[Any]) -> bytes:
        """Return values in JSON, one a line."""
        if self._encode is None and len(values) <= MANY:
            try:
                return "".join([f"{_plain(value)}\n" for value in values]).encode()
            except _Left:
                pass
        if self._encode is None:
            import msgspec

            self._encode = msgspec.json.Encoder().encode_lines
        try:
            return self._encode(values)
        except UnicodeEncodeError:  # bytes that are not UTF-8
            return self._encode(list(map(valid, values)))


def _plain(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int and _MIN <= value <= _MAX:
        return str(value)
    if value is None or kind is bool:
        return "null" if value is None else "true" if value else "false"
    if kind is list or kind is tuple:
        return f"[{','.join(map(_plain, value))}]"
    if kind is dict and all(type(key) is str for key in value):
        return f"{{{','.join([f'{_text(k)}:{_plain(v)}' for k, v in value.items()])}}}"
    raise _Left


def _text(text: str) -> str:
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{valid(text).translate(_ESCAPES)}"'
