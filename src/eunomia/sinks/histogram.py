# SPDX-License-Identifier: BSD-2-Clause
"""Draws histograms as text, with the ranges of their scale (:class:`eunomia.stream_schema.Scale`)."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.stream_schema import Scale

_BAR = 40


def draw(slots: Sequence[int], name: str, scale: Scale) -> list[str]:
    """Return lines: a heading, and one per element up to the last that is not zero; none if all are zero."""
    last = max((i for i, count in enumerate(slots) if count), default=-1)
    if last < 0:
        return []
    ranges = [_range(i, scale) for i in range(last + 1)]
    wide = max(len(str(ranges[-1][1])), 5)
    labels = [f"{low:>{wide}} -> {high:<{wide}}" if high != low else f"{low:>{wide}}" for low, high in ranges]
    if scale.more and last == len(slots) - 1:
        labels[-1] = f"{ranges[-1][0]:>{wide}} -> {'...':<{wide}}"
    title = f"{name} ({scale.unit})" if scale.unit else name
    room, most = max(map(len, [title, *labels])), max(slots)
    lines = [f"{title:>{room}} : {'count':<10} distribution"]
    for label, count in zip(labels, slots, strict=False):
        lines.append(f"{label:<{room}} : {count:<10} |{_bar(count, most)}|")
    return lines


def _range(i: int, scale: Scale) -> tuple[int, int]:
    """Return the least and the greatest value that an element counts."""
    if scale.kind == "linear":
        return i * scale.step, (i + 1) * scale.step - 1
    return (1 << i if i else 0), (1 << (i + 1)) - 1


def _bar(count: int, most: int) -> str:
    return f"{'*' * (count * _BAR // most):<{_BAR}}"
