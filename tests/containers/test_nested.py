# SPDX-License-Identifier: BSD-2-Clause
"""Containers in containers: a dockerd that runs in a container of another."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eunomia.containers import cgroup_files
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.docker import DataRoot, Docker
from eunomia.identity import RESOLVED
from tests import needs
from tests.containers.stage import WEB, write_config
from tests.containers.test_kernel import cgroup
from tests.harness import tracked
from tests.runtimes.docker import busybox_root, docker  # noqa: F401

IMAGE = "inner:1"
# Below the cgroup of its container, in a leaf of its own: v2 gives controllers to none that holds processes.
START = """
own=$(sed -n s/^0:://p /proc/self/cgroup)
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir "/sys/fs/cgroup$own/init" && echo $$ >"/sys/fs/cgroup$own/init/cgroup.procs"
fi
exec dockerd --cgroup-parent "$own/docker" --bridge none --iptables=false --ip6tables=false --ip-forward=false
"""


class Inner:
    """The dockerd in the container ``outer``."""

    def __init__(self, docker) -> None:
        self._docker = docker
        self.outer = docker.run(
            "run", "-d", "--name", "outer", "--network", "none", "--cgroupns", "host",
            # all but CAP_SYS_RESOURCE, which --privileged asks for and not every machine has
            "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
            "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
            "-v", "/usr:/usr:ro", "-v", "/usr/lib:/lib:ro", "-v", "/usr/lib64:/lib64:ro",
            "-v", "/sys/fs/cgroup:/sys/fs/cgroup",
            "--tmpfs", "/var/lib/docker:exec", "--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec",
            "-e", "PATH=/usr/sbin:/usr/bin:/bin", docker.image, "/bin/sh", "-c", START,
        ).stdout.strip()  # fmt: skip
        end = time.monotonic() + 30 * needs.PATIENCE
        while self.run("info", check=False).returncode:
            runs = docker.run("inspect", "-f", "{{.State.Running}}", "outer").stdout.strip()
            assert (runs, time.monotonic() < end) == ("true", True), docker.run("logs", "outer").stderr[-2000:]
            time.sleep(0.2)
        self.run("import", "-", IMAGE, stdin=busybox_root(needs.program("busybox", "busybox-static")))

    def run(self, *arguments, stdin=None, check=True):
        return self._docker.run("exec", "-i", "outer", "docker", *arguments, stdin=stdin, check=check)


@pytest.fixture(scope="module")
def inner(docker) -> Iterator[Inner]:
    """A dockerd in a container, with the image ``inner:1``; both are gone afterwards."""
    try:
        running = Inner(docker)
        yield running
        running.run("rm", "-f", *running.run("ps", "-aq").stdout.split(), "none", check=False)
    finally:
        docker.run("rm", "-fv", "outer", check=False)


def test_rows_have_the_innermost_container(inner):
    with tracked("process") as seen:
        inner.run("run", "--rm", "--name", "brief", "--network", "none", IMAGE, "/bin/id")
    row = seen.row("exec", **{"container.name": "brief", "comm": "id"})
    assert (row["container.image"], row["identity"]) == (IMAGE, RESOLVED)
    assert row["container.id"] != inner.outer
    assert {r["container.id"] for r in seen.rows("exec", comm="runc")} >= {inner.outer}


def test_an_identity_holds_the_containers_around_it(inner):
    inner.run("run", "-d", "--name", "kept", "--network", "none", IMAGE, "/bin/sleep", "100")
    container_id = inner.run("inspect", "-f", "{{.Id}}", "kept").stdout.strip()
    registry = Registry()
    registry.start()
    identity = next(i for i in registry.values() if i.container and i.container.id == container_id)
    assert (identity.container.name, identity.parents) == ("kept", (inner.outer,))
    inner.run("rm", "-f", "kept")


def test_the_scopes_of_systemds_driver_are_containers_with_what_is_nested_in_them(tmp_path):
    needs.root()
    inside = "c4" * 32
    write_config(tmp_path, WEB)
    write_config(tmp_path, inside, ID=inside, Name="/inside")
    scope = f"/eunomia-{os.getpid()}.slice/docker-{WEB}.scope"
    with (
        cgroup(f"{scope}/system.slice/docker-{inside}.scope") as nested,
        cgroup(f"{scope}/init.scope") as own,
    ):
        registry = Registry([Docker([DataRoot("/", str(tmp_path))])])
        registry.start()
        assert (registry[own].container.name, registry[own].parents) == ("web", ())
        assert (registry[nested].container.name, registry[nested].parents) == ("inside", (WEB,))
    assert not Path(cgroup_files.mount_point() + scope).exists()
