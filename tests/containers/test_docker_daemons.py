# SPDX-License-Identifier: BSD-2-Clause
"""Docker's containers in other data roots, or without a running daemon: real daemons with their own options."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eunomia.containers.daemons import DataRoot
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.docker import Docker, remapped
from eunomia.identity import RESOLVED
from tests import needs
from tests.runtimes.docker import private_docker

FOREVER = "while :; do sleep 1000; done"


@pytest.fixture
def programs():
    needs.root()
    for program, package in (("dockerd", "docker.io"), ("docker", "docker.io"), ("ip", "iproute2")):
        needs.program(program, package)


@pytest.mark.usefixtures("programs")
def test_containers_that_outlive_their_daemon_keep_their_names():
    """Their data root is none that is usual: the bundle in which a shim works leads to it."""
    with private_docker("--live-restore") as docker:
        words = ["run", "-d", "--name", "survivor", "--network", "none", docker.image, "sh", "-c", FOREVER]
        container_id = docker.run(*words).stdout.strip()
        os.kill(docker.pid, signal.SIGKILL)
        os.waitpid(docker.pid, 0)
        registry = Registry([Docker()])
        registry.start()
        found = {case.candidate.id: case.identity for case in registry.entries()}
        assert found[container_id].state == RESOLVED
        assert (found[container_id].container.name, found[container_id].container.image) == ("survivor", docker.image)
        assert [root.path for root in registry.runtimes[0].behind.roots if root.path == str(docker.data_root)]


_MAPPED = """
import subprocess, sys
from pathlib import Path

from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.docker import Docker
from tests.runtimes.docker import private_docker

for name in ("subuid", "subgid"):
    Path(sys.argv[1], name).write_text("nobody:100000:65536\\nnogroup:100000:65536\\n")
    subprocess.run(["mount", "--bind", Path(sys.argv[1], name), Path("/etc", name)], check=True)
with private_docker("--userns-remap", "nobody:nogroup") as docker:
    words = ["run", "-d", "--name", "mapped", "--network", "none", docker.image, "sleep", "1000"]
    container_id = docker.run(*words).stdout.strip()
    registry = Registry([Docker()])
    registry.start()
    found = next(c.identity.container for c in registry.entries() if c.candidate.id == container_id)
    print(found.name, found.image, found.state)
"""


@pytest.mark.usefixtures("programs")
def test_containers_of_a_daemon_that_maps_users_have_their_names(tmp_path):
    """In a mount namespace of its own, where /etc/subuid is another."""
    words = [needs.program("unshare", "util-linux"), "--mount", "--propagation", "slave", sys.executable, "-c", _MAPPED]
    done = subprocess.run([*words, tmp_path], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stdout == "mapped bb:latest running\n", done.stderr[-2000:]


def test_users_that_are_mapped_have_a_data_root_of_their_own(tmp_path):
    for name in ("100000.100000", "overlay2", "containers", "1.x"):
        (tmp_path / name).mkdir()
    root = DataRoot("/", str(tmp_path))
    assert [r.path for r in remapped(iter([root]))] == [str(tmp_path), f"{tmp_path}/100000.100000"]
