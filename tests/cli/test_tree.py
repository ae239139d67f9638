# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia tree`` draws what runs, as a tree, and nothing that runs can draw in it."""

import json
import os
import subprocess
import sys
import time

import pytest

from eunomia.cli.tree import ASCII, BOXES, branch, command
from eunomia.engine.process_tree import placed
from eunomia.identity import ON_HOST
from eunomia.process_identity import Process
from tests import needs
from tests.runtimes.docker import Docker

SLEEPER = "import os, sys, time\nos.write(1, b'x')\ntime.sleep(60)"


def family(*pairs: tuple[int, int]) -> list:
    """Processes by pid and parent's pid, parents first; placed as a tree."""
    made = {}
    for start, (pid, parent) in enumerate(pairs, 1):
        made[pid] = Process(pid, start, start)
        made[pid].parent = made.get(parent)
        made[pid].argv_bytes = b"p%d\0" % pid
    return list(placed([(process, ON_HOST) for process in made.values()]))


@pytest.fixture
def sleeping():
    """sleeping(*more arguments) -> a process that has begun."""
    begun = []

    def start(*arguments: str | bytes) -> subprocess.Popen:
        child = subprocess.Popen([sys.executable, "-c", SLEEPER, *arguments], stdout=subprocess.PIPE)
        begun.append(child)
        assert child.stdout.read(1) == b"x"
        return child

    yield start
    for child in begun:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize(
    ("drawing", "drawn"),
    [
        (BOXES, ["p1", "├─ p2", "│  ├─ p4", "│  └─ p5", "│     └─ p7", "└─ p3", "   └─ p6", "p9"]),
        (ASCII, ["p1", "|- p2", "|  |- p4", "|  `- p5", "|     `- p7", "`- p3", "   `- p6", "p9"]),
    ],
)
def test_lines_lead_from_parents_to_children(drawing, drawn):
    entries = family((1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 5), (9, 8))
    assert [branch(e, drawing) + command(e.process) for e in entries] == drawn


def test_who_has_no_parent_among_those_shown_is_a_root():
    made = [entry.process for entry in family((1, 0), (2, 1), (3, 2))]
    shown = list(placed([(process, ON_HOST) for process in made[1:]]))
    assert [(e.process.pid, e.depth) for e in shown] == [(2, 0), (3, 1)]


def test_ten_thousand_generations_are_drawn_in_little_room():
    entries = family((1, 0), *((pid, pid - 1) for pid in range(2, 10_000)))
    assert entries[-1].depth == 9_998
    assert max(len(branch(e, BOXES)) for e in entries) < 200
    assert branch(entries[-1], BOXES).startswith("…")


def test_it_shows_who_runs_now_below_who_forked_it(eunomia, sleeping):
    needs.root()
    child = sleeping("a leaf")
    lines = eunomia("tree").out.splitlines()
    assert lines[0].split() == ["PID", "USER", "CONTAINER", "COMMAND"]
    pids = [line.split()[0] for line in lines]
    mine = next(line for line in lines if line.split()[0] == str(child.pid))
    assert mine.split()[1:3] == ["root", "-"]
    assert mine.endswith("'a leaf'")
    assert pids.index(str(os.getpid())) < pids.index(str(child.pid))
    assert "2" not in pids, "the kernel's threads are left out"


def test_as_json_a_line_is_a_process_and_parents_come_first(eunomia, sleeping):
    needs.root()
    child = sleeping()
    rows = [json.loads(line) for line in eunomia("tree", "-o", "json").out.splitlines()]
    by_pid = {row["pid"]: row for row in rows}
    row, parent = by_pid[child.pid], by_pid[os.getpid()]
    assert row["parent_exec_id"] == parent["exec_id"]
    assert row["depth"] == parent["depth"] + 1
    assert rows.index(parent) < rows.index(row)
    assert (row["user"], row["uid"], row["identity"]) == ("root", 0, "host")
    assert row["argv"][1:] == ["-c", SLEEPER]


def test_no_argument_moves_the_cursor_or_starts_a_line(eunomia, sleeping):
    needs.root()
    child = sleeping("\x1b[2J\r\n99 root - evil", b"\xff\xe2\x80\xae")
    out = eunomia("tree").out
    assert all(line.isprintable() for line in out.splitlines())
    line = next(line for line in out.splitlines() if line.split()[0] == str(child.pid))
    assert "\\x1b[2J\\r\\n99 root - evil" in line
    assert "\\u202e" in line
    rows = [json.loads(line) for line in eunomia("tree", "-o", "json").out.splitlines()]
    assert next(row for row in rows if row["pid"] == child.pid)["argv"][3] == "\x1b[2J\r\n99 root - evil"


def test_on_a_terminal_lines_end_at_its_edge_and_elsewhere_are_whole(eunomia, sleeping):
    needs.root()
    script = needs.program("script", "bsdutils")
    child = sleeping("wide" * 100, "界" * 50)
    from tests.cli.conftest import EUNOMIA

    where = {**os.environ, "COLUMNS": "60", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    where.pop("NO_COLOR", None)
    command_ = [script, "-qec", f"{EUNOMIA} tree", "/dev/null"]
    shown = subprocess.run(command_, env=where, capture_output=True, check=True).stdout.decode()
    assert "\x1b[1m" in shown
    from wcwidth import wcswidth

    plain = shown.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "").replace("\r", "")
    assert max(wcswidth(line) for line in plain.splitlines()) <= 60
    whole = next(line for line in eunomia("tree").out.splitlines() if line.split()[0] == str(child.pid))
    assert "wide" * 100 in whole
    assert "\x1b" not in eunomia("tree").out


def test_where_the_locale_is_not_utf8_lines_are_ascii(eunomia, sleeping):
    needs.root()
    sleeping()
    boxes = {"├", "└", "│"}
    assert not boxes & set(eunomia("tree", environment={"LC_ALL": "C"}).out)
    assert boxes & set(eunomia("tree", environment={"LC_ALL": "C.UTF-8"}).out)


def test_of_a_container_it_shows_its_own_processes_as_roots(eunomia, docker: Docker):
    script = "sleep 100 & sh -c 'sleep 101; :'; :"
    docker.run("run", "-d", "--rm", "--name", "grove-one", docker.image, "sh", "-c", script)
    deadline = time.monotonic() + 10 * needs.PATIENCE
    rows = []
    while len(rows) < 4 and time.monotonic() < deadline:
        rows = [json.loads(line) for line in eunomia("tree", "-o", "json", "--container", "gro*").out.splitlines()]
    assert [row["argv"] for row in rows] == [
        ["sh", "-c", script], ["sleep", "100"], ["sh", "-c", "sleep 101; :"], ["sleep", "101"],
    ]  # fmt: skip
    assert [row["depth"] for row in rows] == [0, 1, 1, 2]
    assert {(row["container"]["name"], row["container"]["image"]) for row in rows} == {("grove-one", docker.image)}
    lines = eunomia("tree", "--container", "grove-one", environment={"LC_ALL": "C.UTF-8"}).out.splitlines()
    assert [line.split(maxsplit=3)[1:3] for line in lines[1:]] == [["root", "grove-one"]] * 4
    assert [line.split("grove-one ")[1] for line in lines[1:]] == [
        "sh -c 'sleep 100 & sh -c '\"'\"'sleep 101; :'\"'\"'; :'", "├─ sleep 100", "└─ sh -c 'sleep 101; :'",
        "   └─ sleep 101",
    ]  # fmt: skip
    docker.run("rm", "-f", "grove-one")


def test_a_container_that_does_not_run_is_said_in_a_sentence(eunomia):
    needs.root()
    assert eunomia("tree", "--container", "nosuch").one_line(1) == "no process runs in such a container"


def test_who_is_not_root_is_told_what_it_takes(eunomia):
    assert "root" in eunomia("tree", nobody=True).one_line(1)
