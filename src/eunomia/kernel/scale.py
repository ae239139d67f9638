# SPDX-License-Identifier: BSD-2-Clause
"""Which arrays are histograms, and of which scale: of powers of two, or linear."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eunomia.batch import Field, Schema
from eunomia.kernel.errors import BadSetting

LOG2, LINEAR = "log2", "linear"
_LEAST = 8  # elements; a shorter array is a list


def scaled(schema: Schema, takes_log2: Callable[[], bool]) -> tuple[Schema, list[str]]:
    """Return a schema whose histograms have a scale, and the names of those whose scale is a guess.

    Those called ``slots``, ``hist...`` or ``buckets...`` are histograms. They are of powers of two where some code
    of the object looks for the highest bit of a number, else linear.
    """
    found = [f.name for f in schema.fields.values() if _is_called_histogram(f)]
    if not found:
        return schema, []
    scale = LOG2 if takes_log2() else LINEAR
    return _with(schema, {name: _named(name) or scale for name in found}), [
        n for n in found if scale == LINEAR and not _named(n)
    ]


def chosen(schema: Schema, stream: str, scales: Mapping[str, str]) -> Schema:
    """Return a schema with what the user says of its columns; raises :class:`BadSetting`."""
    for name, scale in scales.items():
        field = schema.fields.get(name)
        if scale not in (LOG2, LINEAR):
            raise BadSetting(f"{stream}.{name}: {scale!r} is neither {LOG2} nor {LINEAR}")
        if field is None or not _is_array(field, 1):
            fitting = ", ".join(f.name for f in schema.fields.values() if _is_array(f, 1)) or "none"
            raise BadSetting(f"{stream} has no array of numbers called {name!r}: there are {fitting}")
    return _with(schema, scales)


def _with(schema: Schema, scales: Mapping[str, str]) -> Schema:
    fields = [f._replace(scale=scales.get(f.name, f.scale)) for f in schema.fields.values()]
    return Schema(schema.name, schema.size, fields, schema.doc)


def _named(name: str) -> str:
    words = name.lower().replace(".", "_").split("_")
    return LOG2 if "log2" in words else LINEAR if {"linear", "lin"} & set(words) else ""


def _is_called_histogram(field: Field) -> bool:
    name = field.name.rpartition(".")[2].lower()
    return name.startswith(("slots", "hist", "buckets")) and _is_array(field, _LEAST)


def _is_array(field: Field, least: int) -> bool:
    count = field.code[:-1]
    whole = field.code[-1] not in "sefd"
    return field.meaning == "array" and not field.parts and whole and count.isdigit() and int(count) >= least
