# SPDX-License-Identifier: BSD-2-Clause
"""Drain + schema + container join an event, as a ratio to libbpf's callback in C on the same records."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from flood import IN_C, flood
from machine import NotMeasured, say

# The first is what the bound is on.
STEPS = {
    "columns": "drain + schema + container join",
    "count": "drain alone",
    "touched": "and six fields read",
}


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds, calls = (3, 1_000_000) if quick else (7, 3_000_000)
    ns: dict[str, list[float]] = {consumer: [] for consumer in (IN_C, *STEPS)}
    why = ""
    for n in range(rounds):
        say(f"drain: round {n + 1} of {rounds}")
        ns[IN_C].append(flood(IN_C, count=calls).cpu_ns_per_event)
        for consumer in STEPS:
            try:
                if not why:
                    ns[consumer].append(flood(consumer, count=calls).cpu_ns_per_event)
            except NotMeasured as reason:
                why = str(reason)
    return [_figure(consumer, what, ns, why) for consumer, what in STEPS.items()], ns


def _figure(consumer: str, what: str, ns: dict[str, list[float]], why: str) -> Figure:
    beside = f"C callback {statistics.median(ns[IN_C]):.1f} ns an event"
    ratio = None
    if ns[consumer]:
        ratio = statistics.median(ours / c for ours, c in zip(ns[consumer], ns[IN_C], strict=True))
        beside = f"{statistics.median(ns[consumer]):.1f} ns an event; {beside}"
    bound = 3.0 if consumer == "columns" else None
    return Figure(f"drain: {what}, ratio to C", ratio, "x", bound, beside, why)
