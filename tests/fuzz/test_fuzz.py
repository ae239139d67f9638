# SPDX-License-Identifier: BSD-2-Clause
"""A short run of each fuzzer, always the same: ``make fuzz`` is the long one."""

import subprocess
import sys
from pathlib import Path

from tests import needs
from tests.fuzz import __main__ as fuzz
from tests.fuzz import native
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

ROUNDS = 25  # of each target, fewer of those that take long


def test_broken_inputs_raise_what_their_reader_declares_and_nothing_else():
    needs.program("clang", "clang")
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--rounds", str(ROUNDS)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_binding_holds_under_sanitizers():
    assert not native.run("address,undefined", seed=1, rounds=300)


def test_the_fuzzer_says_once_what_fails_and_keeps_the_input(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path)
    monkeypatch.setitem(TARGETS, "broken", Target(lambda: [b"abc"], lambda data: data.index(b"abc"), (TypeError,)))
    failed = fuzz.run("broken", seed=3, rounds=50, keep=True)
    said = capsys.readouterr().out
    assert failed > 1
    assert said.count("broken: ValueError") == 1
    (file,) = (tmp_path / "broken").iterdir()
    assert file.name in said
    assert fuzz.run("broken", seed=4, rounds=1, keep=False) >= 1
