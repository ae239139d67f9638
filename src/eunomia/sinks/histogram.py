# SPDX-License-Identifier: BSD-2-Clause
"""Histograms drawn in text.

Element i of a log2 one counts the values from 2^i up to 2^(i+1) - 1, element i of a linear one those of step i.
"""

from __future__ import annotations

from collections.abc import Sequence

_BAR = 40


def draw(slots: Sequence[int], unit: str = "", scale: str = "log2") -> list[str]:
    """Return lines: a heading, and one a slot up to the last that is not empty; none where all are."""
    last = max((i for i, count in enumerate(slots) if count), default=-1)
    if last < 0:
        return []
    most = max(slots)
    if scale == "linear":
        wide = max(len(unit or "value"), 5)
        lines = [f"{unit or 'value':>{wide}} : {'count':<10} distribution"]
        lines += [f"{i:>{wide}} : {n:<10} |{_bar(n, most)}|" for i, n in enumerate(slots[: last + 1])]
        return lines
    ranges = [(0 if i == 0 else 1 << i, (1 << (i + 1)) - 1) for i in range(last + 1)]
    wide = max(len(str(ranges[-1][1])), 5)
    lines = [f"{unit or 'value':>{2 * wide + 4}} : {'count':<10} distribution"]
    for (low, high), count in zip(ranges, slots, strict=False):
        lines.append(f"{low:>{wide}} -> {high:<{wide}} : {count:<10} |{_bar(count, most)}|")
    return lines


def _bar(count: int, most: int) -> str:
    return f"{'*' * (count * _BAR // most):<{_BAR}}"
