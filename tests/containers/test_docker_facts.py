# SPDX-License-Identifier: BSD-2-Clause
"""Metadata of real Docker containers, compared with Docker's own."""

import json
from pathlib import Path

import pytest

from eunomia.containers.daemons import DataRoot
from eunomia.containers.runtimes.docker import Docker
from eunomia.containers.timestamps import nanoseconds
from eunomia.identity import CREATED, EXITED, PAUSED, RUNNING, Container, Mount
from eunomia.meaning import capability_name


@pytest.fixture
def run(docker, tmp_path):
    """Run a container in the background; returns what Eunomia and what Docker say of it."""
    reader = Docker([DataRoot("/", str(docker.data_root))])
    started = []

    def run(*options: str, command: tuple[str, ...] = ("sleep", "1000"), how: str = "run") -> tuple[Container, dict]:
        detached = ("-d",) if how == "run" else ()
        made = docker.run(how, *detached, *options, docker.image, *command).stdout.strip()
        started.append(made)
        return look(made)

    def look(container_id: str) -> tuple[Container, dict]:
        found = reader.lookup(container_id, f"/docker/{container_id}")
        return found.container, json.loads(docker.run("inspect", container_id).stdout)[0]

    run.look = look
    yield run
    docker.run("rm", "-fv", *started, check=False)


def test_all_that_docker_inspect_shows_is_known(run, tmp_path):
    found, said = run(
        "--name", "facts", "--label", "app=web", "--label", "tier=front", "--user", "1000:50",
        "-v", f"{tmp_path}:/data:ro", "-v", "named:/more", "--cap-add", "net_admin", "--cap-drop", "MKNOD",
    )  # fmt: skip
    assert (found.id, found.name, found.image) == (said["Id"], "facts", said["Config"]["Image"])
    assert found.image_id == said["Image"]
    assert found.labels == (("app", "web"), ("tier", "front"))
    assert found.command == ("sleep", "1000")
    assert found.user == "1000:50"
    assert sorted(found.mounts) == [
        Mount(str(tmp_path), "/data", "bind", False),
        Mount("named", "/more", "volume", True),
    ]
    assert (found.privileged, found.seccomp, found.network) == (False, "default", "bridge")
    assert found.addresses == (said["NetworkSettings"]["IPAddress"],)
    assert (found.pid, found.state, found.restarts) == (said["State"]["Pid"], RUNNING, 0)
    assert found.created == nanoseconds(said["Created"]) > 1 << 60
    assert found.started == nanoseconds(said["State"]["StartedAt"]) > found.created
    assert "CAP_NET_ADMIN" in found.capabilities
    assert "CAP_MKNOD" not in found.capabilities


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--cap-drop", "ALL"),
        ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
        ("--cap-drop", "all", "--cap-add", "SYS_PTRACE"),
    ],
)
def test_capabilities_are_those_that_the_process_has(run, options):
    found, said = run(*options)
    status = Path(f"/proc/{said['State']['Pid']}/status").read_text()
    bounding = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16)
    assert found.capabilities == tuple(capability_name(n) for n in range(64) if bounding >> n & 1)


def test_a_privileged_container_on_the_hosts_network_says_so(run):
    # Made, not run: a machine without all capabilities cannot give them away.
    found, _ = run("--privileged", "--network", "host", how="create")
    assert (found.privileged, found.seccomp, found.network, found.addresses) == (True, "unconfined", "host", ())
    assert found.capabilities is None, "which are all, the first process will tell"


def test_a_profile_from_a_file_is_custom_and_none_is_unconfined(run, tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert run("--security-opt", f"seccomp={profile}")[0].seccomp == "custom"
    assert run("--security-opt", "seccomp=unconfined")[0].seccomp == "unconfined"


def test_states_are_dockers(run, docker):
    found, said = run(how="create")
    assert (found.state, found.started, found.pid) == (CREATED, 0, 0)
    docker.run("start", said["Id"])
    docker.run("pause", said["Id"])
    assert run.look(said["Id"])[0].state == PAUSED
    docker.run("unpause", said["Id"])
    docker.run("kill", said["Id"])
    docker.run("wait", said["Id"])
    assert run.look(said["Id"])[0].state == EXITED


def test_the_digest_is_known_of_images_that_came_from_a_registry(run, docker, tmp_path):
    found, said = run()
    assert found.image_digest == ""
    repositories = next(docker.data_root.glob("image/*/repositories.json"))
    whole = repositories.read_text()
    told = json.loads(whole)
    told["Repositories"]["reg/bb"] = {"reg/bb@sha256:" + "d" * 64: said["Image"]}
    # In a data root of our own: the daemon's must not be changed under it.
    root = tmp_path / "root"
    (root / "image" / said["Driver"]).mkdir(parents=True)
    (root / "image" / said["Driver"] / "repositories.json").write_text(json.dumps(told))
    (root / "containers").symlink_to(docker.data_root / "containers")
    copy = Docker([DataRoot("/", str(root))])
    assert copy.lookup(said["Id"], f"/docker/{said['Id']}").container.image_digest == "sha256:" + "d" * 64
