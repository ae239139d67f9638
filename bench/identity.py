# SPDX-License-Identifier: BSD-2-Clause
"""How many of the shortest containers are named: ``true`` in each, one row each, and the share by field.

    sudo .venv/bin/python bench/identity.py docker|containerd|podman NUMBER [--jobs 8]

The runtime is a private one of the tests (tests/runtimes/NAME.py). A row is found by what was asked to run in
the container, so one that nobody could name counts all the same. Exits with 1 unless all shares are 100 %.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.harness import Row, tracked

FIELDS = ("container.id", "container.name", "container.image", "container.runtime")
Once = Callable[[str, str], object]  # name of the container, word for it to carry


@contextmanager
def runtime(name: str) -> Iterator[Once]:
    """Start a private runtime; yield what runs one container to its end."""
    module = import_module(f"tests.runtimes.{name}")
    with getattr(module, f"private_{name}")() as machine:
        yield once(machine)


def once(machine: Any) -> Once:
    """Return what runs ``true WORD`` in a container of that name: a runtime's ``once``, or its ``run --rm``."""
    if hasattr(machine, "once"):
        return lambda name, word: machine.once(name, "true", word)
    return lambda name, word: machine.run("run", "--rm", "--name", name, machine.image, "true", word)


def measure(run: Once, number: int, jobs: int) -> tuple[list[Row], list[str], float]:
    """Run containers, ``jobs`` at a time; return the rows of their programs, their names, and seconds."""
    mark = f"eu{os.getpid()}"
    names = [f"{mark}-{n}" for n in range(number)]
    with tracked("process") as seen:
        start = time.monotonic()
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda name: run(name, f"word-{name}"), names))
        took = time.monotonic() - start
    inside = [row for row in seen.rows("exec", comm="true") if f"word-{mark}-" in str(row["argv"])]
    return inside, names, took


def shares(rows: list[Row], number: int) -> dict[str, float]:
    """Return what part of the containers has a row, and what part of the rows has each field."""
    found = {"rows": len(rows) / number}
    for field in FIELDS:
        found[field] = sum(bool(row[field]) for row in rows) / (len(rows) or 1)
    found["right name"] = sum(right(row) for row in rows) / (len(rows) or 1)
    return found


def right(row: Row) -> bool:
    """Whether the row has the name of the very container that ran it."""
    return f"word-{row['container.name']}" in row["argv"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runtime", choices=("docker", "containerd", "podman"))
    parser.add_argument("number", type=int)
    parser.add_argument("--jobs", type=int, default=8, help="containers started at the same time")
    given = parser.parse_args()
    with runtime(given.runtime) as run:
        run("warm-up", "nothing")
        rows, _, took = measure(run, given.number, given.jobs)
    print(f"{given.number} containers of {given.runtime} in {took:.1f} s: {given.number / took:.1f}/s")
    print("identity", dict(Counter(row["identity"] for row in rows)))
    found = shares(rows, given.number)
    for field, share in found.items():
        print(f"{field:<18} {share:8.2%}")
    return 0 if set(found.values()) == {1.0} else 1


if __name__ == "__main__":
    sys.exit(main())
