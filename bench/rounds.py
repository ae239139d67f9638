# SPDX-License-Identifier: BSD-2-Clause
"""Sources and outputs that come and go 500 times under load: does anything stay behind, is each event accounted for?

    sudo .venv/bin/python bench/rounds.py [ROUNDS]

Prints BPF objects, descriptors, threads and resident memory before and after, and what became of the events.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.engine.conftest import Kept, Live, Opener
from tests.run.conftest import kernel_ids

from eunomia.filters import Filters
from eunomia.source import open_source

_WARM = 20  # rounds before the first count: allocators and caches fill


def resident() -> int:
    """Return this process's resident memory, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def state() -> dict[str, int]:
    """Return what there is of this process."""
    gc.collect()
    time.sleep(1)  # the kernel frees maps when it finds the time
    descriptors = []
    for _ in range(50):  # the engine has files of its own open at times
        descriptors.append(len(os.listdir("/proc/self/fd")))
        time.sleep(0.02)
    return {
        "bpf_objects": len(kernel_ids(os.getpid())),
        "descriptors": min(descriptors),
        "threads": threading.active_count(),
        "resident_kib": resident(),
    }


class Counting(Kept):
    """A sink that counts rows and keeps none."""

    def write(self, batches):  # type: ignore[no-untyped-def]
        super().write(batches)
        self.batches.clear()


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    opener, live = Opener(), Live()
    only = Filters(pids=(opener.pid,))
    live.connect("lasting", Counting(), only)
    live.engine.add(open_source("process"))
    live.start()
    before: dict[str, int] = {}
    with opener.opening():
        began = time.monotonic()
        for number in range(_WARM + rounds):
            if number == _WARM:
                before, began = state(), time.monotonic()
            live.call(lambda: live.engine.add(open_source("opensnoop")))
            live.connect(f"output {number}", Counting(), only)
            live.call(lambda: live.engine.remove("opensnoop"))
            live.call(lambda n=number: live.engine.disconnect(f"output {n}"))
        took = time.monotonic() - began
        after = state()
    live.end()
    ledger = [e for e in live.engine.ledger() if e.stream == "opensnoop/open"]
    accounts = [e for e in live.engine.accounts() if e.stream == "opensnoop/open"]
    lasting = sum(e.received for e in accounts if e.output == "lasting")
    figures = {
        "rounds": rounds, "seconds": round(took, 1), "before": before, "after": after,
        "emitted": sum(e.emitted for e in ledger), "lost": sum(e.lost or 0 for e in ledger),
        "received_by_the_lasting_output": lasting, "balanced": all(e.balanced for e in accounts),
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    live.engine.close()
    opener.end()
    kept = all(after[name] == before[name] for name in ("bpf_objects", "descriptors", "threads"))
    return 0 if kept and figures["balanced"] and lasting == figures["emitted"] and not live.said else 1


if __name__ == "__main__":
    sys.exit(main())
