# SPDX-License-Identifier: BSD-2-Clause
"""Parser of runtimes' timestamps: nanoseconds since the epoch, 0 for anything invalid or earlier."""

from __future__ import annotations

_NEVER = 0
_DAY = 86_400
_YEAR_9999 = 253_402_300_800  # seconds


def nanoseconds(value: object) -> int:
    """Return a time like ``2026-11-23T23:38:00.123456789+01:00`` (RFC 3339); Go's zero time is 0."""
    if not isinstance(value, str) or not 20 <= len(value) <= 40 or not value.isascii():
        return _NEVER
    date, zone, offset = value[:19], value[19:], 0
    fraction = ""
    if zone.startswith("."):
        digits = zone[1:].rstrip("Zz") if zone[-1:] in "Zz" else zone[1:-6]
        fraction, zone = digits, zone[1 + len(digits) :]
    try:
        if zone not in {"Z", "z"}:
            sign = {"+": 1, "-": -1}[zone[0]]
            offset = sign * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)
        year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
        hour, minute, second = int(date[11:13]), int(date[14:16]), int(date[17:19])
        part = int(f"{fraction:0<9}"[:9])
    except (ValueError, KeyError, IndexError):
        return _NEVER
    seconds = _days(year, month, day) * _DAY + hour * 3600 + minute * 60 + second - offset
    return seconds * 1_000_000_000 + part if 0 < seconds < _YEAR_9999 else _NEVER


def _days(year: int, month: int, day: int) -> int:
    """Return days since the epoch in the Gregorian calendar; years begin in March, so leap days come last."""
    year -= month <= 2
    in_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + in_year - 719_468
