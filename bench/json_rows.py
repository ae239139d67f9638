# SPDX-License-Identifier: BSD-2-Clause
"""JSON rows, drain to bytes written, with container identity and ten fields, in CPU ns an event."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from flood import CLI, Outcome, flood
from machine import NotMeasured, say

RATE = 200_000  # events a second, well within what one core writes


def _rounds(consumer: str, rounds: int, seconds: float) -> tuple[list[Outcome], str]:
    found: list[Outcome] = []
    for n in range(rounds):
        say(f"json_rows: {consumer}, round {n + 1} of {rounds}")
        try:
            found.append(flood(consumer, seconds=seconds, rate=RATE))
        except NotMeasured as why:
            return found, str(why)
    return found, ""


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds, seconds = (3, 0.5) if quick else (5, 2.0)
    library, why = _rounds("json", rounds, seconds)
    command, why_not = _rounds(CLI, rounds, seconds)

    def median(outcomes: list[Outcome]) -> float | None:
        return statistics.median(o.cpu_ns_per_event for o in outcomes) if outcomes else None

    beside = ""
    if library:
        bare = statistics.median(o.told["encode_ns_per_row"] for o in library)
        size = library[0].told["bytes_per_row"]
        beside = f"msgspec encode_lines alone {bare:.0f} ns, {size:.0f} bytes a row"
    figures = [
        Figure("JSON rows: drain to bytes, identity + 10 fields", median(library), "ns", 900.0, beside, why),
        Figure(
            "JSON rows: the same by `eunomia run`, whole process", median(command), "ns", None, "", why_not
        ),
    ]
    return figures, {"library": library, "command": command}
