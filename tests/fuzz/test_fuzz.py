# SPDX-License-Identifier: BSD-2-Clause
"""A short run of each fuzzer, always the same: ``make fuzz`` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.fuzz import native

ROUNDS = 40  # of each target, fewer of those that take long


def test_broken_inputs_raise_what_their_reader_declares_and_nothing_else():
    needs.program("clang", "clang")
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--rounds", str(ROUNDS)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("sanitizers", native.SANITIZERS)
def test_the_binding_holds_under_sanitizers(sanitizers):
    assert not native.run(sanitizers, seed=1, rounds=300)
