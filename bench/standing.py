# SPDX-License-Identifier: BSD-2-Clause
"""Many containers that ran before: how soon each is known, and what remembering it costs.

    .venv/bin/python bench/standing.py [NUMBER]

Starts NUMBER (500) Docker containers in a daemon of its own, then asks a fresh process to resolve them all, as
`eunomia run` does when it starts. Some minutes, and 5 GB of memory for Docker's shims.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.runtimes.docker import Docker, private_docker

LOOK = """
import gc, json, resource, sys, time

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

from eunomia.containers.registry import Registry
from eunomia.identity import RESOLVED
registry = Registry()
gc.collect()
before, began = resident(), time.monotonic()
registry.start()
def named():
    known = {i.container for i in registry.values() if i.container is not None and i.state == RESOLVED}
    return sum(c.name.startswith("standing-") and bool(c.image) for c in known)
seconds = time.monotonic() - began
while (found := named()) < int(sys.argv[1]) and time.monotonic() - began < 30:
    time.sleep(0.02)
    registry.tick(time.monotonic_ns())
    seconds = time.monotonic() - began
gc.collect()
print(json.dumps({"seconds": seconds, "resolved": found, "bytes": resident() - before}))
"""


def start(docker: Docker, number: int) -> None:
    options = ["--network", "none", "--label", "com.example.team=shop", "--label", "com.example.tier=front"]

    def one(i: int) -> None:
        docker.run("run", "-d", "--name", f"standing-{i}", *options, docker.image, "sleep", "100000")
        if i % 50 == 49:
            print(f"standing: {i + 1} of {number} started", file=sys.stderr)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(number)))


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with private_docker() as docker:
        began = time.monotonic()
        start(docker, number)
        print(f"standing: {number} containers in {time.monotonic() - began:.0f} s", file=sys.stderr)
        for _ in range(3):
            done = subprocess.run([sys.executable, "-c", LOOK, str(number)], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            each = found["bytes"] / number / 1000
            print(
                f"{found['resolved']} of {number} resolved in {found['seconds']:.2f} s (bound 2), "
                f"{each:.1f} KB of memory each (bound 20)"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
