# SPDX-License-Identifier: BSD-2-Clause
"""A per-CPU hash of 10,000 entries as rows: merged in C as it is, and in Python as it was, in turns; CPU a snapshot."""

from __future__ import annotations

import statistics
import struct
import sys
import time
from typing import Any

from figures import Figure
from machine import BUILT, ROOT, say

ENTRIES = 10_000
STAT = "=5Q2I"


def measure(quick: bool) -> tuple[list[Figure], Any]:
    sys.path.insert(0, str(ROOT))
    from tests.kernel import merged_in_python

    from eunomia.kernel.libbpf import lib
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.map_snapshot import Snapshot
    from eunomia.kernel.spec import HASH, Spec

    cpus = lib.libbpf_num_possible_cpus()
    took: dict[str, list[float]] = {"C": [], "Python": [], "kernel": []}
    with Loaded(Spec.open(BUILT / "tables.bpf.o"), unattached=["count"]) as live:
        stream = live.spec.streams["stats"]
        map_, fd = stream.map, live.maps["stats"].fd
        for i in range(ENTRIES):
            each = [struct.pack(STAT, i + c, c, 1000 * i, i, 100 + c, i, c) for c in range(cpus)]
            live.maps["stats"].update(struct.pack("=Q", i), b"".join(each))
        in_c = Snapshot(map_, stream)
        # the same map as if a value were all the CPUs' side by side: what the kernel gives, and nothing done to it
        whole = map_._replace(type=HASH, value_size=map_.value_size * cpus)
        untouched = Snapshot(whole, stream._replace(map=whole, cpus=None))
        for n in range(5 if quick else 25):
            if not n % 5:
                say(f"tables: round {n + 1}")
            began = time.process_time()
            rows = in_c.read(fd)
            took["C"].append(time.process_time() - began)
            began = time.process_time()
            raw = untouched.read(fd)
            took["kernel"].append(time.process_time() - began)
            size = untouched.row_size
            keys = b"".join(raw[at : at + 8] for at in range(0, len(raw), size))
            values = b"".join(raw[at + 8 : at + size] for at in range(0, len(raw), size))
            began = time.process_time()
            in_python = merged_in_python.rows(stream, cpus, keys, values, ENTRIES)
            took["Python"].append(time.process_time() - began + took["kernel"][-1])
            assert rows == in_python
            assert len(rows) == ENTRIES * in_c.row_size
    ratio = statistics.median(c / before for c, before in zip(took["C"], took["Python"], strict=True))
    ms = {name: 1000 * statistics.median(times) for name, times in took.items()}
    beside = f"{ms['C']:.1f} ms; in Python {ms['Python']:.1f} ms; of either, reading alone {ms['kernel']:.1f} ms"
    return [Figure(f"tables: {ENTRIES:,} entries of {cpus} CPUs, over Python", ratio, "x", 0.2, beside)], took
