# SPDX-License-Identifier: BSD-2-Clause
"""What the registry costs the engine: a join, a join of ids that no event reported, and a tick with nothing to do.

    .venv/bin/python bench/joins.py [CONTAINERS]

CPU time of the engine's thread, the best of several rounds, with CONTAINERS (500) of Docker's known.
"""

from __future__ import annotations

import itertools
import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.containers.stage import write_config

from eunomia.batch import Batch
from eunomia.containers.daemons import DataRoot
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.docker import Docker
from eunomia.stream_schema import Field, Schema

ROWS, CGROUPS, ROUNDS = 4096, 16, 30
SCHEMA = Schema("row", 8, [Field("cgroup_id", 0, 8, "Q", "cgroup_id")])


def rows(ids: list[int]) -> Batch:
    """Return a batch whose rows are of these cgroups in turn."""
    return Batch(SCHEMA, struct.pack(f"={ROWS}Q", *itertools.islice(itertools.cycle(ids), ROWS)))


def best(function: Callable[[], object], times: int = 1) -> float:
    """Return the microseconds of CPU that a call takes."""
    took = []
    for _ in range(ROUNDS):
        began = time.thread_time_ns()
        for _ in range(times):
            function()
        took.append((time.thread_time_ns() - began) / times / 1000)
    return min(took)


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        for i in range(number):
            write_config(top, f"{i:064x}", ID=f"{i:064x}", Name=f"/c{i}")
            (top / f"cgroup/docker/{i:064x}").mkdir(parents=True)
        registry = Registry([Docker([DataRoot("/", directory)])], mount=f"{directory}/cgroup")
        began = time.thread_time()
        registry.start()
        found = {"start of all, ms": (time.thread_time() - began) * 1000}
        ids = [i for i, identity in registry.items() if identity.container is not None][:CGROUPS]
        found["join, us"] = best(lambda: registry.join(rows(ids), "cgroup_id")) - best(lambda: rows(ids))
        unheard = itertools.count(1 << 40)

        def strange() -> None:
            registry.join(rows([next(unheard) for _ in range(CGROUPS)]), "cgroup_id")

        took = []
        for _ in range(5):
            time.sleep(0.6)
            began = time.thread_time_ns()
            strange()
            took.append((time.thread_time_ns() - began) / 1000)
        found["join of unheard-of ids, us (of which a batch is made in some 50)"] = max(took)
        registry.tick(time.monotonic_ns())
        found["tick, us"] = best(lambda: registry.tick(time.monotonic_ns()), 1000)
        found["look, us"] = best(lambda: registry.look(time.monotonic_ns()), 1000)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
