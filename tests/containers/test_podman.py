# SPDX-License-Identifier: BSD-2-Clause
"""Metadata of real Podman containers."""

import json
import os
import pwd
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from eunomia.containers import conmon, daemons
from eunomia.containers.cgroup_files import mount_point, path_of
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.podman import Podman
from eunomia.containers.selectors import Selectors
from eunomia.identity import EXITED, PAUSED, RESOLVED, RUNNING, Mount, Pod
from tests import needs
from tests.containers.test_kernel import cgroup
from tests.harness import tracked
from tests.runtimes.podman import private_podman, users_podman


@pytest.fixture
def reader():
    """One that searches, as a user's would: the tests' store is at no usual place."""
    return Podman()


@pytest.fixture
def container(podman):
    """Start containers; remove them in the end."""
    made = []

    def start(*options, command=("sleep", "1000")):
        made.append(podman.run("run", "-d", *options, podman.image, *command).stdout.strip())
        return made[-1]

    yield start
    podman.run("rm", "-f", "-t", "0", *made)


def inspected(podman, container_id):
    return json.loads(podman.run("container", "inspect", container_id).stdout)[0]


def place(podman, container_id):
    """Return the path of a container's cgroup, as the kernel has it."""
    path = path_of(inspected(podman, container_id)["State"]["Pid"])
    assert path.endswith(f"libpod-{container_id}")
    return path


def told(reader, podman, container_id):
    found = reader.lookup(container_id, place(podman, container_id))
    assert found is not None
    return found.container


def test_a_container_has_all_metadata(podman, container, reader, tmp_path):
    podman.run("volume", "create", "store")
    options = ["--name", "web", "--label", "app=web", "--label", "tier=front", "--annotation", "who=me"]
    options += ["-v", f"{tmp_path}:/data:ro", "-v", "store:/var/store", "--cap-drop", "CAP_CHOWN", "--user", "65534"]
    container_id = container(*options)
    found, said = told(reader, podman, container_id), inspected(podman, container_id)
    assert (found.id, found.name, found.image, found.runtime) == (container_id, "web", podman.image, "podman")
    assert found.image_id == f"sha256:{said['Image']}"
    assert found.image_digest == said["ImageDigest"]
    assert found.labels == (("app", "web"), ("tier", "front"))
    assert ("who", "me") in found.annotations
    assert found.command == ("sleep", "1000")
    assert found.user == "65534"
    assert set(found.mounts) == {
        Mount(str(tmp_path), "/data", "bind", False),
        Mount("store", "/var/store", "volume", True),
    }
    assert found.capabilities is not None
    assert "CAP_CHOWN" not in found.capabilities
    assert "CAP_SETUID" in found.capabilities
    assert (found.seccomp, found.network, found.addresses) == ("filter", "none", ())
    assert (found.privileged, found.sandbox, found.restarts) == (False, False, 0)
    assert (found.state, found.pid) == (RUNNING, said["State"]["Pid"])
    assert 0 < found.created < found.started
    assert reader.lookup(container_id, place(podman, container_id)).pod is None


def test_privileged_containers_are_said_to_be(podman, container, reader):
    found = told(reader, podman, container("--privileged"))
    assert (found.privileged, found.seccomp) == (True, "unconfined")


def test_addresses_and_the_network_are_known(podman, container, reader):
    container_id = container("--network", podman.network)
    found, said = told(reader, podman, container_id), inspected(podman, container_id)
    assert found.network == podman.network
    assert found.addresses == (said["NetworkSettings"]["Networks"][podman.network]["IPAddress"],)


def test_a_rename_a_pause_and_an_end_are_noticed(podman, container, reader):
    container_id = container("--name", "before")
    path = place(podman, container_id)
    found = told(reader, podman, container_id)
    assert reader.watches(found, path) == [f"{podman.storage}/libpod/bolt_state.db"]
    assert not reader.changed(found, path)
    podman.run("rename", "before", "after")
    assert reader.changed(found, path)
    found = told(reader, podman, container_id)
    assert found.name == "after"
    assert not reader.changed(found, path)
    podman.run("pause", "after")
    assert reader.changed(found, path)
    found = reader.lookup(container_id, path).container
    assert (found.name, found.state) == ("after", PAUSED)
    podman.run("unpause", "after")
    podman.run("stop", "-t", "0", "after")
    assert reader.changed(found, path)
    assert reader.lookup(container_id, path).container.state == EXITED


def test_what_happens_to_others_is_no_change(podman, container, reader):
    container_id = container()
    path = place(podman, container_id)
    found = told(reader, podman, container_id)
    container("--name", "other")
    assert not reader.changed(found, path)


def let_use_devices(cgroup: str) -> None:
    """Take a pod's cgroup the program that refuses its containers all devices, /dev/null too, so that none can start.

    Podman 4.3 gives it one where it makes the cgroup itself, not systemd, and in v2.
    """
    if os.path.isdir(cgroup):
        bpftool = needs.program("bpftool", "bpftool")
        shown = subprocess.run([bpftool, "-j", "cgroup", "show", cgroup], capture_output=True, check=True).stdout
        for program in json.loads(shown or b"[]"):
            subprocess.run([bpftool, "cgroup", "detach", cgroup, "cgroup_device", "id", str(program["id"])], check=True)


def test_containers_of_a_pod_are_known_and_its_own_is_a_sandbox(podman, reader):
    podman.run("import", "-c", 'CMD ["/bin/sleep", "1000"]', str(podman.archive), "localhost/pause:1")
    options = ("--network", "none", "--infra-image", "localhost/pause:1", "--label", "tier=front", "--name", "shop")
    pod_id = podman.run("pod", "create", *options).stdout.strip()
    try:
        let_use_devices(f"{mount_point()}/libpod_parent/{pod_id}")
        inner = podman.run("run", "-d", "--pod", "shop", podman.image, "sleep", "1000").stdout.strip()
        pod = json.loads(podman.run("pod", "inspect", "shop").stdout)
        infra = next(c["Id"] for c in pod["Containers"] if c["Id"] != inner)
        assert not told(reader, podman, inner).sandbox
        assert told(reader, podman, infra).sandbox
        for one in (inner, infra):
            found = reader.lookup(one, place(podman, one)).pod
            assert found == Pod("shop", "", pod["Id"], labels=(("tier", "front"),), sandbox=infra)
        registry = Registry([Podman()])
        registry.start()
        chosen = Selectors(pods=("sh?p",), labels=("tier=front",)).match()
        assert {i.container.id for i in registry.values() if i.container and chosen(i)} == {inner, infra}
    finally:
        podman.run("pod", "rm", "-f", "-t", "0", "shop")


def test_labels_may_hold_anything_and_are_bounded(podman, container, reader):
    hostile = "\x1b]0;title\x07\n\t\\ \u202e\U0001f600 " + "x" * 100_000
    options = [word for n in range(400) for word in ("--label", f"key-{n}=value")]
    found = told(reader, podman, container("--label", f"evil={hostile}", *options))
    kept = dict(found.labels)
    assert kept["evil"] == hostile[:4096]
    assert len(found.labels) == 257
    assert kept["..."] == "145 more"


def test_conmon_and_its_cgroup_are_not_the_container(podman, container, reader):
    container_id = container()
    for name in (f"libpod-conmon-{container_id}", f"libpod-conmon-{container_id}.scope", "conmon", container_id):
        assert reader.recognises("libpod_parent", name) == ""
        assert reader.lookup(container_id, f"/libpod_parent/{name}") is None
    for name in (f"libpod-{container_id}", f"libpod-{container_id}.scope", f"libpod-payload-{container_id}"):
        assert reader.recognises("machine.slice", name) == container_id


def test_there_is_no_search_for_a_known_store(podman, container, monkeypatch):
    searched = []
    monkeypatch.setattr(conmon, "pids", lambda comm: searched.append(comm) or daemons.pids(comm))
    time = count(step=10**10)
    reader = Podman(clock=lambda: next(time))
    for _ in range(3):
        told(reader, podman, container())
    assert searched == [b"conmon"]


def test_a_walk_finds_containers_that_ran_before(podman, container):
    container_id = container("--name", "early")
    registry = Registry()
    registry.start()
    cgroup = os.stat(mount_point() + place(podman, container_id)).st_ino
    identity = registry[cgroup]
    assert identity.state == RESOLVED
    assert (identity.container.id, identity.container.name) == (container_id, "early")


def test_the_shortest_containers_are_all_named(podman):
    def run(n):
        podman.run("run", "--rm", "--name", f"short-{n}", podman.image, "true", f"{podman.root.name}-{n}")

    with tracked("process") as seen, ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(12)))
    rows = [row for row in seen.rows("exec", comm="true") if podman.root.name in str(row["argv"])]
    assert len(rows) == 12
    for row in rows:
        assert row["container.name"] == row["argv"][-1].replace(podman.root.name, "short")
        assert row["container.image"] == podman.image
        assert len(row["container.id"]) == 64


def test_a_users_container_is_known_only_in_that_users_slice(reader):
    """Where systemd is, it has the cgroup made; here the container's process is put into one like it."""
    needs.root()
    for program, package in (("podman", "podman"), ("runc", "runc"), ("newuidmap", "uidmap"), ("useradd", "passwd")):
        needs.program(program, package)
    with users_podman() as podman:
        container_id = podman.run("run", "-d", "--name", "mine", "-l", "app=web", podman.image, "sleep", "1000").stdout.strip()
        uid = podman.account.pw_uid
        path = f"/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-{container_id}.scope"
        with cgroup(path) as cgroup_id:
            pid = inspected(podman, container_id)["State"]["Pid"]
            Path(f"{mount_point()}{path}/cgroup.procs").write_text(str(pid))
            registry = Registry()
            registry.start()
            identity = registry[cgroup_id]
            others = [f"/user.slice/user-1.slice/libpod-{container_id}.scope", f"/machine.slice/libpod-{container_id}.scope"]
            assert [reader.lookup(container_id, other) for other in others] == [None, None]
            podman.run("rm", "-f", "-t", "0", "mine", check=False)
        assert identity.state == RESOLVED
        container = identity.container
        assert (container.id, container.name, container.image) == (container_id, "mine", podman.image)
        assert container.labels == (("app", "web"),)
        assert container.command == ("sleep", "1000")
    assert not podman.root.exists()
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)


def test_nothing_is_left_of_a_private_podman():
    needs.root()
    needs.program("podman", "podman")
    with private_podman() as podman:
        options = ["--network", podman.network]
        container_id = podman.run("run", "-d", *options, podman.image, "sleep", "1000").stdout.strip()
        root, pid = podman.root, inspected(podman, container_id)["State"]["Pid"]
        assert Path(f"/sys/class/net/{podman.network}").exists()
    assert not root.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert not Path(f"/sys/class/net/{podman.network}").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/libpod-{container_id}"))
