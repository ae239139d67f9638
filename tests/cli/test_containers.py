# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia containers`` lists what runs, once each, and with --watch goes on with what happens."""

import csv
import io
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eunomia.containers.cgroup_files import mount_point
from tests import needs
from tests.cli.conftest import EUNOMIA
from tests.runtimes.docker import Docker


@pytest.fixture(scope="module")
def running(docker: Docker) -> Iterator[dict[str, str]]:
    """The ids of two containers: ``listed-web`` runs, ``listed-still`` is paused."""
    ids = {}
    for name in ("listed-web", "listed-still"):
        words = ("run", "-d", "--name", name, "--label", f"of={name}", docker.image, "sleep", "1000")
        ids[name] = docker.run(*words).stdout.strip()
    docker.run("pause", "listed-still")
    yield ids
    docker.run("rm", "-f", *ids)


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_table_has_a_line_for_each(eunomia, running, docker):
    out = eunomia("containers").out.splitlines()
    assert out[0].split() == ["NAME", "ID", "IMAGE", "RUNTIME", "STATE", "POD", "AGE", "PID", "RESTARTS"]
    for name, state in (("listed-web", "running"), ("listed-still", "paused")):
        (line,) = (line.split() for line in out if line.startswith(f"{name} "))
        assert line[:6] == [name, running[name][:12], docker.image, "docker", state, "-"]
        pid = docker.run("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
        assert line[7:] == [pid, "0"]


def test_json_has_all_that_is_known_and_whole_ids(eunomia, running):
    rows = {row["container"]["name"]: row for row in lines(eunomia("containers", "-o", "json").out)}
    for name, id_ in running.items():
        container = rows[name]["container"]
        assert container["id"] == id_
        assert container["labels"] == {"of": name}
        assert {"mounts", "command", "capabilities", "started", "pid", "state"} <= set(container)
        assert rows[name]["identity"] == "resolved"
    assert rows["listed-still"]["container"]["state"] == "paused"


def test_csv_has_the_columns_that_are_asked_for(eunomia, running):
    out = eunomia("containers", "-o", "csv", "--columns", "container.name,container.state").out
    assert ["listed-web", "running"] in list(csv.reader(io.StringIO(out)))


@pytest.mark.parametrize(
    "words", [("--container", "listed-w*"), ("--label", "of=listed-web"), ("--container", "listed-web,none")]
)
def test_only_what_is_asked_for_is_listed(eunomia, running, words):
    rows = lines(eunomia("containers", "-o", "json", *words).out)
    assert [row["container"]["name"] for row in rows] == ["listed-web"]


def test_watch_lists_first_and_then_tells_what_happens(running, docker):
    words = [EUNOMIA, "containers", "--watch", "-o", "json", "--container", "listed-*", "--count", "4"]
    watching = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    first = [json.loads(watching.stdout.readline()) for _ in running]
    assert {row["container"]["name"] for row in first} == set(running)
    docker.run("run", "--rm", "--name", "listed-brief", docker.image, "sh", "-c", "exit 4", check=False)
    out, err = watching.communicate(timeout=20 * needs.PATIENCE)
    rows = lines(out)
    assert [row["event"] for row in rows] == ["created", "started", "exited", "removed"]
    assert {row["container"]["name"] for row in rows} == {"listed-brief"}
    assert rows[2]["exit_code"] == 4
    assert [row["container"]["state"] for row in rows] == ["created", "running", "exited", "exited"]
    assert "capabilities" in rows[0]["container"], "all that is known is told without being asked for"
    account = json.loads(err.splitlines()[-1])
    assert (account["ledger"], account["delivered"], account["lost"]) == ("container/life", 4, 0)


def test_a_terminal_of_few_columns_gets_lines_that_fit(running):
    needs.root()
    script = needs.program("script", "bsdutils")
    done = subprocess.run(
        [script, "-qec", f"stty cols 80; {EUNOMIA} containers --container 'listed-*'", "/dev/null"],
        capture_output=True, text=True, check=True, env={"TERM": "dumb", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    out = done.stdout.splitlines()
    assert len(out) == 3
    assert max(map(len, out)) <= 80, out


def test_who_may_not_read_the_runtimes_files_is_told_so(eunomia, running):
    done = eunomia("containers", nobody=True)
    assert done.code == 0
    assert running["listed-web"][:12] in done.out
    assert "without a name" in done.err
    assert "sudo eunomia containers" in done.err


def test_a_cgroup_that_is_left_over_from_a_container_is_not_listed(eunomia, running):
    """A runtime that was killed leaves such behind, and a machine may have hundreds."""
    mount = mount_point()
    assert mount is not None
    left = Path(mount, "docker", "0dd" + "0" * 61)
    left.mkdir(parents=True)
    try:
        out = eunomia("containers", "-o", "json").out
        found = eunomia("doctor", "-o", "json").out
    finally:
        left.rmdir()
    assert left.name not in out
    (containers,) = (row for row in lines(found) if row["subject"] == "containers")
    assert containers["state"] == "ok", containers


def test_it_takes_no_time(eunomia, running):
    began = time.monotonic()
    eunomia("containers")
    assert time.monotonic() - began < 5 * needs.PATIENCE  # of which a quiet machine takes a tenth


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--count", "3"), "--count goes with --watch"),
        (("--duration", "3s"), "--duration goes with --watch"),
        (("--watch", "-o", "csv"), "eunomia run container -o csv"),
        (("--columns", "container.nme"), "did you mean 'container.name'"),
        (("--container", ""), "--container: it is empty"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(eunomia, words, said):
    assert said in eunomia("containers", *words).one_line(2)
