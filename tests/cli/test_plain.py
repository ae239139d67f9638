# SPDX-License-Identifier: BSD-2-Clause
"""Plain command lines are read without argparse, and mean what argparse says they mean."""

import contextlib
import io
import random
import subprocess
import sys

import pytest

from eunomia.cli import COMMANDS, plain
from eunomia.cli.parser import parser

PLAIN = [
    "run process",
    "run process opensnoop -o json --count 1",
    "run -o csv --output - process",
    "run process --comm a --comm b,c --uid 0 --containers-only --self --interval 2s",
    "run ./my.bpf.o --set a=1 --set b=2 --event rb=event --map-size m=5 --ring-size 8MiB",
    "containers --watch",
    "tree",
    "doctor",
]
LEFT_TO_ARGPARSE = [
    "run", "run --help", "run process -h", "run process --count=1", "run process -ojson",
    "run process --no-such", "run process --comm", "run process --comm -x", "run process -o json opensnoop",
    "run process --cou 1", "run -- process", "run process --uid -1", "list x", "completion fish",
]  # fmt: skip


def by_argparse(words):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            return vars(parser(words[:1]).parse_args(words))
        except SystemExit:
            return None


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_command_line_is_read_as_argparse_reads_it(line):
    words = line.split()
    args = plain.read(words[0], words[1:])
    assert args is not None
    assert vars(args) == by_argparse(words)


@pytest.mark.parametrize("line", LEFT_TO_ARGPARSE)
def test_what_is_not_plain_is_left_to_argparse(line):
    words = line.split()
    assert plain.read(words[0], words[1:]) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_line_means_anything_else_without_argparse(command):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    options = [o for a in parser((command,))._subparsers._group_actions[0].choices[command]._actions for o in a.option_strings]
    pool = [*options, *options, "process", "json", "a=b", "", "-", "--", "-1", "-x", "--x", "a b", "-a b", "--count=2", "@f"]
    read = 0
    for _ in range(400):
        words = [command, *(chance.choice(pool) for _ in range(chance.randrange(6)))]
        args = plain.read(command, words[1:])
        if args is not None:
            read += 1
            assert vars(args) == by_argparse(words), (seed, words)
    assert read or command not in {"run", "containers", "tree", "list", "doctor", "start", "stop", "ps"}, seed


def test_values_that_were_given_stay_with_their_command_line():
    first = plain.read("run", ["process", "--comm", "a"])
    second = plain.read("run", ["process", "--comm", "b"])
    assert (first.comm, second.comm) == (["a"], ["b"])


def test_a_plain_command_line_needs_no_argparse():
    script = (
        "import sys; from eunomia.cli import main; code = main(['run', 'no-such-tracker']);"
        "print(code, 'argparse' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
