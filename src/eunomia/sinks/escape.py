# SPDX-License-Identifier: BSD-2-Clause
r"""Escapes untrusted text, so that it cannot move a cursor, hide, or start a line."""

from __future__ import annotations

from collections.abc import Sequence

# Escaped in JSON, in addition to what JSON requires: DEL, the C1 controls (U+009B starts a terminal's control
# sequences like ESC [), line and paragraph separators, and bidirectional controls.
_UNSAFE_IN_JSON = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


# What escape() writes; a backslash in the text is doubled if it would read as one of these.
_ESCAPE = r"[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}"


def escape(text: str) -> str:
    r"""Return text with characters that are not printable as ``\n``, ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``.

    ``\xNN`` stands for an ASCII control or for a byte that is not UTF-8 (U+DC80 to U+DCFF in the text). A
    backslash that would read as one of these is ``\\``, any other stays, so the exact text can be recovered.
    """
    if text.isprintable() and "\\" not in text:
        return text
    if "\\" in text:
        import re

        found = re.compile(_ESCAPE)
        ends = len(text) - 1
        return "".join(
            [
                (r"\\" if i < ends and (found.match(text, i + 1) or not text[i + 1].isprintable()) else c)
                if c == "\\"
                else _escaped(c)
                for i, c in enumerate(text)
            ]
        )
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else _SHORT.get(character) or _code(ord(character))


def _code(point: int) -> str:
    if 0xDC80 <= point <= 0xDCFF:  # a byte, see eunomia.meaning.decode()
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def escape_all(texts: Sequence[str]) -> Sequence[str]:
    """Return texts escaped; the same object if there is nothing to escape."""
    joined = "".join(texts)
    if joined.isprintable() and "\\" not in joined:
        return texts
    return list(map(escape, texts))


def escape_json(lines: bytes) -> bytes:
    r"""Return valid JSON with the characters that terminals act upon as ``\uNNNN``.

    In JSON, characters beyond ASCII are only in strings, where an escape means the same.
    """
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    import re

    text = lines.decode("utf-8")
    return re.sub(_UNSAFE_IN_JSON, lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8")
