# SPDX-License-Identifier: BSD-2-Clause
"""The tests' own Docker: what other tests build on."""

import subprocess
from pathlib import Path

import pytest

from tests.runtimes import docker as runtime
from tests.runtimes.docker import Docker


def test_a_container_runs_and_prints(docker: Docker):
    assert docker.run("run", "--rm", docker.image, "echo", "hello").stdout == "hello\n"


def test_containers_of_one_bridge_reach_each_other(docker: Docker):
    docker.run("run", "-d", "--name", "there", docker.image, "sleep", "1000")
    address = docker.run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "there").stdout.strip()
    ping = docker.run("run", "--rm", docker.image, "ping", "-c", "1", "-W", "5", address, check=False)
    docker.run("rm", "-f", "there")
    assert "1 packets received" in ping.stdout


def test_a_command_that_fails_says_why(docker: Docker):
    with pytest.raises(AssertionError, match="no-such-container"):
        docker.run("inspect", "no-such-container")


def test_nothing_is_left_even_of_a_failed_run():
    runtime.needs.root()
    runtime.needs.program("dockerd", "docker.io")
    with pytest.raises(ZeroDivisionError), runtime.private_docker() as docker:
        root, pid = docker.socket.parent, docker.pid
        container = docker.run("run", "-d", docker.image, "sleep", "1000").stdout.strip()
        assert _cgroups(container)
        assert len(_network(root.name)) >= 2, "a bridge and a rule are there meanwhile"
        raise ZeroDivisionError
    assert not root.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert not _network(root.name)
    assert not _cgroups(container)
    assert not [c for c in _command_lines() if str(root) in c]


def _network(bridge: str) -> list[str]:
    """Return the links and rules that name the bridge."""
    said = [["ip", "-o", "link"], ["iptables", "-w", "-S"]]
    lines = "".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in said)
    return [line for line in lines.splitlines() if bridge in line]


def _cgroups(container: str) -> list[Path]:
    """Return a container's cgroups, one a hierarchy."""
    return list(Path("/sys/fs/cgroup").glob(f"**/docker/{container}"))


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return found
