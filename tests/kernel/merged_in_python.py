# SPDX-License-Identifier: BSD-2-Clause
"""How CPUs' values become one, said a second time and slowly: what ``native/tables.c`` is compared with.

``bench/tables.py`` measures it as what reading a table cost while it was done in Python.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence

from eunomia.kernel.percpu import MAX, MIN, ONE, SUM, Part, Plan
from eunomia.kernel.spec import ARRAY, PER_CPU, PERCPU_ARRAY, StreamSpec, aligned


def rows(spec: StreamSpec, cpus: int, keys: bytes, values: bytes, count: int) -> bytes:
    """Return the rows of entries, as :meth:`eunomia.kernel.map_snapshot.Snapshot.rows` does."""
    if spec.map.type in PER_CPU:
        return b"".join(_of_cpus(spec, cpus, keys, values, count))
    key, value = spec.map.key_size, spec.map.value_size
    pad, end = aligned(key) - key, aligned(value) - value
    zero = bytes(value) if spec.map.type == ARRAY else None
    made = []
    for i in range(count):
        content = values[i * value : i * value + value]
        if content != zero:
            made.append(keys[i * key : i * key + key] + bytes(pad) + content + bytes(end))
    return b"".join(made)


def _of_cpus(spec: StreamSpec, cpus: int, keys: bytes, values: bytes, count: int) -> Iterator[bytes]:
    key, stride = spec.map.key_size, aligned(spec.map.value_size)
    for i in range(count):
        start = keys[i * key : i * key + key].ljust(aligned(key), b"\0")
        at = i * cpus * stride
        each = [values[at + c * stride : at + (c + 1) * stride] for c in range(cpus)]
        if spec.cpus is None:
            yield from (start + v + c.to_bytes(8, sys.byteorder) for c, v in enumerate(each) if any(v))
        elif any(map(any, each)) or spec.map.type != PERCPU_ARRAY:
            yield start + merged(spec.cpus, each)


def merged(plan: Plan, each: Sequence[bytes]) -> bytes:
    """Return one record's value out of each CPU's."""
    clock = plan.clock

    def when(value: bytes) -> tuple[int, bool]:
        return (int.from_bytes(value[clock.at : clock.at + 8], sys.byteorder) if clock else 0), any(value)

    latest_first = sorted(each, key=when, reverse=True)
    out = bytearray(plan.size)
    for part in plan.parts:
        if part.rule == ONE and part.bits is None:
            size = part.size * part.many
            raws = [v[part.at : part.at + size] for v in latest_first]
            out[part.to : part.to + size] = next((r for r in raws if any(r)), raws[0])
        else:
            _write(part, _numbers(part, latest_first), out)
    return bytes(out)


def _numbers(part: Part, each: Sequence[bytes]) -> list[int] | list[float]:
    used = [v for v in each if any(v)] or each[:1]
    columns = list(zip(*(_read(part, v) for v in (used if part.rule == MAX else each)), strict=True))
    if part.rule == SUM:
        return [sum(column) for column in columns]
    if part.rule == MAX:
        return [max(column) for column in columns]
    if part.rule == MIN:
        return [min(filter(None, column), default=0) for column in columns]
    return [next(filter(None, column), 0) for column in columns]


def _read(part: Part, value: bytes) -> list[int] | list[float]:
    raw = value[part.at : part.at + part.size * part.many]
    if part.real:
        return list(struct.unpack(f"={part.many}{ {4: 'f', 8: 'd'}[part.size] }", raw))
    numbers = [
        int.from_bytes(raw[i : i + part.size], sys.byteorder, signed=part.signed and part.bits is None)
        for i in range(0, len(raw), part.size)
    ]
    if part.bits is None:
        return numbers
    shift, width = part.bits
    top = 1 << (width - 1)
    numbers = [(n >> shift) & ((1 << width) - 1) for n in numbers]
    return [(n ^ top) - top for n in numbers] if part.signed else numbers


def _write(part: Part, numbers: Sequence[int] | Sequence[float], out: bytearray) -> None:
    if part.real:
        struct.pack_into(f"={part.many}{ {4: 'f', 8: 'd'}[part.size] }", out, part.to, *numbers)
        return
    at = part.to
    for number in numbers:
        wrapped = int(number) & ((1 << 8 * part.wide) - 1)
        out[at : at + part.wide] = wrapped.to_bytes(part.wide, sys.byteorder)
        at += part.wide
