# SPDX-License-Identifier: BSD-2-Clause
"""The floor under "a syscall that nobody asked for": empty programs on the hooks that there are."""

from __future__ import annotations

import statistics
from typing import Any

from figures import Figure
from loads import run_load
from machine import BUILT, LOAD_CPU

HOOKS = {
    "": (),
    "tp/syscalls exit": ("tp_exit",),
    "tp/syscalls enter and exit": ("tp_enter", "tp_exit"),
    "raw_tp sys_exit": ("raw_exit",),
}


def measure(quick: bool) -> tuple[list[Figure], Any]:
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    rounds, calls = (3, 300_000) if quick else (7, 1_000_000)
    costs: dict[str, list[float]] = {name: [] for name in HOOKS}
    for _ in range(rounds):
        for name, programs in HOOKS.items():
            with Loaded.attached(Spec.open(BUILT / "tax.bpf.o"), programs=programs):
                told = run_load("getppid", "-n", str(calls), "-c", str(LOAD_CPU))
                costs[name].append(float(told["cpu_ns_per_op"]))
    bare = statistics.median(costs.pop(""))
    figures = [
        Figure(f"tax: getppid under an empty program on {name}", statistics.median(each) - bare, "ns more", None,
               f"bare {bare:.0f} ns")
        for name, each in costs.items()
    ]  # fmt: skip
    return figures, {"bare": bare, "costs": costs}
