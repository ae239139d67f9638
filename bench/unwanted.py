# SPDX-License-Identifier: BSD-2-Clause
"""What a system call costs that no handler wants, with any number of handlers of other calls on the shared hook."""

from __future__ import annotations

import contextlib
import statistics
from typing import Any

from figures import Figure
from loads import run_load
from machine import BUILT, LOAD_CPU

HANDLERS = (1, 5, 20, 40)
BOUND = 1.15
EMPTY = "one empty program"


def measure(quick: bool) -> tuple[list[Figure], Any]:
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    def load(*programs: str) -> Loaded:
        return Loaded.attached(Spec.open(BUILT / "unwanted.bpf.o", quick="empty" not in programs), programs=programs)

    def cost() -> float:
        return float(run_load("getppid", "-n", str(calls), "-c", str(LOAD_CPU))["cpu_ns_per_op"])

    rounds, calls = (3, 300_000) if quick else (9, 1_000_000)
    costs: dict[str, list[float]] = {name: [] for name in ("bare", EMPTY, *map(str, HANDLERS))}
    for _ in range(rounds):
        costs["bare"].append(cost())
        with load("empty"):
            costs[EMPTY].append(cost())
        with contextlib.ExitStack() as stack:
            for count in range(1, max(HANDLERS) + 1):
                stack.enter_context(load("of_mkdir" if count % 2 else "of_unlink"))  # a call takes 23 at most
                if count in HANDLERS:
                    costs[str(count)].append(cost())
    bare, empty = statistics.median(costs["bare"]), statistics.median(costs[EMPTY])
    beside = f"{EMPTY} there {empty:.0f} ns, bare {bare:.0f}"
    figures = []
    for count in HANDLERS:
        pairs = zip(costs[str(count)], costs[EMPTY], strict=True)
        ratio = statistics.median(cost / empty for cost, empty in pairs)
        what = f"unwanted: getppid with {count} {'handler' if count == 1 else 'handlers'} of other calls"
        figures.append(Figure(what, ratio, "x", BOUND, beside))
    return figures, costs
