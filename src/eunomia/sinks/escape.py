# SPDX-License-Identifier: BSD-2-Clause
r"""Text from outside made harmless: nothing that it holds can move a cursor, hide, or start a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Escaped in JSON, beside what JSON escapes itself: DEL, the C1 controls (U+009B starts a terminal's control
# sequences as ESC [ does), line and paragraph separators, and what turns the direction of writing.
_UNSAFE_IN_JSON = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    r"""Return text with all that is not printable as ``\n``, ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else _SHORT.get(c) or _code(ord(c)) for c in text])


def _code(point: int) -> str:
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def escape_all(texts: Sequence[str]) -> Sequence[str]:
    """Return texts escaped; the same object where there is nothing to escape."""
    if "".join(texts).isprintable():
        return texts
    return list(map(escape, texts))


def escape_json(lines: bytes) -> bytes:
    r"""Return valid JSON with the characters that terminals act upon as ``\uNNNN``.

    In JSON, characters beyond ASCII stand in strings only, where an escape means the same.
    """
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    import re

    text = lines.decode("utf-8")
    return re.sub(_UNSAFE_IN_JSON, lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8")


def valid(value: Any) -> Any:
    r"""Return what can be encoded: lone surrogates in texts, which some parsers let pass, as ``\udNNN``."""
    if isinstance(value, list):
        return [valid(one) for one in value]
    if isinstance(value, dict):
        return {valid(key): valid(one) for key, one in value.items()}
    if not isinstance(value, str):
        return value
    return _valid(value)


def _valid(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text
