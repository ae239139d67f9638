# SPDX-License-Identifier: BSD-2-Clause
"""Members of unions without a name stand side by side in a row, although a record holds one of them only."""

from __future__ import annotations

from collections.abc import Iterable

from eunomia.batch import Field


def hint(fields: Iterable[Field]) -> str:
    """Return what to say of members that share bytes; empty where none do."""
    last: Field | None = None
    for field in sorted((f for f in fields if f.bits is None and f.size), key=lambda f: (f.offset, -f.size)):
        if last is not None and field.offset < last.offset + last.size:
            return f"{last.name} and {field.name} share bytes of the record (a union): one of them holds in each row"
        if last is None or field.offset + field.size > last.offset + last.size:
            last = field
    return ""
