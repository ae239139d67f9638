# SPDX-License-Identifier: BSD-2-Clause
"""Drain + schema + container join an event, as a ratio to libbpf's callback in C on the same records."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from flood import IN_C, flood
from machine import NotMeasured, say


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds, calls = (3, 1_000_000) if quick else (7, 3_000_000)
    pairs: list[tuple[float, float]] = []
    in_c: list[float] = []
    why = ""
    for n in range(rounds):
        say(f"drain: round {n + 1} of {rounds}")
        in_c.append(flood(IN_C, count=calls).cpu_ns_per_event)
        if why:
            continue
        try:
            pairs.append((flood("columns", count=calls).cpu_ns_per_event, in_c[-1]))
        except NotMeasured as reason:
            why = str(reason)
    ratio = statistics.median(ours / c for ours, c in pairs) if pairs else None
    beside = f"C callback {statistics.median(in_c):.1f} ns an event"
    if pairs:
        beside = f"{statistics.median(ours for ours, _ in pairs):.1f} ns an event; {beside}"
    name = "drain + schema + container join, ratio to C"
    return [Figure(name, ratio, "x", 3.0, beside, why)], {"pairs_ns": pairs, "in_c_ns": in_c}
