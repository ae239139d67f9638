# SPDX-License-Identifier: BSD-2-Clause
"""JSON rows, drain to bytes written, with container identity and ten fields, in CPU ns an event."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from flood import CLI, Outcome, flood, losses
from machine import NotMeasured, say

BURST = 50_000  # events that a ring of 4 MB holds: none is lost, and the consumer works without a pause
RATE = 200_000  # events a second, a thousand at each look; between two looks caches go cold
TEN = "identity + 10 fields"


def _rounds(consumer: str, rounds: int, **load: float) -> tuple[list[Outcome], str]:
    found: list[Outcome] = []
    for n in range(rounds):
        say(f"json_rows: {consumer}, {load}, round {n + 1} of {rounds}")
        try:
            found.append(flood(consumer, **load))  # type: ignore[arg-type]
        except NotMeasured as why:
            return found, str(why)
    return found, ""


def _median(outcomes: list[Outcome]) -> float | None:
    return statistics.median(o.cpu_ns_per_event for o in outcomes) if outcomes else None


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds, seconds = (3, 0.5) if quick else (7, 2.0)
    burst, why = _rounds("json", rounds, count=BURST)
    steady, _ = _rounds("json", max(3, rounds - 4), seconds=seconds, rate=RATE)
    command, why_not = _rounds(CLI, max(3, rounds - 4), seconds=seconds, rate=RATE)
    beside = ""
    if burst:
        bare = statistics.median(o.told["encode_ns_per_row"] for o in burst)
        size = burst[0].told["bytes_per_row"]
        beside = f"msgspec encode_lines alone {bare:.0f} ns, {size:.0f} bytes a row"
    at_rate = f"at {RATE:,}/s"
    figures = [
        Figure(
            f"JSON rows: drain to bytes, {TEN}", _median(burst), "ns", 650.0, beside, why or losses(burst)
        ),
        Figure(f"JSON rows: the same {at_rate}", _median(steady), "ns", None, "", why or losses(steady)),
        Figure(
            f"JSON rows: `eunomia run` {at_rate}, all its CPU",
            _median(command),
            "ns",
            None,
            "",
            why_not or losses(command),
        ),
    ]
    return figures, {"burst": burst, "steady": steady, "command": command}
