# SPDX-License-Identifier: BSD-2-Clause
"""Pages of text: headings, paragraphs and tables on stdout, fitted to a terminal and escaped."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping, Sequence

from eunomia.sinks.escape import escape, escape_json
from eunomia.sinks.layout import cut_to, measure, terminal_size

_OFF = "\x1b[0m"
BOLD, DIM, RED, GREEN, YELLOW = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"
_LEAST = 24  # least width of a table's last column, in characters
_PARAGRAPH = 100  # the longest line that is easy to read, in characters


class Page:
    """Writes to stdout. ``width`` is the terminal's; None elsewhere, where lines are not wrapped."""

    def __init__(self) -> None:
        """Find out whether stdout is a terminal."""
        terminal = sys.stdout.isatty()
        self.width = terminal_size(sys.stdout.fileno())[0] if terminal else None
        self._color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def styled(self, text: str, style: str) -> str:
        """Return text in a style, if colours are on."""
        return f"{style}{text}{_OFF}" if self._color and style and text else text

    def heading(self, text: str) -> None:
        """Write a highlighted line, after an empty one."""
        sys.stdout.write("\n")
        for part in _wrapped(escape(text), self.width):
            sys.stdout.write(f"{self.styled(part, BOLD)}\n")

    def line(self, text: str, indent: int = 0, style: str = "") -> None:
        """Write a paragraph."""
        indent = self._indent(indent)
        room = min(_PARAGRAPH, self.width) - indent if self.width else None
        for part in _wrapped(escape(text), room):
            sys.stdout.write(" " * indent + self.styled(part, style) + "\n")

    def verbatim(self, text: str, indent: int = 0) -> None:
        """Write lines unchanged, each cut at the terminal's width."""
        indent = self._indent(indent)
        for part in text.splitlines():
            line = escape(part.expandtabs())
            sys.stdout.write(" " * indent + (cut_to(line, self.width - indent) if self.width else line) + "\n")

    def _indent(self, wanted: int) -> int:
        return wanted if self.width is None or self.width > _LEAST else 0

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        indent: int = 0,
        styles: Mapping[str, str] | None = None,
    ) -> None:
        """Write aligned columns; the last one is wrapped. ``styles`` are those of whole cells."""
        table = [[escape(cell) for cell in row] for row in rows]
        widths = [max(map(measure, column)) for column in zip(headers, *table, strict=True)]
        before = indent + sum(widths[:-1]) + 2 * (len(widths) - 1)
        room = self.width - before if self.width else None
        if room is not None and room < min(_LEAST, widths[-1]):  # no room for columns side by side
            for row in table:
                for part in _wrapped("  ".join(filter(None, row)), self.width):
                    sys.stdout.write(f"{part}\n")
            return
        if headers:
            sys.stdout.write(self.styled(self._row(headers, widths, indent), BOLD) + "\n")
        for row in table:
            first, *rest = _wrapped(row[-1], room)
            cells = [self._filled(c, w, styles) for c, w in zip(row[:-1], widths[:-1], strict=True)]
            sys.stdout.write((" " * indent + "  ".join([*cells, first])).rstrip() + "\n")
            for part in rest:
                sys.stdout.write(" " * before + part + "\n")

    def _filled(self, cell: str, width: int, styles: Mapping[str, str] | None) -> str:
        return self.styled(cell, (styles or {}).get(cell, "")) + " " * (width - measure(cell))

    @staticmethod
    def _row(cells: Sequence[str], widths: Sequence[int], indent: int) -> str:
        filled = [c + " " * (w - measure(c)) for c, w in zip(cells, widths, strict=True)]
        return (" " * indent + "  ".join(filled)).rstrip()


def _wrapped(text: str, room: int | None) -> list[str]:
    if room is None:
        return [text]
    return textwrap.wrap(text, max(1, room), break_on_hyphens=False) or [""]


def write_json(thing: object) -> None:
    """Write one JSON object as a line to stdout."""
    import msgspec

    from eunomia.meaning import valid

    line = escape_json(msgspec.json.encode(_encodable(thing, valid)))
    sys.stdout.write(line.decode() + "\n")


def _encodable(thing: object, valid: object) -> object:
    match thing:
        case str():
            return valid(thing)  # type: ignore[operator]
        case dict():
            return {_encodable(k, valid): _encodable(v, valid) for k, v in thing.items()}
        case list() | tuple():
            return [_encodable(v, valid) for v in thing]
        case _:
            return thing
