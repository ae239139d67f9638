# SPDX-License-Identifier: BSD-2-Clause
"""Finds arrays that are histograms: by their declared type, by what the code does, or because the user says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eunomia.kernel.errors import BadObject, BadSetting
from eunomia.kernel.types import Array, Typedef
from eunomia.stream_schema import Field, Scale, Schema

LOG2, LINEAR = "log2", "linear"
_TYPES = {"hist_log2_t": LOG2, "hist_linear_t": LINEAR}  # of eunomia/types.h
_LEAST = 8  # elements; shorter arrays are not considered
_STEP, _UNIT = "hist_step:", "hist_unit:"


def declared(field: Field, array: Array, tags: tuple[str, ...]) -> Field:
    """Return an array's column with the scale that its element's type declares, and its unit and step.

    Raises :class:`BadObject` if these are invalid.
    """
    element = array.element
    while isinstance(element, Typedef):
        if element.ours and element.name in _TYPES and _is_array(field, 1):
            said = {prefix: tag[len(prefix) :] for tag in tags for prefix in (_STEP, _UNIT) if tag.startswith(prefix)}
            step = _step(field.name, said.get(_STEP, "1"))
            kind = _TYPES[element.name]
            return field._replace(scale=Scale(kind, said.get(_UNIT, ""), step, more=True, why="its type says so"))
        element = element.target
    return field


def _step(name: str, text: str) -> int:
    try:
        step = int(text.strip("() ").rstrip("uUlL"), 0)
    except ValueError:
        step = 0
    if not 0 < step < 1 << 64:
        raise BadObject(f"{name}: hist_step({text}) is not a whole number above 0")
    return step


def evident(schema: Schema, counts: Callable[[Field, int], str]) -> Schema:
    """Return a schema in which arrays that count powers of two are histograms.

    ``counts`` returns the function that counts so in a column of so many elements, empty for none.
    """
    scales = {}
    for field in schema.fields.values():
        if field.scale is None and _is_array(field, _LEAST):
            function = counts(field, int(field.code[:-1]))
            if function:
                scales[field.name] = Scale(LOG2, why=f"{function} counts numbers by their highest bit")
    return _with(schema, scales) if scales else schema


def likely(schema: Schema) -> str:
    """Return the first array with a histogram's name that is not known to be one; empty for none."""
    return next((f.name for f in schema.fields.values() if f.scale is None and _is_called_histogram(f)), "")


def chosen(schema: Schema, stream: str, scales: Mapping[str, str]) -> Schema:
    """Return a schema with the scales that the user gives; raises :class:`BadSetting`."""
    for name, scale in scales.items():
        field = schema.fields.get(name)
        if scale not in (LOG2, LINEAR):
            raise BadSetting(f"{stream}.{name}: {scale!r} is neither {LOG2} nor {LINEAR}")
        if field is None or not _is_array(field, 1):
            fitting = ", ".join(f.name for f in schema.fields.values() if _is_array(f, 1)) or "none"
            raise BadSetting(f"{stream} has no array of numbers called {name!r}: there are {fitting}")
    return _with(schema, {name: Scale(scale, why="--histogram says so") for name, scale in scales.items()})


def _with(schema: Schema, scales: Mapping[str, Scale]) -> Schema:
    fields = [f._replace(scale=scales.get(f.name, f.scale)) for f in schema.fields.values()]
    return Schema(schema.name, schema.size, fields, schema.doc)


def _is_called_histogram(field: Field) -> bool:
    name = field.name.rpartition(".")[2].lower()
    return name.startswith(("slots", "hist", "buckets")) and _is_array(field, _LEAST)


def _is_array(field: Field, least: int) -> bool:
    count = field.code[:-1]
    whole = field.code[-1] not in "sefd?"
    return field.meaning == "array" and not field.parts and whole and count.isdigit() and int(count) >= least
