# SPDX-License-Identifier: BSD-2-Clause
"""Checks of ``eunomia doctor``: each module has ``findings()``."""

from __future__ import annotations

from eunomia.typing import NamedTuple

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"


class Finding(NamedTuple):
    """The result of a check: its ``state``, what was ``found``, and what to ``do`` about it.

    ``fail``: a tracker, or all, cannot run. ``warn``: something is missing or slow. ``unknown``: it cannot be checked,
    usually because rights are missing.
    """

    subject: str
    state: str
    found: str
    do: str = ""


def read(path: str) -> str | None:
    """Return a small file's text without the final newline; None if it is missing or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read(4096).strip()
    except OSError:
        return None
