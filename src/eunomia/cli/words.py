# SPDX-License-Identifier: BSD-2-Clause
"""Parses values of options: lists, pairs, numbers, times, sizes."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.cli.errors import UsageError


def words(given: Sequence[str]) -> list[str]:
    """Return the words of options that may be repeated or hold several by comma."""
    return [word for one in given for part in one.split(",") if (word := part.strip())]


def pairs(given: Sequence[str], option: str, form: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` words as a dictionary."""
    result = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise UsageError(f"{option}: {shown(word)} is not of the form {form}")
        result[name] = value
    return result


_DIGITS = 20  # of a number; Python refuses to parse thousands of them
_SHOWN = 40  # characters of a wrong value that an error repeats


def shown(word: str) -> str:
    """Return a word in quotes for an error, shortened if it is long."""
    return f"'{word}'" if len(word) <= _SHOWN else f"'{word[:_SHOWN]}...'"


def lists(given: Sequence[str], option: str, form: str) -> dict[str, list[str]]:
    """Return ``NAME=VALUE`` words as a dictionary of each name's values."""
    result: dict[str, list[str]] = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or not name or not value:
            raise UsageError(f"{option}: {word!r} is not of the form {form}")
        if value not in result.setdefault(name, []):
            result[name].append(value)
    return result


def events(given: Sequence[str]) -> dict[str, str]:
    """Return the value of ``--event`` for each buffer: structs, several by comma."""
    result: dict[str, list[str]] = {}
    for word in given:
        for name, value in pairs([word], "--event", "MAP=STRUCT").items():
            result.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in result.items()}


def number(word: str, option: str, least: int) -> int:
    """Return a whole number of at least ``least`` that fits 32 bits, written in decimal digits only."""
    digits = word.lstrip("0") or "0"
    plain = word.isascii() and word.isdigit() and len(digits) <= _DIGITS
    value = int(digits) if plain else -1
    if not least <= value < 1 << 32:
        raise UsageError(f"{option}: {shown(word)} is not a whole number from {least} to {(1 << 32) - 1}")
    return value


_LONGEST = 3650  # days
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}


def _split(word: str) -> tuple[str, str]:
    """Return a number and the unit behind it."""
    number = word.rstrip("".join(_UNITS))
    return number.rstrip(), word[len(number) :]


def _is_decimal(word: str) -> bool:
    whole, dot, rest = word.partition(".")
    return word.isascii() and whole.isdigit() and (rest.isdigit() if dot else True)


def seconds(word: str, option: str) -> float:
    """Return a time such as 500ms, 30s, 5m, 1h or 2.5 in seconds."""
    number, unit = _split(word.strip())
    value = float(number) * _UNITS[unit] if _is_decimal(number) and unit in _UNITS else 0.0
    if not 0.01 <= value <= _LONGEST * 86400:
        raise UsageError(
            f"{option}: {shown(word)} is not a time from 10ms to {_LONGEST}d; write it as in 500ms, 30s, 5m, 1h"
        )
    return value


def byte_size(word: str, option: str) -> int:
    """Return a size such as 100MB or 8MiB in bytes."""
    from eunomia.sinks.writer import parse_size

    try:
        return parse_size(word)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
