# SPDX-License-Identifier: BSD-2-Clause
"""python -m tests.fuzz [--seed N] [--rounds N] [TARGET...]: without rounds, until Ctrl-C; failures go to the corpus."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random

from tests.fuzz.mutate import mutated
from tests.fuzz.target import FOLDER
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 20  # of processor time that one input may take
MEMORY = 4 << 30


class TooLong(BaseException):
    """An input that takes too much time; no reader can catch it by mistake."""


def _too_long(*_: object) -> None:
    raise TooLong(f"more than {SECONDS} s of processor time")


def read(name: str, data: bytes) -> BaseException | None:
    """Have a target read an input; return what it raised, if that is none of what it declares."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        TARGETS[name].read(data)
    except TARGETS[name].declared:
        return None
    except (Exception, TooLong) as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def place(error: BaseException) -> str:
    """Return where an error comes from: what fails in one place is one fault."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} {last.filename}:{last.lineno}"


def kept(name: str) -> list[Path]:
    """Return the inputs that failed once."""
    return sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []


def run(name: str, seed: int, rounds: int, keep: bool) -> int:
    """Fuzz one target; return how many inputs failed."""
    target = TARGETS[name]
    seeds = [*target.seeds(), *(path.read_bytes() for path in kept(name))]
    told: set[str] = set()
    failed = sum(_try(name, data, False, told) for data in seeds)
    for number in range(max(1, rounds // target.heavy)):
        random = Random(f"{seed}/{name}/{number}")
        data = mutated(random.choice(seeds), random)
        failed += _try(name, target.mend(data, random) if target.mend else data, keep, told)
    return failed


def _try(name: str, data: bytes, keep: bool, told: set[str]) -> int:
    """Return whether an input failed; say so, and keep it, where none has failed in the same place before."""
    error = read(name, data)
    if error is None:
        return 0
    if place(error) in told:
        return 1
    told.add(place(error))
    digest = hashlib.sha256(data).hexdigest()[:16]
    print(f"{name}: {type(error).__name__}: {str(error)[:200]}, for input {digest} of {len(data)} bytes")
    traceback.print_exception(error, limit=-4)
    if keep:
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        (CORPUS / name / digest).write_bytes(data)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rounds", type=int, default=0, help="inputs of each target; 0: until Ctrl-C")
    parser.add_argument("--keep", action="store_true", help="write what fails to the corpus")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, _too_long)
    failed = 0
    try:
        for seed in [args.seed] if args.rounds else itertools.count(args.seed):
            print(f"seed {seed}", flush=True)
            failed += sum(run(name, seed, args.rounds or 400, args.keep) for name in args.targets or TARGETS)
    except KeyboardInterrupt:
        pass
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    print(f"{failed} inputs failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
