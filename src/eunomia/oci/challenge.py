# SPDX-License-Identifier: BSD-2-Clause
"""Reads WWW-Authenticate: how a registry wants to be asked."""

from __future__ import annotations

import re

from eunomia.typing import NamedTuple

_WORD = re.compile(r'[\s,]*(?:([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|([A-Za-z0-9_-]+)(?=\s|,|$))')
_LONGEST = 8192  # characters of the header


class Challenge(NamedTuple):
    """A scheme in lower case, ``basic`` or ``bearer``, and its parameters."""

    scheme: str
    parameters: dict[str, str]


def read(header: str) -> list[Challenge]:
    """Return the challenges in a header, those that cannot be read left out."""
    found: list[Challenge] = []
    at = 0
    header = header[:_LONGEST]
    while (match := _WORD.match(header, at)) is not None:
        at = match.end()
        name, quoted, plain, scheme = match.groups()
        if scheme:
            found.append(Challenge(scheme.lower(), {}))
        elif found:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            found[-1].parameters.setdefault(name.lower(), value)
    return found
