# SPDX-License-Identifier: BSD-2-Clause
"""Measure what the issue promises, print a table, write JSON: `make bench`, or

.venv/bin/python bench/run.py [--only NAME]... [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from figures import Figure, table
from machine import ROOT, NotMeasured, build, facts, say, tracefs

# In the order of the table: module, what it measures.
MEASURES = {
    "drain": "drain + schema + container join, beside libbpf's callback in C",
    "json_rows": "JSON rows, drain to bytes",
    "outputs": "one source to four outputs, beside the same to two",
    "tables": "a per-CPU map read and merged, beside the same in Python",
    "throughput": "sustained events with none lost",
    "start": "start to first event, memory, wheel",
    "idle": "what a run takes while nothing happens",
    "tax": "what any program on the same hooks costs the calls of others",
    "unwanted": "a system call that no handler wants, beside an empty program on the same hook",
    "swap": "an object replaced while it runs",
    "api": "the server's API: starts, a thousand cycles, swaps, slow readers",
    "cost": "cost to the workload",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure Eunomia beside its twins.")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="this alone (repeatable)")
    parser.add_argument("--quick", action="store_true", help="under 2 minutes, noisier")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bound is not met")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: bench/results/DATE.json")
    return parser.parse_args()


def interrupted(_signo: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    options = arguments()
    if os.geteuid() != 0:
        print("bench: loading probes takes root: sudo make bench", file=sys.stderr)
        return 1
    for signo in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, interrupted)
    build()
    began = datetime.datetime.now(datetime.UTC)
    machine = facts()
    figures: list[Figure] = []
    raw: dict[str, Any] = {}
    cut = False
    try:
        with tracefs():
            for name in options.only or MEASURES:
                say(f"{name}: {MEASURES[name]}")
                since = time.monotonic()
                try:
                    found, raw[name] = importlib.import_module(name).measure(options.quick)
                    figures += found
                except NotMeasured as why:
                    figures.append(Figure(name, None, note=str(why)))
                say(f"{name}: took {time.monotonic() - since:.0f} s")
    except KeyboardInterrupt:
        cut = True
        say("interrupted; what was measured so far:")
    bare = f"a bare getppid() takes {machine['bare_getppid_ns']:.0f} ns"
    print(f"Measured on {machine['cpus']} x {machine['cpu']}, Linux {machine['kernel']}; {bare}\n")
    print(table(figures))
    path = options.json or ROOT / "bench" / "results" / f"{began:%Y-%m-%dT%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [f._asdict() | {"verdict": f.verdict} for f in figures]
    report = {"began": began.isoformat(), "quick": options.quick, "interrupted": cut, "machine": machine}
    report |= {"figures": told, "raw": raw}
    path.write_text(json.dumps(report, indent=1) + "\n")
    say(f"written to {path}")
    if cut:
        return 130
    return 1 if options.strict and any(f.verdict == "NOT MET" for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
