# SPDX-License-Identifier: BSD-2-Clause
"""A stream's JSON Schema (2020-12), and an example row."""

from __future__ import annotations

from collections.abc import Iterable

from eunomia.columns.joined import JOINED, OWNER, Joined, members, nouns
from eunomia.columns.meanings import MEANINGS
from eunomia.columns.meanings import example as made_up
from eunomia.identity import RESOLVED, UNKNOWN
from eunomia.sinks.columns import own_columns
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.stream_schema import Schema


def row_schema(schemas: Iterable[Schema], tracker: str, stream: str, whole: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of a row; ``schemas`` are those of a stream's records.

    ``whole`` rows have all columns of a container and its pod.
    """
    rows = [_row(schema, tracker, stream, ".*" if whole else "") for schema in schemas]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{tracker}/{stream}"}
    return head | (rows[0] if len(rows) == 1 else {"anyOf": rows})


def _row(schema: Schema, tracker: str, stream: str, much: str) -> dict[str, Any]:
    own = {name: schema.column(name).json for name in own_columns(schema)}
    time = schema.column("time")
    properties = {
        "time": time.json | ({"description": time.doc} if time.doc else {}),
        "tracker": {"const": tracker},
        "stream": {"const": stream},
        **own,
        **{noun: _object(members(f"{noun}{much}")) for noun in nouns(OWNER)},
        "identity": JOINED["identity"].json,
    }
    described = {"description": schema.doc} if schema.doc else {}
    return {
        **described,
        "type": "object",
        "properties": properties,
        "required": ["time", "tracker", "stream", *own, "identity"],
        "additionalProperties": False,
    }


def _object(columns: Iterable[Joined]) -> dict[str, Any]:
    found = {column.member: column.json for column in columns}
    return {
        "type": "object",
        "properties": found,
        "required": list(found),
        "additionalProperties": False,
    }


def example(schema: Schema, tracker: str, stream: str) -> dict[str, Any]:
    """Return an example row in JSON, with values made from the fields' meanings."""
    from eunomia.filters import cgroup_field
    from eunomia.process_field import process_field

    whose: dict[str, Any] = {"identity": UNKNOWN}
    if cgroup_field(schema) or process_field(schema):
        facts = ("8f2ac1d07be4" + 52 * "0", "web", "nginx:1.27", "docker")
        container = dict(zip((column.member for column in members("container")), facts, strict=True))
        whose = {"container": container, "identity": RESOLVED}
    return {
        "time": MEANINGS["time"].example,
        "tracker": tracker,
        "stream": stream,
        **{name: made_up(schema.fields[name]) for name in own_columns(schema)},
        **whose,
    }
