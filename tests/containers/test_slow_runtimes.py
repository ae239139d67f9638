# SPDX-License-Identifier: BSD-2-Clause
"""Runtimes that answer late or never: nothing else waits for them, and their answers are not lost."""

from __future__ import annotations

import ctypes
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eunomia.containers import remote_mounts
from eunomia.containers.daemons import DataRoot
from eunomia.containers.registry import DEADLINE, Registry
from eunomia.containers.runtime import Metadata
from eunomia.containers.runtimes.docker import Docker
from eunomia.identity import ON_HOST, PENDING, RESOLVED, UNKNOWN, Container
from tests import needs
from tests.containers.stage import DB, WEB, Clock, batch, write_config

WITHIN = 60 * needs.PATIENCE  # seconds
PATH = f"/docker/{WEB}"


class Slow:
    """A runtime that answers when it may, and knows who was put into it."""

    name = "slow"

    def __init__(self, *answered: str) -> None:
        self.may_answer = threading.Event()
        self.names: dict[str, str] = {}
        self.listed: list[str] = []
        self.kept = True
        self.asked = 0
        self.threads: set[int] = set()
        self.answered = answered  # what it answers without waiting

    def _wait(self, what: str) -> None:
        self.threads.add(threading.get_ident())
        if what not in self.answered:
            self.asked += 1
            self.may_answer.wait(WITHIN)

    def recognises(self, parent: str, name: str) -> str:
        return name if parent == "slow" else ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        self._wait("lookup")
        name = self.names.get(container_id)
        return Metadata(Container(container_id, name, runtime=self.name)) if name else None

    def watches(self, container: Container, path: str) -> list[str]:
        self._wait("watches")
        return []

    def changed(self, container: Container, path: str) -> bool:
        self._wait("changed")
        return self.names.get(container.id, container.name) != container.name


class Keeper(Slow):
    """One that keeps records."""

    def places(self) -> list[str]:
        self._wait("places")
        return ["/nowhere"]

    def records(self, place: str) -> list[str]:
        self._wait("records")
        return self.listed

    def has_record(self, container: Container, path: str) -> bool:
        self._wait("has_record")
        return self.kept


@pytest.fixture
def slow() -> Iterator[Slow]:
    runtime = Slow()
    yield runtime
    runtime.may_answer.set()


def until(registry: Registry, holds, clock=time.monotonic_ns) -> None:
    """Step as the engine does, as often as the registry wakes it, until something holds."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline
        select.select(registry.descriptors, [], [], 0.05)
        registry.tick(clock())


def test_a_runtime_that_hangs_delays_nothing_else_and_its_containers_are_pending(tmp_path, slow):
    write_config(tmp_path, WEB)
    docker = Docker([DataRoot("/", str(tmp_path))])
    registry = Registry([slow, docker], mount=str(tmp_path / "cgroup"), clock=Clock())
    registry.start()
    registry.feed([batch("made", (7, PATH), (8, "/slow/a"), (9, "/x"))])
    assert (registry[7].container.name, registry[9]) == ("web", ON_HOST)
    assert registry[8] == (PENDING, Container("a", runtime="slow"), None, ())
    assert slow.threads == set() or threading.get_ident() not in slow.threads
    registry.close()


def test_an_answer_wakes_the_engine_and_is_applied_on_its_thread(tmp_path, slow):
    registry = Registry([slow], mount=str(tmp_path))
    slow.names["a"] = "web"
    heard = []
    registry.subscribe(lambda cgroup_id, identity, _: heard.append((threading.get_ident(), identity)))
    registry.feed([batch("made", (8, "/slow/a"))])
    assert registry[8].state == PENDING
    assert not select.select(registry.descriptors, [], [], 0)[0]
    slow.may_answer.set()
    assert select.select(registry.descriptors, [], [], WITHIN)[0]
    assert registry[8].state == PENDING, "nothing changes behind the engine's back"
    until(registry, lambda: registry[8].state == RESOLVED)
    assert registry[8].container.name == "web"
    assert {thread for thread, _ in heard} == {threading.get_ident()}
    assert threading.get_ident() not in slow.threads
    registry.close()


def test_one_that_never_answers_leaves_its_containers_unknown_and_a_late_answer_counts(tmp_path, slow):
    clock = Clock()
    registry = Registry([slow], mount=str(tmp_path), clock=clock)
    registry.feed([batch("made", (8, "/slow/a"))])
    for _ in range(1000):
        due = registry.next_deadline()
        if due is None:
            break
        clock.now = due
        registry.tick(due)
    assert registry[8] == (UNKNOWN, Container("a", runtime="slow"), None, ())
    assert slow.asked == 1, "it is not asked again while it has not answered"
    slow.names["a"] = "web"
    slow.may_answer.set()
    until(registry, lambda: registry[8].state == RESOLVED, clock)
    registry.close()


def test_the_engine_waits_once_for_one_that_hangs_and_not_for_each_container(tmp_path, slow):
    registry = Registry([slow], mount=str(tmp_path))
    registry.feed([batch("made", (8, "/slow/a"))])
    began = time.thread_time()
    waits = []
    original = select.poll

    def poll():
        waits.append(1)
        return original()

    select.poll = poll
    try:
        for i in range(200):
            registry.feed([batch("made", (9 + i, f"/slow/b{i}"))])
            registry.tick(time.monotonic_ns())
    finally:
        select.poll = original
    assert waits == []
    assert time.thread_time() - began < 5
    registry.close()


def test_close_does_not_wait_for_one_that_hangs_and_nothing_is_reported_after(tmp_path, slow):
    registry = Registry([slow], mount=str(tmp_path))
    registry.feed([batch("made", (8, "/slow/a"))])
    done = threading.Thread(target=registry.close, daemon=True)
    done.start()
    done.join(WITHIN)
    assert not done.is_alive()
    pairs = [os.pipe() for _ in range(4)]  # which may have the closed descriptors' numbers
    slow.may_answer.set()
    for thread in [t for t in threading.enumerate() if t.name == "eunomia the reader of slow"]:
        thread.join(WITHIN)
        assert not thread.is_alive()
    assert not select.select([r for r, _ in pairs], [], [], 0)[0]
    assert registry[8].state == PENDING
    for pair in pairs:
        os.close(pair[0])
        os.close(pair[1])


def test_a_thread_that_waits_for_questions_ends_with_the_registry(tmp_path):
    runtime = Slow("lookup", "watches", "changed")
    registry = Registry([runtime], mount=str(tmp_path))
    registry.feed([batch("made", (8, "/slow/a"))])
    until(registry, lambda: runtime.threads)
    registry.close()
    assert not any(thread.ident in runtime.threads for thread in threading.enumerate())


def test_a_name_that_is_none_is_its_containers_again_when_the_slow_one_has_said_so(tmp_path, slow):
    write_config(tmp_path, WEB)
    registry = Registry([slow, Docker([DataRoot("/", str(tmp_path))])], mount=str(tmp_path))
    registry.feed([batch("made", (7, PATH), (8, f"{PATH}/jobs/{DB}"))])
    assert registry[8].state == PENDING, "a runtime that has not answered may know it"
    slow.may_answer.set()
    until(registry, lambda: registry[8].state != PENDING)
    assert registry[8].container.name == "web"
    registry.close()


def test_a_runtime_that_cannot_know_a_container_is_not_asked(tmp_path, slow):
    slow.may_know = lambda container_id, path: False
    registry = Registry([slow], mount=str(tmp_path))
    registry.feed([batch("made", (7, PATH))])
    registry.tick(time.monotonic_ns() + DEADLINE)
    assert slow.threads == set()
    registry.close()


def test_what_a_slow_runtime_rewrites_is_read(tmp_path):
    runtime = Slow("lookup", "watches", "changed")
    runtime.names["a"] = "web"
    registry = Registry([runtime], mount=str(tmp_path))
    registry.feed([batch("made", (8, "/slow/a"))])
    until(registry, lambda: registry[8].state == RESOLVED)
    runtime.names["a"] = "other"
    registry.recheck()
    until(registry, lambda: registry[8].container.name == "other")
    registry.close()


def test_records_of_a_slow_runtime_are_reported_like_those_of_a_quick_one(tmp_path):
    runtime = Keeper()
    runtime.names = {"a": "web", "b": "db"}
    runtime.listed = ["b"]
    registry = Registry([runtime], mount=str(tmp_path))
    registry.listen()
    registry.start()
    assert registry.news() == []
    runtime.may_answer.set()
    events = []

    def told(count: int) -> bool:
        events.extend((e.kind, e.entry.candidate.id) for e in registry.news() if e.kind != "changed")
        return len(events) >= count

    until(registry, lambda: told(1))
    assert events == [("existing", "b")], "it existed before the start, however late that is reported"
    registry.feed([batch("made", (8, "/slow/a"))])
    until(registry, lambda: told(3))
    assert sorted(events[1:]) == [("made", "a"), ("recorded", "a")]
    runtime.kept = False
    registry.feed([batch("removed", (8, "/slow/a"))])
    registry.recheck_entry(registry.container_of(8))
    until(registry, lambda: told(5))
    assert sorted(events[3:]) == [("erased", "a"), ("removed", "a")]
    registry.close()


# A file system without a server: any process that touches it waits until it is unmounted.


@contextmanager
def unserved(point: Path) -> Iterator[None]:
    needs.root()
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"eunomia-test", os.fsencode(point), b"fuse", 0, options):
        os.close(server)
        pytest.skip(f"fuse: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(server)  # ends all waiting
        libc.umount2(os.fsencode(point), 2)  # MNT_DETACH


def test_a_data_root_on_a_file_system_that_hangs_delays_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_mounts, "FRESH", 0)
    dead, alive, cgroups = tmp_path / "dead", tmp_path / "alive", tmp_path / "cgroup"
    for directory in (dead, alive, cgroups):
        directory.mkdir()
    (tmp_path / "link").symlink_to(dead)
    write_config(alive, DB, ID=DB, Name="/db")
    hanging = Docker([DataRoot("/", str(tmp_path / "link"))])
    other = Docker([DataRoot("/", str(alive))])
    other.name = "other"
    with unserved(dead):
        registry = Registry([hanging, other], mount=str(cgroups))
        registry.listen()
        registry.start()
        registry.feed([batch("made", (7, PATH), (8, f"/other/{DB}"))])
        registry.tick(time.monotonic_ns())
        assert registry[7].state == PENDING
        assert registry[8].container.name == "db"
        registry.close()


def test_paths_that_may_hang_are_detected_without_touching_them(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_mounts, "FRESH", 0)
    dead = tmp_path / "de ad"
    dead.mkdir()
    (tmp_path / "link").symlink_to("de ad/below")
    with unserved(dead):
        for path in (dead, dead / "x", tmp_path / "link", tmp_path / "link" / "y"):
            assert remote_mounts.may_hang("/", str(path))
            assert remote_mounts.may_hang("/proc/self/root", str(path))
            assert remote_mounts.may_hang("/", f"/proc/{os.getpid()}/root{path}")
        assert not remote_mounts.may_hang("/", str(tmp_path / "de"))
        assert not remote_mounts.may_hang("/", str(tmp_path))
    assert not remote_mounts.may_hang("/", str(dead))
