# SPDX-License-Identifier: BSD-2-Clause
"""One source to four outputs beside the same source to two: CPU an event, in turns."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from flood import Outcome, flood, losses
from machine import NotMeasured, say

RATE = 200_000  # events a second
FEW, MANY = 2, 4
# What the outputs do with rows: the first shows what outputs cost by themselves, and has the bound.
KINDS = {"discard": "that discard", "json": "that encode JSON"}
BOUND = 1.2


def measure(quick: bool) -> tuple[list[Figure], Any]:
    rounds, seconds = (3, 0.5) if quick else (7, 2.0)
    runs: dict[str, list[Outcome]] = {f"{kind}-{n}": [] for kind in KINDS for n in (FEW, MANY)}
    why = ""
    for n in range(rounds):
        say(f"outputs: round {n + 1} of {rounds}")
        for consumer, found in runs.items():
            try:
                found.append(flood(consumer, seconds=seconds, rate=RATE))
            except NotMeasured as reason:
                why = str(reason)
    return [_figure(kind, what, runs, why) for kind, what in KINDS.items()], runs


def _figure(kind: str, what: str, runs: dict[str, list[Outcome]], why: str) -> Figure:
    few, many = ([o.cpu_ns_per_event for o in runs[f"{kind}-{n}"]] for n in (FEW, MANY))
    ratio, beside = None, ""
    if few and many:
        ratio = statistics.median(four / two for two, four in zip(few, many, strict=False))
        beside = f"{statistics.median(many):.0f} ns an event, two outputs {statistics.median(few):.0f} ns"
    note = why or losses(runs[f"{kind}-{MANY}"])
    return Figure(f"outputs: four over two {what}", ratio, "x", BOUND if kind == "discard" else None, beside, note)
