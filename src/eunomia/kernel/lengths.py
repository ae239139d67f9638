# SPDX-License-Identifier: BSD-2-Clause
"""Finds the member of a struct with the used length of an array, such as ``args_size`` for ``args``.

Without one, text ends at its first NUL: the bytes after it may be left over from another record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eunomia.stream_schema import Field

# Arrays of several texts separated by NULs, if there is a member with their length or number.
_VECTORS = frozenset({"args", "argv", "arguments", "cmdline", "cmd_line", "full_args", "env", "envp", "environ"})
_BUFFERS = _VECTORS | {
    "data", "buf", "buffer", "payload", "msg", "message", "content", "contents", "body", "line", "str", "text",
    "packet", "pkt", "bytes", "raw", "output", "input",
}  # fmt: skip

_IN_BYTES = ("len", "size", "length", "sz", "bytes")
_IN_PIECES = ("count", "cnt", "num", "nr", "n", "c")
_OF_THE_REST = (*_IN_BYTES, "count", "cnt", "num", "nr", "n", "depth")  # of an array at the end of a record
_NUMBERS = frozenset("bBhHiIqQ")


def resolved(fields: Sequence[Field]) -> list[Field]:
    """Give texts, bytes and an array at the end of a record the member with their length."""
    by_name = {f.name: f for f in fields if f.meaning == "" and f.bits is None and f.code in _NUMBERS}
    return [_resolve(field, by_name) if field.meaning in {"text", "bytes", "tail"} else field for field in fields]


def _resolve(field: Field, numbers: Mapping[str, Field]) -> Field:
    prefix, dot, name = field.name.rpartition(".")
    own = name.lower()
    stems = dict.fromkeys((own, own.removesuffix("s"), own.rstrip("v0123456789")))
    length = _first(numbers, prefix + dot, [w for s in stems for n in _IN_BYTES for w in _named(s, n)])
    count = _first(numbers, prefix + dot, [w for s in stems for n in _IN_PIECES for w in _named(s, n)])
    if not length and not count and (own in _BUFFERS or field.meaning == "tail"):
        length = _first(numbers, prefix + dot, _OF_THE_REST if field.meaning == "tail" else _IN_BYTES)
    if own not in _VECTORS:
        # a number of elements applies to texts, and to arrays that are not counted in bytes
        return field._replace(length=length or (count if field.meaning == "tail" else ""))
    field = field._replace(length=length, count_in=count)
    if field.meaning == "tail" and field.parts[0].meaning == "text":
        return field._replace(parts=(field.parts[0]._replace(meaning="texts"),))
    return field._replace(meaning="texts") if (length or count) and field.meaning == "text" else field


def _named(stem: str, word: str) -> list[str]:
    """Return the possible names of the member with the length or the number of ``stem``."""
    return [f"{stem}_{word}", f"{stem}{word}", f"{word}_{stem}", f"{word}_of_{stem}"]


def _first(numbers: Mapping[str, Field], prefix: str, names: Sequence[str]) -> str:
    return next((prefix + name for name in names if prefix + name in numbers), "")


def hint(fields: Sequence[Field]) -> str:
    """Return a hint for arrays that may hold several texts, of which only the first is shown."""
    short = [f.name for f in fields if f.meaning == "text" and f.name.rpartition(".")[2].lower() in _VECTORS]
    if not short:
        return ""
    which = short[0]
    return f"{which} is shown up to its first NUL: no member ({which}_size, {which}_count) gives its length"
