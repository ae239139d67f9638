# SPDX-License-Identifier: BSD-2-Clause
"""Metadata of real containerd containers: plain ones, and pods made by CRI."""

import os
import select
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eunomia.containers.cgroup_files import mount_point
from eunomia.containers.daemons import DataRoot
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.containerd import TASKS, Containerd
from eunomia.identity import RESOLVED, RUNNING, Identity, Mount
from eunomia.kernel_clock import monotonic_ns
from tests import needs
from tests.harness import tracked


@pytest.fixture
def reader(containerd):
    return Containerd([DataRoot("/", str(containerd.state))])


@pytest.fixture
def pod(containerd):
    made = []

    def pod(name="web", **options):
        options.setdefault("image", containerd.image)
        made.append(containerd.cri.pod(name, **options))
        return made[-1]

    yield pod
    for one in made:
        containerd.cri.remove(one.sandbox)


def path_of(containerd, container_id, namespace=""):
    """Return the path of a container's cgroup, as the kernel has it."""
    for line in containerd.ctr("task", "ls", namespace=namespace).stdout.splitlines():
        if line.split()[0] == container_id:
            lines = Path(f"/proc/{line.split()[1]}/cgroup").read_text().splitlines()
            return next(line for line in lines if line.startswith("0::"))[3:]
    raise AssertionError(f"no task {container_id} in {namespace}")


def test_a_plain_container_has_all_metadata(containerd, reader, tmp_path):
    mount = f"type=bind,src={tmp_path},dst=/data,options=rbind:ro"
    containerd.start("plain", options=("--label", "app=web", "--mount", mount, "--cap-drop", "CAP_MKNOD"))
    try:
        path = path_of(containerd, "plain")
        assert reader.recognises(*path.split("/")[-2:]) == "plain"
        found = reader.lookup("plain", path)
    finally:
        containerd.remove("plain")
    told = found.container
    assert (told.id, told.name, told.image, told.runtime) == ("plain", "plain", containerd.image, "containerd")
    listed = containerd.ctr("image", "ls").stdout
    assert told.image_digest.startswith("sha256:")
    assert told.image_digest in listed
    assert told.image_id.startswith("sha256:")
    assert told.image_id != told.image_digest
    assert ("app", "web") in told.labels
    assert told.command == ("sleep", "1000")
    assert (told.user, told.network, told.seccomp, told.apparmor) == ("0:0", "none", "unconfined", "unconfined")
    assert told.mounts == (Mount(str(tmp_path), "/data", "bind", False),)
    assert "CAP_CHOWN" in told.capabilities
    assert "CAP_MKNOD" not in told.capabilities
    assert told.privileged is False
    assert (told.state, told.pid > 0) == (RUNNING, True)
    assert 1 << 60 < told.created < told.started
    assert found.pod is None


def test_ids_of_any_shape_are_told_apart_by_their_namespaces(containerd, reader):
    one, other = containerd.namespace, f"{containerd.namespace}-a"
    made = [(one, "web"), (other, "web"), (other, "A.b_c-1"), (one, "f" * 64), (one, "1")]
    try:
        for namespace, container_id in made:
            containerd.start(container_id, "sleep", f"10{len(namespace)}{len(container_id)}", namespace=namespace)
        for namespace, container_id in made:
            found = reader.lookup(container_id, path_of(containerd, container_id, namespace))
            assert found.container.name == container_id
            assert found.container.command[1] == f"10{len(namespace)}{len(container_id)}"
    finally:
        for namespace, container_id in made:
            containerd.remove(container_id, namespace=namespace)


def test_names_that_are_no_containers_are_not_recognised(containerd, reader):
    containerd.start("there")
    try:
        assert reader.recognises(containerd.namespace, "there") == "there"
        assert reader.lookup("there", "/another/there") is None
        for parent, name in (
            ("another", "there"), ("", "there"), (containerd.namespace, ""), (containerd.namespace, "here"), ("system.slice", "ssh.service"),
            (containerd.namespace, "..\\x2fdefault"), ("..", TASKS), (containerd.namespace, "x" * 300), (".", containerd.namespace),
        ):  # fmt: skip
            assert reader.recognises(parent, name) == ""
    finally:
        containerd.remove("there")


def test_a_container_of_nerdctls_has_the_name_that_its_user_gave(containerd, reader):
    container_id = "ab" * 32
    labels = ("--label", "nerdctl/name=shop", "--label", 'nerdctl/networks=["bridge","back"]')
    containerd.start(container_id, options=labels)
    try:
        told = reader.lookup(container_id, path_of(containerd, container_id)).container
        assert (told.id, told.name, told.network) == (container_id, "shop", "bridge,back")
        assert reader.recognises("system.slice", f"nerdctl-{container_id}.scope") == container_id
        assert not reader.changed(told, f"/{containerd.namespace}/{container_id}")
        containerd.ctr("container", "label", container_id, "nerdctl/name=renamed")
        assert reader.changed(told, f"/{containerd.namespace}/{container_id}")
        assert reader.lookup(container_id, f"/{containerd.namespace}/{container_id}").container.name == "renamed"
    finally:
        containerd.remove(container_id)


def test_another_containers_change_is_not_taken_for_ones_own(containerd, reader):
    containerd.start("one")
    containerd.start("two")
    try:
        told = reader.lookup("one", f"/{containerd.namespace}/one").container
        containerd.ctr("container", "label", "two", "a=b")
        assert not reader.changed(told, f"/{containerd.namespace}/one")
    finally:
        containerd.remove("one", "two")


def test_a_pod_has_labels_annotations_and_addresses(containerd, reader, pod):
    made = pod(
        "web", namespace="shop", containers=("app", "sidecar"), labels={"app": "web", "tier": "front"},
        annotations={"team": "payments"}, attempt=4,
    )  # fmt: skip
    for name, container_id in made.containers.items():
        path = path_of(containerd, container_id, "k8s.io")
        told, told_pod = reader.lookup(container_id, path)
        assert (told.id, told.name, told.image, told.sandbox) == (container_id, name, containerd.image, False)
        assert ("io.kubernetes.container.name", name) in told.labels
        assert told.annotations == (("io.kubernetes.container.restartCount", "4"),)
        assert (told.restarts, told.privileged, told.network) == (4, False, "pod")
        assert told.image_digest
        assert told.image_id
        assert told_pod[:3] == ("web", "shop", made.uid)
        assert told_pod.labels == (("app", "web"), ("tier", "front"))
        assert told_pod.annotations == (("team", "payments"),)
        assert (told_pod.sandbox, told_pod.qos) == (made.sandbox, "Burstable")
        assert told.addresses == told_pod.addresses
        assert told_pod.addresses[0].startswith("198.19.")
    told, sandbox_pod = reader.lookup(made.sandbox, path_of(containerd, made.sandbox, "k8s.io"))
    assert (told.name, told.sandbox, told.restarts) == ("POD", True, None)
    assert sandbox_pod == told_pod


def test_a_pod_on_the_hosts_network_says_so(containerd, reader, pod):
    made = pod("node", host_network=True, parent="kubepods/pod{uid}")
    told, told_pod = reader.lookup(made.containers["app"], path_of(containerd, made.containers["app"], "k8s.io"))
    assert (told.network, told.addresses, told_pod.qos) == ("host", (), "Guaranteed")


def test_without_the_database_the_bundles_metadata_is_used(containerd, reader, pod, tmp_path):
    made = pod("web", namespace="shop")
    container_id = made.containers["app"]
    state = tmp_path / "state" / TASKS / "k8s.io" / container_id
    state.mkdir(parents=True)
    (state / "config.json").write_bytes(
        (containerd.state / TASKS / "k8s.io" / container_id / "config.json").read_bytes()
    )
    told, told_pod = Containerd([DataRoot("/", str(tmp_path / "state"))]).lookup(container_id, f"/x/{container_id}")
    assert (told.name, told.image) == ("app", containerd.image)
    assert told_pod[:3] == ("web", "shop", made.uid)
    assert told_pod.sandbox == made.sandbox


def test_running_daemons_and_shims_are_found_by_themselves(containerd):
    containerd.start("found")
    try:
        reader = Containerd()
        assert reader.recognises(containerd.namespace, "found") == "found"
        assert [s.path for s in reader.states].count(str(containerd.state)) == 1
    finally:
        containerd.remove("found")


def test_a_shim_alone_leads_to_its_state_directory(containerd, monkeypatch):
    """Its daemon may be gone: being restarted, say."""
    containerd.start("orphan")
    from eunomia.containers import daemons
    from eunomia.containers.runtimes import containerd as module

    monkeypatch.setattr(module, "pids", lambda comm: [] if comm == b"containerd" else daemons.pids(comm))
    try:
        assert Containerd().lookup("orphan", f"/{containerd.namespace}/orphan").container.image == containerd.image
    finally:
        containerd.remove("orphan")


def test_containers_of_docker_are_left_to_docker(docker):
    reader = Containerd()
    made = docker.run("run", "-d", docker.image, "sleep", "1000").stdout.strip()
    try:
        assert reader.lookup(made, f"/docker/{made}") is None
        assert any(str(docker.exec_root) in s.path for s in reader.states), "its containerd was found all the same"
        assert reader.recognises("moby", made) == ""
    finally:
        docker.run("rm", "-f", made)


def test_a_container_is_known_before_its_first_program_runs(containerd):
    """Twenty that end immediately, several at a time: each row has its own id, name and image."""
    names = [f"short-{n}" for n in range(20)]
    containerd.use(containerd.namespace)
    with tracked("process") as seen, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: containerd.once(name, "true", f"word-{name}"), names))
        seen.until(lambda s: len(s.rows("exec", comm="true")) >= len(names))
    rows = [row for row in seen.rows("exec", comm="true") if any(w.startswith("word-short-") for w in row["argv"])]
    assert len(rows) == len(names)
    for row in rows:
        assert row["container.id"] == row["container.name"] == row["argv"][1].removeprefix("word-")
        assert (row["container.image"], row["container.runtime"]) == (containerd.image, "containerd")
        assert row["identity"] == RESOLVED


def test_the_registry_knows_pods_and_plain_containers_that_ran_before(containerd, pod):
    made = pod("early", labels={"app": "early"})
    containerd.start("early-plain")
    try:
        registry = Registry()
        registry.start()
        identities = {i.container.id: i for i in registry.values() if i.container is not None}
        assert identities["early-plain"].state == RESOLVED
        assert identities[made.containers["app"]].pod.labels == (("app", "early"),)
        assert identities[made.sandbox].container.sandbox
        inside = os.stat(mount_point() + path_of(containerd, "early-plain")).st_ino
        assert isinstance(registry[inside], Identity)
    finally:
        containerd.remove("early-plain")


def test_what_is_kept_of_a_container_is_small(containerd, reader, pod):
    made = pod("small", labels={f"label-{n}": "value" * 10 for n in range(20)})
    container_id = made.containers["app"]
    found = reader.lookup(container_id, path_of(containerd, container_id, "k8s.io"))
    assert _size(found) < 15_000


def _size(value):
    inside = sum(map(_size, value)) if isinstance(value, tuple) else 0
    return sys.getsizeof(value) + inside


def test_looking_up_while_containers_come_and_go_never_fails(containerd, reader):
    """The database is written to all the time meanwhile."""
    containerd.start("steady")
    done = threading.Event()

    def churn():
        for n in range(8):
            containerd.once(f"churn-{n}", "true")
        done.set()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        looked = 0
        while not done.is_set() or not looked:
            found = reader.lookup("steady", f"/{containerd.namespace}/steady")
            assert (found.container.name, found.container.image) == ("steady", containerd.image)
            looked += 1
    finally:
        thread.join()
        containerd.remove("steady")


def test_a_cgroup_that_was_asked_for_and_an_id_like_a_units_are_containers(containerd):
    """``ctr run --cgroup``: the bundle alone says whose the cgroup is, also to one that comes later."""
    places = {f"eu-group-{os.getpid()}": f"/eu-{os.getpid()}/deep", f"eu-{os.getpid()}.service": ""}
    try:
        for name, group in places.items():
            containerd.start(name, options=["--cgroup", group] if group else [])
        registry = Registry([Containerd()])
        registry.start()
        found = {case.candidate.path: case.identity for case in registry.entries()}
        for name, group in places.items():
            identity = found[group or f"/{containerd.namespace}/{name}"]
            assert (identity.state, identity.container.id, identity.container.runtime) == (RESOLVED, name, "containerd")
    finally:
        for name in places:
            containerd.ctr("task", "rm", "-f", name, check=False)
            containerd.ctr("container", "rm", name, check=False)
        for pattern in (f"eu-{os.getpid()}", f"*/eu-{os.getpid()}"):
            for directory in Path("/sys/fs/cgroup").glob(pattern):
                directory.rmdir()


@pytest.fixture
def shared(containerd):
    """A cgroup that containers are put in one after the other: its path, and that of its directory."""
    group = f"/eu-shared-{os.getpid()}/deep"
    yield group
    for name in ("former", "latter"):
        containerd.remove(name)
    parent = group.split("/")[1]
    for pattern in (parent, f"*/{parent}"):
        for directory in Path("/sys/fs/cgroup").glob(pattern):
            for one in (directory / "deep/keep", directory / "deep", directory):
                if one.exists():
                    one.rmdir()


def names_in(registry, path):
    return {case.identity.container.name for case in registry.entries() if case.candidate.path == path}


def wait_for(registry, path, name):
    deadline = time.monotonic() + 20 * needs.PATIENCE
    while names_in(registry, path) != {name}:
        assert time.monotonic() < deadline, f"{names_in(registry, path)} in {path}, not {name}"
        select.select([registry.watcher.fd], [], [], 0.1)
        registry.tick(monotonic_ns())


def test_a_cgroup_that_was_never_removed_is_the_next_containers(containerd, shared):
    containerd.start("former", options=["--cgroup", shared])
    registry = Registry([Containerd([DataRoot("/", str(containerd.state))])])
    registry.start()
    wait_for(registry, shared, "former")
    keep = Path(f"{mount_point()}{shared}/keep")
    keep.mkdir()
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        (keep / "cgroup.procs").write_text(str(sleeper.pid))  # so that it cannot be removed
        containerd.remove("former")
        wait_for(registry, shared, "former")
        containerd.start("latter", options=["--cgroup", shared])
        wait_for(registry, shared, "latter")
        assert registry.by_pid(sleeper.pid).container.name == "latter", "cgroups below it, too"
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_cgroup_of_the_same_path_is_not_the_container_that_was_there_before(containerd, shared):
    """``former`` is remembered for a while: rows of it may still come."""
    with tracked("process") as seen:
        for name in ("former", "latter"):
            containerd.start(name, "sh", "-c", f"/bin/true {name}; sleep 1000", options=["--cgroup", shared])
            seen.until(lambda s, n=name: s.rows("exec", argv=["/bin/true", n]))
            containerd.remove(name)
    for name in ("former", "latter"):
        row = seen.row("exec", argv=["/bin/true", name])
        assert (row["container.name"], row["identity"]) == (name, "resolved")
