# SPDX-License-Identifier: BSD-2-Clause
"""Hints for unnamed unions: their members are separate columns, but a record holds only one of them."""

from __future__ import annotations

from collections.abc import Iterable

from eunomia.stream_schema import Field


def hint(fields: Iterable[Field]) -> str:
    """Return a hint for members that share bytes; empty if there are none."""
    last: Field | None = None
    for field in sorted((f for f in fields if f.bits is None and f.size), key=lambda f: (f.offset, -f.size)):
        if last is not None and field.offset < last.offset + last.size:
            return f"{last.name} and {field.name} share bytes of the record (a union): only one is valid in each row"
        if last is None or field.offset + field.size > last.offset + last.size:
            last = field
    return ""
