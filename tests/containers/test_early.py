# SPDX-License-Identifier: BSD-2-Clause
"""Files that are gone when the engine reads them."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from eunomia.containers import cgroup_files, early
from eunomia.containers.daemons import DataRoot
from eunomia.engine import Engine
from eunomia.source import Options
from tests import needs
from tests.containers.stage import hex_id
from tests.harness import tracked
from tests.runtimes.cri import Cri, decoded

_EXITED = 2  # ContainerState of CRI
_WITHIN = 60  # seconds


@contextmanager
def cgroup(name: str) -> Iterator[None]:
    path = f"{cgroup_files.mount_point()}/{name}"
    os.mkdir(path)
    try:
        yield
    finally:
        os.rmdir(path)


@pytest.fixture
def engine() -> Iterator[Engine]:
    needs.root()
    with Engine() as engine:
        engine.start()
        yield engine


def kept(path: object) -> tuple[bytes, int]:
    deadline = time.monotonic() + _WITHIN
    while (found := early.kept(str(path))) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("form", ["{}", "docker-{}.scope", "cri-containerd-{}.scope", "pod.slice:cri-containerd:{}"])
def test_a_file_is_read_as_the_cgroup_is_made_and_outlives_itself(engine, tmp_path, form):
    container_id = hex_id()
    (tmp_path / container_id).mkdir()
    file = tmp_path / container_id / "config.json"
    file.write_text("said")
    written = file.stat().st_mtime_ns
    early.want([f"{tmp_path}/{{}}/config.json", f"{tmp_path}/{{}}/absent.json"])
    with cgroup(form.format(container_id)):
        assert kept(file) == (b"said", written)
    file.unlink()
    assert DataRoot("/", str(tmp_path)).read(str(file)) == (b"said", written)
    with pytest.raises(FileNotFoundError):
        DataRoot("/proc/self/root", str(tmp_path)).read(str(file))
    with pytest.raises(FileNotFoundError):
        DataRoot("/", str(tmp_path)).read(f"{tmp_path}/{container_id}/absent.json")


def test_a_later_container_of_the_same_name_is_not_given_what_an_earlier_one_had(engine, tmp_path):
    file, other = tmp_path / "same" / "config.json", tmp_path / "other" / "config.json"
    for directory in (file.parent, other.parent):
        directory.mkdir()
    early.want([f"{tmp_path}/{{}}/config.json"])
    file.write_text("earlier")
    with cgroup("same"):
        assert kept(file)[0] == b"earlier"
    file.unlink()
    other.write_text("told")
    with cgroup("same"), cgroup("other"):
        assert kept(other)[0] == b"told"
    assert early.kept(str(file)) is None


def test_special_and_long_files_are_refused_and_lists_are_limited(engine, tmp_path):
    early.want([f"{tmp_path}/{{}}", f"{tmp_path}/{{}}.json"])
    names = [hex_id() for _ in range(30)]
    os.mkfifo(tmp_path / names[0])
    (tmp_path / names[1]).symlink_to("/etc/hostname")
    (tmp_path / names[2]).write_bytes(bytes((1 << 20) + 1))
    for name in names[3:]:
        (tmp_path / name).write_bytes(bytes(1 << 20))
    for name in names:
        with cgroup(name):
            pass
    kept(tmp_path / names[-1])
    assert [early.kept(str(tmp_path / name)) for name in names[:4]] == [None] * 4
    assert sum(early.kept(str(tmp_path / name)) is not None for name in names) <= 16


def test_nothing_is_read_any_more_when_the_run_is_over(tmp_path):
    needs.root()
    with Engine() as engine:
        engine.start()
    assert early.kept(str(tmp_path)) is None
    threads = len(os.listdir("/proc/self/task"))
    with Engine() as engine:
        engine.start()
        assert len(os.listdir("/proc/self/task")) == threads + 1
    assert len(os.listdir("/proc/self/task")) == threads


def test_the_thread_leaves_signals_to_python(engine):
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert heard
    finally:
        signal.signal(signal.SIGUSR1, before)
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    blocked = [int(line.split()[1], 16) for line in lines if line.startswith("SigBlk")]
    assert any(mask >> (signal.SIGINT - 1) & 1 for mask in blocked)


def test_pods_that_come_and_go_between_two_looks_are_all_named(containerd):
    word = uuid.uuid4().hex
    containerd.cri.remove(containerd.cri.pod(f"before-{word}", image=containerd.image).sandbox)

    def one(n: int) -> tuple[str, str]:
        client = Cri(containerd.socket, f"/{containerd.directory.name}", _WITHIN * needs.PATIENCE)
        pod = client.pod(f"p{n}-{word}", image=containerd.image, command=("true", f"{n}-{word}"))
        container_id = pod.containers["app"]
        while decoded(client.call("ContainerStatus", {1: container_id})[1][0]).get(3, [0])[0] != _EXITED:
            time.sleep(0.02)
        client.remove(pod.sandbox)
        client.close()
        return f"{n}-{word}", container_id

    # as if the loop had no processor
    room = Options(ring_size=1 << 25)  # others' programs start meanwhile, too
    with tracked("process", options=room) as seen, seen._lock, ThreadPoolExecutor(4) as pool:
        made = dict(pool.map(one, range(8)))
    for said, container_id in made.items():
        row = seen.row("exec", argv=["true", said])
        assert row["identity"] == "resolved"
        assert row["container.id"] == container_id
        assert (row["container.name"], row["container.image"]) == ("app", containerd.image)
        assert row["pod.name"] == f"p{said}"
        for end in seen.rows("exit", exec_id=row["exec_id"]):
            assert end["pod.name"] == f"p{said}"
