# SPDX-License-Identifier: BSD-2-Clause
"""A stream's JSON Schema (2020-12), and a row made up to show its shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eunomia.identity import HOST, PENDING, RESOLVED, UNKNOWN
from eunomia.joined import MAPS
from eunomia.meaning import MEANINGS
from eunomia.sinks.columns import WHOLE, own_columns

if TYPE_CHECKING:
    from eunomia.batch import Field, Schema

_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_PLAIN: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "float": {"type": ["number", "null"]},  # JSON has no word for NaN
    "time": _TIME,
    "be": {"type": "integer"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "absent": {"type": "null"},
    "argv": {"type": "array", "items": {"type": "string"}},
    "kstack": {"type": ["string", "integer"]},  # an id, where its stack is gone
    "ustack": {"type": ["string", "integer"]},
    "wide": {"type": ["integer", "string"]},  # text beyond 64 bits
}
_WHOLE_TAIL = frozenset({"text", "texts", "bytes"})  # of what follows a struct: one value, not a list
_NUMBERS = frozenset({"", "duration", "uid", "gid", "pid", "cgroup_id", "port"})

# One value of each meaning, as it looks in JSON.
_EXAMPLES: dict[str, Any] = {
    "": 1, "wide": 1, "bool": False, "float": 0.5, "duration": 84213, "uid": 1000, "gid": 1000, "pid": 4242,
    "cgroup_id": 7341, "text": "nginx", "bytes": "00ff", "pointer": "0xffff888012345678", "hex": "0x1f",
    "errno": "ENOENT", "signal": "SIGTERM", "syscall": "openat", "capability": "CAP_NET_ADMIN",
    "open_flags": "O_RDONLY|O_CLOEXEC", "mode": "0644", "device": "8:1", "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1", "ip": "192.0.2.1", "ip16": "192.0.2.1", "mac": "02:42:ac:11:00:02",
    "be": 1, "absent": None, "texts": ["ls", "-l"], "port": 443,
    "kstack": "schedule;do_nanosleep", "ustack": "/usr/lib/libc.so.6+0x2a1c0",
    "stack": "schedule;do_nanosleep",

    "time": "2026-11-23T20:05:29.123456789Z", "str": "text", "path": "/etc/passwd", "argv": ["ls", "-l"],
    "exec_id": "node-1:84213000000000:4242", "blob": "00ff", "union": "00ff",
}  # fmt: skip


def row_schema(schemas: Iterable[Schema], tracker: str, stream: str, whole: bool = False) -> dict[str, Any]:
    """Return what a row in JSON looks like; ``schemas`` are a stream's, which only lengths tell apart.

    ``whole`` rows have all that is known of a container and its pod.
    """
    rows = [_row(schema, tracker, stream, ".*" if whole else "") for schema in schemas]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{tracker}/{stream}"}
    return head | (rows[0] if len(rows) == 1 else {"anyOf": rows})


def _row(schema: Schema, tracker: str, stream: str, much: str) -> dict[str, Any]:
    own = {name: _described(schema.fields[name]) for name in own_columns(schema)}
    time = _TIME | ({} if schema.time is None else {"description": schema.time.doc})
    properties = {
        "time": {k: v for k, v in time.items() if v},
        "tracker": {"const": tracker},
        "stream": {"const": stream},
        **own,
        "container": _object(WHOLE[f"container{much}"]),
        "pod": _object(WHOLE[f"pod{much}"]),
        "identity": {"enum": [HOST, RESOLVED, PENDING, UNKNOWN]},
    }
    described = {"description": schema.doc} if schema.doc else {}
    return {
        **described,
        "type": "object",
        "properties": properties,
        "required": ["time", "tracker", "stream", *own, "identity"],
        "additionalProperties": False,
    }


_TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_WORDS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_COUNT: dict[str, Any] = {"type": ["integer", "null"]}
# Members of identities that are no texts.
_MEMBERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(MAPS, _TEXTS),
    "container.pid": _COUNT,
    "container.restarts": _COUNT,
    "container.privileged": {"type": ["boolean", "null"]},
    "container.sandbox": {"type": "boolean"},
    "container.capabilities": _WORDS | {"type": ["array", "null"]},
    "container.mounts": {"type": "array", "items": {"type": "object"}},
    "container.command": _WORDS,
    "container.addresses": _WORDS,
    "container.parents": _WORDS,
    "pod.addresses": _WORDS,
    "pod.services": _WORDS,
}


def _object(names: Iterable[str]) -> dict[str, Any]:
    members = {name.partition(".")[2]: _MEMBERS.get(name, {"type": "string"}) for name in names}
    return {
        "type": "object",
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


def _described(field: Field) -> dict[str, Any]:
    text = ". ".join(filter(None, (field.doc, MEANINGS[field.meaning][0] if field.meaning else "")))
    value = _value(field)
    if field.none is not None and isinstance(value.get("type"), str):
        value = value | {"type": [value["type"], "null"]}
    return value | ({"description": text} if text else {})


def _value(field: Field) -> dict[str, Any]:
    """Return the type of a field's value, as :mod:`eunomia.meaning` renders it."""
    kind = field.meaning
    if kind in _NUMBERS:
        return {"type": "string"} if field.code[-1] == "s" and field.bits is None else {"type": "integer"}
    if kind == "union":
        return {} if field.tag else {"type": "string"}
    if kind == "tail":
        inner = field.parts[0]
        value = _value(inner)
        return value if inner.meaning in _WHOLE_TAIL else {"type": "array", "items": value}
    if kind == "enum":
        return {"anyOf": [{"enum": list(dict.fromkeys((field.names or {}).values()))}, {"type": "integer"}]}
    if kind == "array":
        return {"type": "array", "items": _items(field)}
    if kind == "struct":
        return {
            "type": "object",
            "properties": {part.name: _described(part) for part in field.parts},
            "required": [part.name for part in field.parts],
            "additionalProperties": False,
        }
    return _PLAIN.get(kind, {"type": "string"})


def _items(field: Field) -> dict[str, Any]:
    if field.parts:
        return _value(field.parts[0])
    return {"type": "number" if field.code[-1] in "efd" else "integer"}


def example(schema: Schema, tracker: str, stream: str) -> dict[str, Any]:
    """Return a row as JSON has it, with values made up from what the fields mean."""
    from eunomia.filters import cgroup_field
    from eunomia.whose import who

    whose: dict[str, Any] = {"identity": UNKNOWN}
    if cgroup_field(schema) or who(schema):
        made_up = ("8f2ac1d07be4" + 52 * "0", "web", "nginx:1.27", "docker")
        container = dict(zip((name.partition(".")[2] for name in WHOLE["container"]), made_up, strict=True))
        whose = {"container": container, "identity": RESOLVED}
    return {
        "time": _EXAMPLES["time"],
        "tracker": tracker,
        "stream": stream,
        **{name: _made_up(schema.fields[name]) for name in own_columns(schema)},
        **whose,
    }


def _made_up(field: Field) -> object:
    kind = field.meaning
    if kind == "enum":
        return next(iter((field.names or {}).values()), 0)
    if kind == "struct":
        return {part.name: _made_up(part) for part in field.parts}
    if kind == "tail":
        inner = _made_up(field.parts[0])
        return inner if field.parts[0].meaning in _WHOLE_TAIL else [inner]
    if kind == "array":
        return [_made_up(field.parts[0])] if field.parts else [1, 2]
    return _EXAMPLES[kind]
