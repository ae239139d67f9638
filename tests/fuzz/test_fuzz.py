# SPDX-License-Identifier: BSD-2-Clause
"""A short run of each fuzzer, always the same: ``make fuzz`` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_broken_inputs_raise_what_their_reader_declares_and_nothing_else(target):
    needs.program("clang", "clang")
    command = [sys.executable, "-m", "tests.fuzz", target, "--seed", "1", "--rounds", "200"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
