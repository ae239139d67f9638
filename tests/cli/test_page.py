# SPDX-License-Identifier: BSD-2-Clause
"""What a terminal gets fits it; what a file gets is whole."""

import os
import pty
import subprocess

import pytest

from tests.cli.conftest import EUNOMIA


def on_a_terminal(*words, columns=70, **environment):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [EUNOMIA, *words],
        stdout=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **environment},
    )
    os.close(theirs)
    out = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: the other side is closed
            break
        out += piece
        if not piece:
            break
    os.close(ours)
    process.wait(timeout=30)
    return out.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 132])
@pytest.mark.parametrize("words", [["list"], ["doctor"]])
def test_no_line_is_wider_than_the_terminal(words, columns):
    lines = on_a_terminal(*words, columns=columns, NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [1, 2, 3, 20, 24, 25, 60, 200, "9" * 5000])
@pytest.mark.parametrize("words", [["info", "process"], ["info", "opensnoop"], ["tree"]])
def test_every_width_is_one_to_write_in(words, columns):
    lines = on_a_terminal(*words, columns=columns, NO_COLOR="1").splitlines()
    assert len(lines) > 1
    assert not [line for line in lines if "bug in eunomia" in line]
    if words[0] == "info" and isinstance(columns, int) and columns > 2:
        assert max(map(len, lines)) <= columns


def test_no_color_is_honoured():
    assert "\x1b[" in on_a_terminal("info", "process")
    assert "\x1b" not in on_a_terminal("info", "process", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("info", "process", TERM="dumb")


def test_a_file_gets_neither_colour_nor_broken_lines(eunomia):
    out = eunomia("info", "process", environment={"COLUMNS": "40"}).out
    assert "\x1b" not in out
    assert "or with (unreachable) in front; as asked for where the exec failed\n" in out
