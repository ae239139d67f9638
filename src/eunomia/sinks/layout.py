# SPDX-License-Identifier: BSD-2-Clause
"""Layout of tables: the widths of columns, and text cut or filled to a width."""

from __future__ import annotations

import os
from collections.abc import Sequence

from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.columns.column import Column

_WIDEST = 24  # the most that a column of text may grow to
_WIDEST_LONG = 40  # the same for text of any length, without a terminal
_WIDEST_NUMBER = 20
_NARROWEST = 8
_WIDTH = 14  # of the table's own columns


class TableColumn:
    """One column: its heading, its width so far, and whether it shares the rest of the line."""

    __slots__ = ("flexible", "header", "is_path", "name", "right", "style", "widest", "width")

    def __init__(self, name: str, column: Column | None, flexible: bool = False) -> None:
        """Take a column of the stream's, or None for one of the table's own."""
        self.name = name
        self.header = (name if column is None else column.label).upper()
        self.is_path = column is not None and column.is_path
        self.right = column is not None and column.right
        self.style = "" if column is None else column.style
        self.flexible = flexible if column is None else column.flexible
        self.width = max(_WIDTH if column is None else column.width, len(self.header))
        widest = _WIDEST_NUMBER if self.right else _WIDEST_LONG if self.flexible else _WIDEST
        self.widest = max(self.width, widest)

    def grow(self, seen: int) -> bool:
        """Take the width of cells into account; return whether the column became wider."""
        wanted = min(seen, self.widest)
        if wanted <= self.width:
            return False
        self.width = wanted
        return True


def widths(columns: Sequence[TableColumn], line: int) -> list[int]:
    """Return the columns' widths in a line of so many characters, the last one's up to the line's end."""
    flexible = [c for c in columns if c.flexible]
    left = line - sum(c.width for c in columns if not c.flexible) - (len(columns) - 1)
    share = max(_NARROWEST, left // len(flexible)) if flexible else 0
    found = [max(share, len(c.header)) if c.flexible else c.width for c in columns]
    if columns and columns[-1].flexible:
        found[-1] = max(found[-1], line - sum(found[:-1]) - (len(columns) - 1))
    return found


def fill(cells: Sequence[str], width: int, *, right: bool = False, cut: bool = True) -> list[str]:
    """Return cells filled to a width in character cells of a terminal; longer ones are cut if ``cut``."""
    plain = "".join(cells).isascii()
    if cut:
        cells = cut_all(cells, width)
    if plain:
        return [c.rjust(width) for c in cells] if right else [c.ljust(width) for c in cells]
    gaps = [" " * (width - measure(c)) for c in cells]
    return [gap + c if right else c + gap for c, gap in zip(cells, gaps, strict=True)]


def cut_all(cells: Sequence[str], width: int) -> Sequence[str]:
    """Return cells of at most a width."""
    if not "".join(cells).isascii():
        return [cut_to(c, width) for c in cells]
    if max(map(len, cells), default=0) <= width:
        return cells
    return [c if len(c) <= width else f"{c[: width - 1]}…" for c in cells]


def longest(cells: Sequence[str]) -> int:
    """Return the width of the widest cell."""
    return max(map(len if "".join(cells).isascii() else measure, cells), default=0)


_WIDE = 6  # digits of COLUMNS and LINES past which they are no terminal's size


def measure(text: str) -> int:
    """Return how many character cells a terminal takes for a text."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    wide = int(wcswidth(text))
    return wide if wide >= 0 else len(text)


def cut_to(text: str, width: int) -> str:
    """Return a text that takes at most ``width`` character cells, ``…`` at its end where it was cut."""
    if measure(text) <= width:
        return text
    from wcwidth import wcwidth

    taken = 0
    for i, character in enumerate(text):
        taken += max(0, int(wcwidth(character)))
        if taken > width - 1:
            return f"{text[:i]}…"
    return text


def terminal_size(fd: int) -> tuple[int, int]:
    """Return columns and lines of a terminal; COLUMNS and LINES in the environment come first."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        columns, lines = 0, 0
    asked = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    columns, lines = (
        int(text) if text.isdecimal() and len(text) < _WIDE and int(text) > 0 else size
        for text, size in zip(asked, (columns, lines), strict=True)
    )
    return columns or 80, lines or 24
