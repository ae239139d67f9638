# SPDX-License-Identifier: BSD-2-Clause
"""Shortens paths in the middle: their end has the file's name, their beginning the place."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.meaning import UNREACHABLE
from eunomia.sinks.layout import cut_to, measure

_OUTSIDE = f"{UNREACHABLE}/"  # is kept: without it, it would look like a container's own file
_HEAD = 3  # a path's beginning gets one part in so many of its width


def shorten_all(paths: Sequence[str], width: int) -> Sequence[str]:
    """Return paths of at most a width, as in ``/usr/lib/…/libc.so.6``."""
    return [shorten(path, width) for path in paths] if any(len(p) > width or not p.isascii() for p in paths) else paths


def shorten(path: str, width: int) -> str:
    """Return a path of at most ``width`` character cells, with ``…`` for omitted components."""
    if measure(path) <= width:
        return path
    outside = _OUTSIDE if path.startswith(_OUTSIDE) and len(_OUTSIDE) <= width // 2 else ""
    head, tail = path[: max(_boundary(path, width // _HEAD), len(outside))], ""
    for name in reversed(path.split("/")[1:]):
        if measure(head) + 1 + measure(tail) + 1 + measure(name) > width:
            break
        tail = f"/{name}{tail}"
    if tail:
        return f"{head}…{tail}"
    return _ending(path, width)  # a name longer than the width


def _boundary(path: str, most: int) -> int:
    """Return the end of the first components that take at most ``most`` cells together, after their slash."""
    at = 0
    while (next_ := path.find("/", at) + 1) and measure(path[:next_]) <= most:
        at = next_
    return at


def _ending(path: str, width: int) -> str:
    backwards = cut_to(path[::-1], width)
    return backwards[::-1]
