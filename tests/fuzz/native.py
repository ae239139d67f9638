# SPDX-License-Identifier: BSD-2-Clause
"""python -m tests.fuzz.native [--seed N] [--rounds N]: the binding in C under sanitizers; without rounds, until Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.kernel import compiled

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "src/eunomia/native"
SOURCES = ("native", "perf", "early", "tables", "columns", "text")
LONG = 20_000  # rounds of one seed, where none are given
SANITIZERS = ("address,undefined", "thread")


def program(sanitizers: str) -> Path:
    """Return the harness, compiled with these sanitizers."""
    replaced = ("perf_buffer__consume", *(f"bpf_map_{name}" for name in ("lookup_batch", "lookup_and_delete_batch")))
    replaced += tuple(f"bpf_map_{name}" for name in ("get_next_key", "lookup_elem", "delete_elem"))
    source = (
        '#define _GNU_SOURCE\n#include <bpf/bpf.h>\n#include <bpf/libbpf.h>\n'
        + "".join(f"#define {name} random_{name}\n" for name in replaced)
        + "".join(f'#include "{NATIVE}/{name}.c"\n' for name in SOURCES)
        + f'#include "{HERE}/native_harness.c"\n'
    )
    flags = ("-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", f"-I{NATIVE}", "-lbpf", "-lpthread")
    return compiled.native(source, *flags)


def run(sanitizers: str, seed: int, rounds: int) -> str:
    """Run the harness; return what is wrong, empty for nothing."""
    with tempfile.TemporaryDirectory(prefix="eunomia-fuzz-") as folder:
        # without address space randomisation: ThreadSanitizer does not start with all that newer kernels have
        command = ["setarch", "-R", program(sanitizers), str(seed), str(rounds), folder]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return "" if done.returncode == 0 and done.stdout == "ok\n" else f"{done.stdout}{done.stderr}"[-6000:] or str(done.returncode)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.native")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rounds", type=int, default=0, help="of one seed; 0: seed after seed until Ctrl-C")
    args = parser.parse_args()
    failed = 0
    try:
        for seed in [args.seed] if args.rounds else itertools.count(args.seed):
            for sanitizers in SANITIZERS:
                print(f"seed {seed}, {sanitizers}", flush=True)
                if wrong := run(sanitizers, seed, args.rounds or LONG):
                    failed += 1
                    print(wrong, flush=True)
    except KeyboardInterrupt:
        pass
    print(f"{failed} runs failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
