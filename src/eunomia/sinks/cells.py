# SPDX-License-Identifier: BSD-2-Clause
"""Values as text of one line, for CSV and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eunomia.joined import look
from eunomia.meaning import valid
from eunomia.sinks.escape import escape, escape_all

if TYPE_CHECKING:
    from eunomia.actor import Process
    from eunomia.batch import Field
    from eunomia.identity import Identity

# Meanings whose values are numbers, or text of our own making that needs no escaping.
NUMBERS = frozenset({"", "float", "duration", "uid", "gid", "pid", "cgroup_id", "port", "be"})
_OURS = NUMBERS | {
    "bytes", "pointer", "hex", "errno", "signal", "syscall", "capability", "open_flags", "mode", "device",
    "ipv4", "ipv6", "ip", "ip16", "mac", "time",
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
    if isinstance(value, list | tuple | dict) and not value:
        return ""
    if isinstance(value, bool | list | tuple | dict):
        import msgspec

        try:
            return msgspec.json.encode(value).decode()
        except UnicodeEncodeError:  # bytes that are not UTF-8
            return msgspec.json.encode(valid(value)).decode()
    return str(value)


def joined_texts(names: Iterable[str]) -> Callable[[Identity], tuple[str, ...]]:
    """Return what makes columns of :mod:`eunomia.joined` of an identity, escaped; empty where not known."""
    looks = [look(name) for name in names]
    return lambda identity: tuple(escape(text(one(identity))) for one in looks)


def acting_texts(names: Iterable[str]) -> Callable[[Process], tuple[Any, ...]]:
    """Return what makes columns of a process, escaped; empty where not known, numbers as they are."""
    names = tuple(names)
    return lambda process: tuple(_acting_text(process, name) for name in names)


def _acting_text(process: Process, name: str) -> object:
    if name == "process.ancestors":
        return escape("<-".join([above.comm for above in process.ancestors()]))
    value = process.value(name)
    return (value or "") if isinstance(value, int) else escape(text(value))
