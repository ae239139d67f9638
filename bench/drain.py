# SPDX-License-Identifier: BSD-2-Clause
"""Drain + schema + container join an event, as a ratio to libbpf's callback in C on the same records."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from flood import IN_C, Outcome, flood, losses
from machine import NotMeasured, say

# The first is what the bound is on.
STEPS = {
    "columns": "drain + schema + container join",
    "count": "drain alone",
    "touched": "and six fields read",
}


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds, calls = (3, 1_000_000) if quick else (7, 3_000_000)
    runs: dict[str, list[Outcome]] = {consumer: [] for consumer in (IN_C, *STEPS)}
    why = ""
    for n in range(rounds):
        say(f"drain: round {n + 1} of {rounds}")
        runs[IN_C].append(flood(IN_C, count=calls))
        for consumer in STEPS:
            try:
                if not why:
                    runs[consumer].append(flood(consumer, count=calls))
            except NotMeasured as reason:
                why = str(reason)
    return [_figure(consumer, what, runs, why) for consumer, what in STEPS.items()], runs


def _figure(consumer: str, what: str, runs: dict[str, list[Outcome]], why: str) -> Figure:
    ours, in_c = ([o.cpu_ns_per_event for o in runs[name]] for name in (consumer, IN_C))
    beside = f"C callback {statistics.median(in_c):.1f} ns an event"
    ratio = None
    if ours:
        ratio = statistics.median(mine / c for mine, c in zip(ours, in_c, strict=True))
        beside = f"{statistics.median(ours):.1f} ns an event; {beside}"
    bound = 3.0 if consumer == "columns" else None
    note = why or losses(runs[consumer])
    return Figure(f"drain: {what}, ratio to C", ratio, "x", bound, beside, note)
