# SPDX-License-Identifier: BSD-2-Clause
"""Log2 histograms, as arrays whose element i counts the values from 2^i up to 2^(i+1) - 1, drawn in text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.batch import Field

_BAR = 40
_LEAST = 8  # elements; a shorter array is a list


def is_histogram(field: Field) -> bool:
    """Whether a field's name and type say that it is one."""
    named = field.name.rpartition(".")[2].lower().startswith(("slots", "hist", "buckets"))
    count = field.code[:-1]
    return named and field.meaning == "array" and not field.parts and count.isdigit() and int(count) >= _LEAST


def draw(slots: Sequence[int], unit: str = "") -> list[str]:
    """Return lines: a heading, and one a slot up to the last that is not empty; none where all are."""
    last = max((i for i, count in enumerate(slots) if count), default=-1)
    if last < 0:
        return []
    most = max(slots)
    ranges = [(0 if i == 0 else 1 << i, (1 << (i + 1)) - 1) for i in range(last + 1)]
    wide = max(len(str(ranges[-1][1])), 5)
    lines = [f"{unit or 'value':>{2 * wide + 4}} : {'count':<10} distribution"]
    for (low, high), count in zip(ranges, slots, strict=False):
        bar = "*" * (count * _BAR // most)
        lines.append(f"{low:>{wide}} -> {high:<{wide}} : {count:<10} |{bar:<{_BAR}}|")
    return lines
