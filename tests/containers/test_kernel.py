# SPDX-License-Identifier: BSD-2-Clause
"""The cgroup probe in the real kernel, with real cgroups and a real Docker."""

import os
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import eunomia.containers
from eunomia.containers.cgroup_files import mount_point, path_of
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.docker import DataRoot, Docker
from eunomia.containers.selection import CONTAINERS, Selection
from eunomia.identity import ON_HOST, PENDING, RESOLVED, UNKNOWN, UNKNOWN_IDENTITY
from tests import needs
from tests.containers.stage import batch, hex_id
from tests.runtimes.docker import docker  # noqa: F401

OBJECT = Path(eunomia.containers.__file__).with_name("cgroups.bpf.o")


class Live:
    """A registry fed by the kernel, stepped by hand as the engine's loop would."""

    def __init__(self, readers, runtimes=None):
        self.readers = readers
        self.registry = Registry(runtimes)
        self.registry.start()

    def step(self):
        self.registry.feed([b for name in ("made", "removed") for b in self.readers[name].drain()])
        self.registry.tick(time.monotonic_ns())

    def until(self, condition, seconds=10):
        end = time.monotonic() + seconds * needs.PATIENCE
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.01)
            self.step()


@pytest.fixture
def readers():
    needs.root()
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    with Loaded.attached(Spec.open(OBJECT)) as loaded:
        yield loaded.readers


@pytest.fixture
def live(readers):
    return Live(readers)


@contextmanager
def cgroup(path):
    """Make a cgroup, and its parents, for a while; yield its id."""
    mount = mount_point()
    if mount is None:
        pytest.skip("needs the v2 cgroup hierarchy mounted: mount -t cgroup2 none /sys/fs/cgroup")
    made = []
    try:
        directory = Path(mount)
        for name in Path(path).relative_to("/").parts:
            directory /= name
            with suppress(FileExistsError):
                directory.mkdir()
                made.append(directory)
        yield directory.stat().st_ino
    finally:
        for directory in reversed(made):
            with suppress(OSError):  # a parent that others have come to use
                directory.rmdir()


def test_the_record_of_a_new_cgroup_is_its_inode_and_path_once_though_there_are_many_hierarchies(readers):
    name = f"/eunomia-{os.getpid()}"
    with cgroup(name) as cgroup_id:
        rows = [
            row
            for b in readers["made"].drain()
            for row in zip(b.raw("cgroup_id"), b.values("path"), strict=True)
        ]
    assert rows.count((cgroup_id, name)) == 1
    gone = [i for b in readers["removed"].drain() for i in b.raw("cgroup_id")]
    assert gone.count(cgroup_id) == 1


def test_a_v1_cgroup_makes_no_record(readers):
    v1 = Path("/sys/fs/cgroup/memory")
    if not (v1 / "tasks").exists():
        pytest.skip("needs a v1 hierarchy at /sys/fs/cgroup/memory: this machine has v2 only")
    directory = v1 / f"eunomia-{os.getpid()}"
    directory.mkdir()
    directory.rmdir()
    assert [p for b in readers["made"].drain() for p in b.values("path") if p.endswith(directory.name)] == []


def test_a_bare_hex_name_that_no_runtime_knows_is_never_the_hosts(live):
    with cgroup(f"/eunomia-test/{hex_id()}") as cgroup_id:
        live.step()
        assert live.registry[cgroup_id].state == PENDING


def test_a_hex_name_below_docker_that_docker_does_not_know_is_pending_then_unknown(live):
    container_id = hex_id()
    with cgroup(f"/docker/{container_id}") as cgroup_id:
        live.step()
        assert live.registry[cgroup_id].state == PENDING
        live.until(lambda: live.registry[cgroup_id].state == UNKNOWN)
        assert live.registry[cgroup_id].container.id == container_id


def test_cgroups_made_before_the_start_are_known_by_their_inode(readers):
    with cgroup("/eunomia-test/x/y") as cgroup_id:
        assert dict.get(Live(readers, []).registry, cgroup_id) == ON_HOST


def test_a_process_is_looked_up_by_its_cgroup(live):
    assert (
        live.registry.by_pid(os.getpid()) == live.registry[(os.stat(mount_point() + path_of("self"))).st_ino]
    )
    child = subprocess.Popen(["true"])
    child.wait()
    assert live.registry.by_pid(child.pid) == UNKNOWN_IDENTITY


def test_a_thousand_short_lived_cgroups_leave_nothing_behind(live, monkeypatch):
    monkeypatch.setattr("eunomia.containers.cgroup_tree.GRACE", 0)
    with cgroup("/eunomia-test/loop"):
        live.step()
        before = len(live.registry)
        directory = Path(mount_point() + "/eunomia-test/loop/x")
        for i in range(1000):
            directory.mkdir()
            directory.rmdir()
            if i % 100 == 0:
                live.step()
        live.step()
        live.step()
        assert len(live.registry) == before


# Docker


def test_a_container_that_lives_for_a_moment_has_id_name_and_image_before_it_runs(live, docker):
    seen = {}
    live.registry.subscribe(lambda _, identity, path: seen.setdefault(path, identity))
    command = ["docker", "-H", f"unix://{docker.socket}", "run", "--rm", "--network", "none"]
    started = subprocess.Popen([*command, "--name", "brief", docker.image, "sleep", "0.05"])
    live.until(lambda: started.poll() is not None, 30)
    live.step()
    path, first = next((p, i) for p, i in seen.items() if i.container and i.container.name == "brief")
    assert first.state == RESOLVED
    assert path == f"/docker/{first.container.id}"
    assert (first.container.image, first.container.runtime) == (docker.image, "docker")


def test_containers_that_ran_before_are_known_and_selected_and_a_rename_is_followed(readers, docker):
    container_id = docker.run(
        "run", "-d", "--name", "before", "--network", "none", docker.image, "sleep", "100"
    )
    container_id = container_id.stdout.strip()
    live = Live(readers)
    pid = int(docker.run("inspect", "-f", "{{.State.Pid}}", "before").stdout)
    live.until(lambda: live.registry.by_pid(pid).state == RESOLVED)  # a dockerd is looked for now and then
    assert live.registry.by_pid(pid).container[:3] == (container_id, "before", docker.image)
    by_name, by_id, every = Selection(["before"]), Selection([container_id[:12]]), Selection(mode=CONTAINERS)
    for selection in (by_name, by_id, every):
        live.registry.subscribe(selection)
    assert len(by_name.ids) == 1
    assert by_name.ids == by_id.ids <= every.ids
    docker.run("rename", "before", "after")
    live.registry.recheck()
    assert live.registry.by_pid(pid).container.name == "after"
    assert by_name.ids == set()
    docker.run("rm", "-f", "after")
    live.until(lambda: not by_id.ids)


def test_custom_parents_and_cgroups_made_inside_keep_the_container(live, docker):
    parent = f"/eunomia-parent-{os.getpid()}"
    docker.run(
        "run",
        "-d",
        "--name",
        "kept",
        "--cgroup-parent",
        parent,
        "--network",
        "none",
        docker.image,
        "sleep",
        "100",
    )
    container_id = docker.run("inspect", "-f", "{{.Id}}", "kept").stdout.strip()
    try:
        with cgroup(f"{parent}/{container_id}/init.scope") as inner:
            live.step()
            assert live.registry[inner].container.name == "kept"
    finally:
        docker.run("rm", "-f", "kept")
        with suppress(OSError):
            os.rmdir(mount_point() + parent)


def test_a_container_whose_path_the_kernel_cuts_is_known(live, docker):
    """Records of cgroups have 1023 bytes of their paths."""
    top = f"/eunomia-{os.getpid()}"
    parent = top + "".join(f"/{letter * 200}" for letter in "abcde")
    words = ["run", "-d", "--name", "deep", "--network", "none", "--cgroup-parent", parent]
    container_id = docker.run(*words, docker.image, "sleep", "1000").stdout.strip()
    try:
        live.step()
        pid = int(docker.run("inspect", "-f", "{{.State.Pid}}", "deep").stdout)
        path = path_of(pid)
        assert path == f"{parent}/{container_id}"
        identity = dict(live.registry)[os.stat(mount_point() + path).st_ino]
        assert (identity.state, identity.container.name) == (RESOLVED, "deep")
        docker.run("rm", "-f", "deep")
        live.until(lambda: container_id not in {case.candidate.id for case in live.registry.entries()})
    finally:
        docker.run("rm", "-f", "deep", check=False)
        for directory in {*Path("/sys/fs/cgroup").glob(top[1:]), *Path("/sys/fs/cgroup").glob(f"*{top}")}:
            for below, _, _ in os.walk(directory, topdown=False):
                os.rmdir(below)


def test_a_path_that_is_cut_and_gone_is_not_taken_for_a_shorter_one(live):
    name = "/" + "a" * 1022
    live.registry.feed([batch("made", (1 << 40, name))])
    assert live.registry[1 << 40] is UNKNOWN_IDENTITY
    live.registry.feed([batch("removed", (1 << 40, name))])
    assert live.registry[1 << 40] is UNKNOWN_IDENTITY


def test_a_daemon_that_is_not_searched_for_is_not_known(readers, docker, tmp_path):
    docker.run("run", "-d", "--name", "elsewhere", "--network", "none", docker.image, "sleep", "100")
    pid = int(docker.run("inspect", "-f", "{{.State.Pid}}", "elsewhere").stdout)
    try:
        assert Live(readers, [Docker([DataRoot("/", str(tmp_path))])]).registry.by_pid(pid).state == PENDING
        root = DataRoot("/", str(docker.data_root))
        assert Live(readers, [Docker([root])]).registry.by_pid(pid).container.name == "elsewhere"
    finally:
        docker.run("rm", "-f", "elsewhere")
