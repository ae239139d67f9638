# SPDX-License-Identifier: BSD-2-Clause
"""The line of a TOML file on which a value stands, which tomllib does not say."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from typing import Any

from eunomia.server.misfits import Path

_MOST = 1 << 20  # characters to parse in search of a line


def line_of(text: str, path: Path) -> int | None:
    """Return the line on which the statement for a path begins, or else that of what is around it.

    ``text`` is valid TOML. None if there is no such statement, or if the search takes too long.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    starts = _statements(lines)
    while path and starts:
        # what a beginning of the file has, longer ones have too
        ends = [*starts[1:], len(lines)]
        at = bisect_left(ends, True, key=lambda end: _has(_parsed(lines[:end]), path))
        if at < len(ends):
            return starts[at] + 1
        path = path[:-1]
    return None


def _statements(lines: list[str]) -> list[int]:
    """Return the index of each statement's first line; a statement is the least that is TOML by itself."""
    starts, start, left = [], 0, _MOST
    for at, line in enumerate(lines):
        if line.partition("#")[0].rstrip().endswith(",") and at + 1 < len(lines):  # a list goes on
            continue
        statement = lines[start : at + 1]
        left -= sum(map(len, statement))
        if left < 0:
            return []
        if _parsed(statement) is not None:
            starts.append(start)
            start = at + 1
    return starts


def _parsed(lines: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None


def _has(data: dict[str, Any] | None, path: Path) -> bool:
    value: Any = data
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
