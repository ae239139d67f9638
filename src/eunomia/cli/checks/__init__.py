# SPDX-License-Identifier: BSD-2-Clause
"""What ``eunomia doctor`` looks at: each module has ``findings()``."""

from __future__ import annotations

from eunomia.typing import NamedTuple

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"


class Finding(NamedTuple):
    """One thing that was looked at: its ``state``, what was ``found``, and what to ``do`` about it.

    ``fail``: no tracker can do its work, or one cannot. ``warn``: something is less than it could be.
    ``unknown``: it cannot be told, mostly for want of rights.
    """

    subject: str
    state: str
    found: str
    do: str = ""


def read(path: str) -> str | None:
    """Return a small file's text without its end of line; None where it is missing or not to be read."""
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read(4096).strip()
    except OSError:
        return None
