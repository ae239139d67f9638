# SPDX-License-Identifier: BSD-2-Clause
"""Sustained events a second with none lost, and the consumer's CPU at that rate."""

from __future__ import annotations

from typing import Any

from figures import Figure
from flood import CLI, IN_C, Outcome, flood
from machine import NotMeasured, say

CONSUMERS = {CLI: "JSON to /dev/null", "count": "count only", IN_C: "C callback"}
SLOWEST = 20_000


def sustained(consumer: str, steps: int, seconds: float) -> Outcome:
    """Halve the span between a rate with none lost and one with some, by ratio; the highest with none."""
    full = flood(consumer, seconds=seconds)
    if not full.lost:
        return full
    low, high, best = float(SLOWEST), full.per_second, None
    for _ in range(steps):
        rate = (low * high) ** 0.5
        tried = flood(consumer, seconds=seconds, rate=rate)
        say(f"throughput: {CONSUMERS[consumer]}, {tried.per_second:,.0f}/s, {max(tried.lost, 0):,} lost")
        if tried.lost:
            high = rate
        else:
            low, best = rate, tried
    if best is None:
        raise NotMeasured(f"loses events even at {high:,.0f}/s")
    return best


def measure(quick: bool) -> tuple[list[Figure], Any]:
    steps, seconds = (5, 0.5) if quick else (7, 2.0)
    found: dict[str, Outcome] = {}
    figures = []
    for consumer, what in CONSUMERS.items():
        note, best = "", None
        try:
            best = found[consumer] = sustained(consumer, steps, seconds)
            note = f"consumer {best.cpu_percent:.0f} % of a core, {best.cpu_ns_per_event:.0f} ns an event"
        except NotMeasured as why:
            note = str(why)
        if consumer != IN_C:
            figures.append(
                Figure(f"throughput: {what}, none lost", best and best.per_second, "/s", None, "", note)
            )
        else:
            figures = [
                f._replace(twin=f"C callback {best.per_second:,.0f}/s" if best else note) for f in figures
            ]
    return figures, found
