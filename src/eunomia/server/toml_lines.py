# SPDX-License-Identifier: BSD-2-Clause
"""The line of a TOML file on which a value stands, which tomllib does not say."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from eunomia.server.misfits import Path

_MORE = 256 << 10  # characters to parse in search of lines, beside each once


def line_of(text: str, path: Path) -> int | None:
    """Return the line on which the statement for a path begins, or else that of what is around it.

    ``text`` is valid TOML. None if there is no such statement, or if the search takes too long.
    """
    lines = _lines(text)
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


@lru_cache(1)
def _lines(text: str) -> dict[Path, int]:
    """Return the line of each path."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}  # of the tables in a list that [[...]] makes
    header: Path = ()
    for line, statement in _statements(text):
        data = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            header = _header(data, counts)
            for depth in range(1, len(header) + 1):
                found.setdefault(header[:depth], line)
        else:
            for path in _paths(data, header):
                found.setdefault(path, line)
    return found


def _header(data: Any, counts: dict[Path, int]) -> Path:
    """Return the path of the table that a header begins."""
    path: Path = ()
    while data:
        ((key, data),) = data.items()
        path = (*path, key)
        if isinstance(data, list):  # [[...]], the last word of it
            counts[path] = counts.get(path, 0) + 1
            return (*path, counts[path] - 1)
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _paths(value: Any, path: Path) -> Iterator[Path]:
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from _paths(inner, (*path, key))


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement, and the number of its first line; it is the least that is TOML by itself."""
    lines = text.replace("\r\n", "\n").split("\n")
    start, left = 0, len(text) + _MORE
    for at, line in enumerate(lines):
        if line.partition("#")[0].rstrip().endswith(",") and at + 1 < len(lines):  # a list goes on
            continue
        statement = "\n".join(lines[start : at + 1])
        left -= len(statement)
        if left < 0:
            return
        try:
            tomllib.loads(statement)
        except (ValueError, RecursionError):
            continue
        yield start + 1, statement
        start = at + 1
