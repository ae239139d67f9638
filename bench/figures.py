# SPDX-License-Identifier: BSD-2-Clause
"""A measured figure, what it may be, and the table of all of them."""

from __future__ import annotations

import shutil
from typing import NamedTuple


class Figure(NamedTuple):
    """One line of the table. ``value`` is None where it could not be measured; ``note`` says why.

    ``bound`` is the most it may be, None where the issue asks only for the figure.
    """

    measure: str
    value: float | None
    unit: str = ""
    bound: float | None = None
    twin: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.bound is None:
            return ""
        return "met" if self.value <= self.bound else "NOT MET"


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.2f}"


def table(figures: list[Figure]) -> str:
    head = ("measure", "figure", "bound", "verdict", "beside it")
    lines = [head]
    for f in figures:
        bound = "" if f.bound is None else f"<= {f.bound:g}"
        beside = "; ".join(text for text in (f.twin, f.note) if text)
        figure = "-" if f.value is None else f"{shown(f.value)} {f.unit}".strip()
        lines.append((f.measure, figure, bound, f.verdict, beside))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    room = max(40, shutil.get_terminal_size((160, 24)).columns - sum(widths) - 8)
    out = []
    for n, line in enumerate(lines):
        cells = [
            line[0].ljust(widths[0]),
            line[1].rjust(widths[1]),
            *(line[i].ljust(widths[i]) for i in (2, 3)),
        ]
        beside = line[4] if len(line[4]) <= room else line[4][: room - 1] + "…"
        out.append("  ".join([*cells, beside]).rstrip())
        if n == 0:
            out.append("-" * min(sum(widths) + 8 + 20, 140))
    return "\n".join(out)
