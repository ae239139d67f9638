# SPDX-License-Identifier: BSD-2-Clause
"""Draw what a command wrote to a terminal: ``terminal_svg.py 'COMMAND' <RECORDED >docs/terminal.svg``.

The recording is the terminal's bytes, as of ``script -q -c 'eunomia run process' RECORDED``; the few colours
that Eunomia uses are kept.
"""

from __future__ import annotations

import re
import sys
from html import escape

STYLES = {"0": "", "1": "b", "2": "d", "31": "r", "36": "c"}
LINE, CELL, EDGE = 18, 7.83, 14  # pixels; a cell's width is that of 13 pixel monospace


def spans(line: str) -> str:
    """Return a line's text as SVG, each run of one style by itself."""
    parts, style = [], ""
    for piece in re.split(r"(\x1b\[\d*m)", line):
        if piece.startswith("\x1b["):
            style = STYLES.get(piece[2:-1], "")
        elif piece:
            text = escape(piece, quote=False)
            parts.append(f'<tspan class="{style}">{text}</tspan>' if style else text)
    return "".join(parts)


def draw(command: str, recorded: str) -> str:
    """Return the picture."""
    lines = [f"\x1b[2m#\x1b[0m \x1b[1m{command}\x1b[0m", *recorded.replace("\r", "").splitlines()]
    wide = max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in lines)
    width, height = round(2 * EDGE + CELL * wide), 2 * EDGE + LINE * len(lines)
    rows = (f'<text x="{EDGE}" y="{EDGE + LINE * i + 13}">{spans(line)}</text>' for i, line in enumerate(lines))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" '
            f'viewBox="0 0 {width} {height}" width="{width}">',
            "<!-- made by tools/terminal_svg.py from a real run -->",
            "<style>text{font:13px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d7dce2;"
            "white-space:pre}.b{font-weight:700;fill:#fff}.d{fill:#7d8896}.r{fill:#ff7b72}.c{fill:#56d4dd}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#14181d"/>',
            *rows,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(draw(sys.argv[1], sys.stdin.buffer.read().decode("utf-8", "replace")))
