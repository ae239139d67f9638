# SPDX-License-Identifier: BSD-2-Clause
"""Containers that come and go while Eunomia is stopped, as on a machine without a free processor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import needs
from tests.runtimes.containerd import IMAGE, Containerd
from tests.runtimes.cri import decoded

EUNOMIA = [sys.executable, "-c", "import sys; from eunomia.cli import main; sys.exit(main())"]
_EXITED = 2  # ContainerState of CRI
_WITHIN = 30  # seconds


class Stopped:
    """An Eunomia that runs; what is done in :meth:`meanwhile` it hears of only after."""

    def __init__(self, output: Path, options: Sequence[str]) -> None:
        self.output = output
        with output.open("wb") as out:
            self.process = subprocess.Popen([*EUNOMIA, "run", "process", "-o", "json", *options], stdout=out)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.output.read_bytes().splitlines(True) if line.endswith(b"\n")]

    def until(self, holds: Callable[[list[dict]], object], also: Callable[[], object] = lambda: None) -> list[dict]:
        deadline = time.monotonic() + _WITHIN * needs.PATIENCE
        while not holds(rows := self.rows()):
            assert self.process.poll() is None
            assert time.monotonic() < deadline, rows[-3:]
            also()
            time.sleep(0.02)
        return rows

    def of(self, word: str) -> list[dict]:
        """Return the rows of what was started with a word, to its end; once there are such."""

        def both(rows: list[dict]) -> list[dict]:
            ids = {row["exec_id"] for row in rows if row.get("argv") == ["true", word]}
            found = [row for row in rows if row["exec_id"] in ids]
            return found if any(row["stream"] == "exit" for row in found) else []

        return both(self.until(both))


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Callable[..., Stopped]]:
    needs.root()
    begun: list[Stopped] = []

    def begin(*options: str) -> Stopped:
        begun.append(Stopped(tmp_path / f"{len(begun)}.json", options))
        begun[-1].until(lambda rows: rows, also=lambda: subprocess.run(["true"], check=True))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.send_signal(signal.SIGCONT)
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(_WITHIN * needs.PATIENCE) == 0


def to_its_end(containerd: Containerd, word: str, image: str = "") -> tuple[str, str, str]:
    """Run a pod's container that ends immediately; return its id, the pod's uid and its sandbox's id."""
    pod = containerd.cri.pod(f"short-{word}", image=image or containerd.image, command=("true", word))
    container_id = pod.containers["app"]
    deadline = time.monotonic() + _WITHIN * needs.PATIENCE
    while decoded(containerd.cri.call("ContainerStatus", {1: container_id})[1][0]).get(3, [0])[0] != _EXITED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return container_id, pod.uid, pod.sandbox


def bundles(containerd: Containerd, container_id: str) -> list[Path]:
    return list(containerd.state.glob(f"io.containerd.runtime.v2.task/*/{container_id}"))


def test_a_pods_container_whose_bundle_is_gone_is_named_by_containerds_database(containerd, stopped):
    word, eunomia = uuid.uuid4().hex, stopped()
    with eunomia.meanwhile():
        container_id, uid, sandbox = to_its_end(containerd, word)
        assert not bundles(containerd, container_id)
    try:
        for row in eunomia.of(word):
            assert row["identity"] == "resolved", row
            assert row["container"] == {
                "id": container_id, "name": "app", "image": containerd.image, "runtime": "containerd",
            }  # fmt: skip
            assert row["pod"] == {"name": f"short-{word}", "namespace": "shop", "uid": uid}
    finally:
        containerd.cri.remove(sandbox)


def test_a_pods_container_of_which_nothing_is_left_is_unknown_with_its_id_and_its_pods_uid(containerd, stopped):
    word, eunomia = uuid.uuid4().hex, stopped()
    with eunomia.meanwhile():
        container_id, uid, sandbox = to_its_end(containerd, word)
        containerd.cri.remove(sandbox)
    for row in eunomia.of(word):
        assert row["identity"] in {"pending", "unknown"}, row
        assert (row["container"]["id"], row["pod"]["uid"]) == (container_id, uid)


def test_a_plain_container_of_which_nothing_is_left_is_not_the_hosts(containerd, stopped):
    word, eunomia = uuid.uuid4().hex, stopped()
    containerd.once(f"before-{word}", "true")  # its namespace is not new
    with eunomia.meanwhile():
        containerd.once(f"plain-{word}", "true", word)
    for row in eunomia.of(word):
        assert row["identity"] in {"pending", "unknown"}, row
        assert row["container"]["id"] == f"plain-{word}"


def test_a_container_in_a_cgroup_of_any_name_of_which_nothing_is_left_is_not_the_hosts(containerd, stopped):
    word, eunomia = uuid.uuid4().hex, stopped()
    containerd.use("")
    with eunomia.meanwhile():
        given = ("--rm", "--cgroup", f"/{containerd.directory.name}/of/mine", "--snapshotter", containerd.snapshotter)
        containerd.ctr("run", *given, "--runc-root", f"{containerd.directory}/runc", IMAGE, f"c-{word}", "true", word)
    for row in eunomia.of(word):
        assert row["identity"] in {"pending", "unknown"}, row
        assert row["container"]["id"] == "mine"


def test_a_container_of_dockers_that_is_removed_at_its_end_is_not_the_hosts(docker, stopped):
    word, eunomia = uuid.uuid4().hex, stopped()
    with eunomia.meanwhile():
        docker.run("run", "--rm", "--name", f"brief-{word}", "--network", "none", docker.image, "true", word)
    for row in eunomia.of(word):
        # its thread stood still, too: nothing was read as the cgroup was made
        assert row["identity"] in {"pending", "unknown"}, row
        assert (row["container"]["runtime"], len(row["container"]["id"])) == ("docker", 64)


def test_a_container_of_podmans_whose_record_outlives_it_is_named(podman, stopped):
    word = uuid.uuid4().hex
    # a store that is not in the usual place is known by a container that runs
    podman.run("run", "-d", "--network", "none", "--name", f"runs-{word}", podman.image, "sleep", "1000")
    eunomia = stopped()
    with eunomia.meanwhile():
        made = podman.run("run", "-d", "--network", "none", "--name", f"brief-{word}", podman.image, "true", word)
        podman.run("wait", f"brief-{word}")
    try:
        for row in eunomia.of(word):
            assert row["identity"] == "resolved", row
            assert row["container"]["id"] == made.stdout.strip()
            assert row["container"]["name"] == f"brief-{word}"
    finally:
        podman.run("rm", "-f", "-t", "0", f"brief-{word}", f"runs-{word}")


def test_a_container_of_podmans_that_is_removed_at_its_end_is_not_the_hosts(podman, stopped):
    word, eunomia = uuid.uuid4().hex, stopped()
    with eunomia.meanwhile():
        podman.run("run", "--rm", "--network", "none", "--name", f"brief-{word}", podman.image, "true", word)
    for row in eunomia.of(word):
        assert row["identity"] in {"pending", "unknown"}, row
        assert row["container"]["runtime"] == "podman"
        assert len(row["container"]["id"]) == 64
