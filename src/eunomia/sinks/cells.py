# SPDX-License-Identifier: BSD-2-Clause
"""Values as text of one line, for CSV and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eunomia.batch import JOINED
from eunomia.sinks.escape import escape, escape_all

if TYPE_CHECKING:
    from eunomia.batch import Field
    from eunomia.identity import Identity

# Meanings whose values are numbers, or text of our own making that needs no escaping.
NUMBERS = frozenset({"", "float", "duration", "uid", "gid", "pid", "cgroup_id", "port"})
_OURS = NUMBERS | {
    "bytes", "pointer", "hex", "errno", "signal", "syscall", "capability", "open_flags", "mode", "device",
    "ipv4", "ipv6", "ip", "time",
}  # fmt: skip


def texts(field: Field, values: Sequence[Any]) -> Iterable[Any]:
    """Return a column's values as numbers or as text without control characters.

    Lists of texts become a shell's words, other lists and objects JSON.
    """
    if field.tag or field.meaning not in _OURS:
        kind = field.meaning
        if kind == "bool":
            return ["true" if v else "false" for v in values]
        if not field.tag and kind in {"text", "str", "path"}:
            return escape_all(values)
        return escape_all([text(v) for v in values])
    return values


def text(value: object) -> str:
    """Return any value as text, not yet escaped."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        import shlex

        return shlex.join(value)
    if isinstance(value, list | tuple) and not value:
        return ""
    if isinstance(value, bool | list | tuple | dict):
        import msgspec

        return msgspec.json.encode(value).decode()
    return str(value)


def joined_texts(identity: Identity) -> tuple[str, ...]:
    """Return the columns :data:`eunomia.batch.JOINED` of an identity, escaped; empty where not known."""
    cells = []
    for name in JOINED[:-1]:
        noun, _, member = name.partition(".")
        cells.append(escape(getattr(getattr(identity, noun), member, "")))
    return (*cells, identity.state)
