# SPDX-License-Identifier: BSD-2-Clause
"""python -m tests.fuzz.uploads [--seed N] [--objects N]: broken objects, read as those of strangers are.

Each is refused with a sentence, or described. Counts what the process, its helper and their descriptors and memory
were before and after.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from eunomia.kernel.errors import BadObject
from eunomia.kernel.foreign import sandbox
from tests.fuzz.mutate import mutated
from tests.kernel import compiled

ROOT = Path(__file__).parents[2]
WARM_UP = 100  # objects after which memory is as large as it gets
ENDS = {
    "crashes": "crashed what reads it",
    "takes more than": "took too long",
    "of memory": "took too much memory",
    "may be an attack": "called what reading does not need",
    "answered nonsense": "answered nonsense",
    "reading it fails": "raised what our readers do not declare",
}


class Held(NamedTuple):
    """What this process and its helper hold: descriptors of both, processes, kilobytes of memory of both."""

    descriptors: int
    helper_descriptors: int
    processes: int
    memory: int
    helper_memory: int


def objects() -> list[bytes]:
    """Return real objects: those of the package, and those written as strangers' for the tests."""
    ours = [path.read_bytes() for path in sorted((ROOT / "src").rglob("*.bpf.o"))]
    sources = [path.read_text() for path in sorted((ROOT / "tests/foreign").glob("*.bpf.c"))]
    return ours + [compiled.bpf(source) for source in sources if "vmlinux.h" not in source]


def broken(seed: int, count: int) -> Iterator[bytes]:
    seeds = objects()
    for number in range(count):
        random = Random(f"{seed}/{number}")
        yield mutated(random.choice(seeds), random)


def outcome(data: bytes) -> str:
    """Return what became of an object; raises what :func:`sandbox.inspect` must not raise."""
    try:
        sandbox.inspect(data, "x")
    except BadObject as error:
        return next((end for words, end in ENDS.items() if words in str(error)), "refused")
    return "described"


def descendants(pid: int) -> list[int]:
    below = [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    return below + [further for child in below for further in descendants(child)]


def memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def held() -> Held:
    below = descendants(os.getpid())
    return Held(
        len(os.listdir("/proc/self/fd")),
        sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in below),
        len(below),
        memory(os.getpid()),
        sum(map(memory, below)),
    )


def run(seed: int, count: int) -> tuple[Counter[str], Held, Held]:
    """Read broken objects; return what became of them, and what was held before and after."""
    with ThreadPoolExecutor(2) as pool:
        for some in batched(broken(seed - 1, WARM_UP)):
            list(pool.map(outcome, some))
        before = held()
        became: Counter[str] = Counter()
        for some in batched(broken(seed, count)):
            became.update(pool.map(outcome, some))
        return became, before, held()


def batched(inputs: Iterator[bytes], size: int = 50) -> Iterator[list[bytes]]:
    """Yield a few at a time, as a pool holds all that it is given."""
    while some := list(islice(inputs, size)):
        yield some


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.uploads", description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--objects", type=int, default=10_000)
    args = parser.parse_args()
    print(f"seed {args.seed}: {args.objects} broken objects, made from {len(objects())} real ones", flush=True)
    began = time.monotonic()
    became, before, after = run(args.seed, args.objects)
    print(f"{(time.monotonic() - began) / args.objects * 1000:.1f} ms each, two at a time")
    for end, count in became.most_common():
        print(f"{count:7d} {end}")
    print(f"before: {before}\nafter:  {after}")
    sandbox.close()
    leaks = after[:3] != before[:3] or after.memory > before.memory + 8192 or after.helper_memory > before.helper_memory + 8192
    return bool(leaks or became.total() != args.objects)


if __name__ == "__main__":
    sys.exit(main())
