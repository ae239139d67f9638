# SPDX-License-Identifier: BSD-2-Clause
"""Lifecycle events of containers: cgroups and records come and go, each is reported once."""

import os
import shutil

import pytest

from eunomia.containers import lifecycle
from eunomia.containers.daemons import DataRoot
from eunomia.containers.lifecycle import CHANGED, ERASED, EXISTING, MADE, RECORDED, REMOVED
from eunomia.containers.registry import GRACE, Registry
from eunomia.containers.runtime import Metadata, RecordKeeper
from eunomia.containers.runtimes.docker import Docker
from eunomia.identity import PENDING, Container
from tests.containers.stage import DB, INNER, WEB, Clock, batch, write_config

PATH = f"/docker/{WEB}"


class Counting(Docker):
    """Docker that counts how often it is asked."""

    asked = 0

    def changed(self, container, path):
        self.asked += 1
        return super().changed(container, path)

    def lookup(self, container_id, path):
        self.asked += 1
        return super().lookup(container_id, path)


class NoRecords:
    """A runtime that keeps no records, as ctr's containers have none that matter."""

    name = "plain"
    quick = True

    def recognises(self, parent, name):
        return name if parent == "plain" else ""

    def lookup(self, container_id, path):
        return Metadata(Container(container_id, container_id, runtime=self.name)) if "/plain/" in path else None

    def watches(self, container, path):
        return []

    def changed(self, container, path):
        return False


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def docker(tmp_path):
    return Counting([DataRoot("/", str(tmp_path))])


@pytest.fixture
def registry(tmp_path, clock, docker):
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "containers").mkdir()
    made = Registry([docker, NoRecords()], mount=str(tmp_path / "cgroup"), clock=clock)
    made.listen()
    yield made
    made.close()


def told(registry, clock):
    registry.look(clock.wait(0.3))
    return [(news.kind, news.entry.candidate.id) for news in registry.news()]


def test_which_runtimes_keep_records(docker):
    assert isinstance(docker, RecordKeeper)
    assert not isinstance(NoRecords(), RecordKeeper)


def test_a_record_comes_before_its_cgroup_and_outlasts_it(tmp_path, registry, clock):
    registry.start()
    assert told(registry, clock) == []
    write_config(tmp_path, WEB)
    assert told(registry, clock) == [(RECORDED, WEB)]
    registry.feed([batch("made", (7, PATH))])
    assert told(registry, clock) == [(MADE, WEB)]
    assert registry[7].container.name == "web"
    registry.feed([batch("removed", (7, PATH))])
    registry.tick(clock.wait(GRACE / 1e9 + 1))
    assert told(registry, clock) == [(REMOVED, WEB)]
    shutil.rmtree(tmp_path / "containers" / WEB)
    assert told(registry, clock) == [(ERASED, WEB)]
    assert told(registry, clock) == []


def test_a_record_that_is_half_gone_is_gone(tmp_path, registry, clock):
    registry.start()
    config = write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, PATH))])
    told(registry, clock)
    config.unlink()
    registry.feed([batch("removed", (7, PATH))])
    assert told(registry, clock) == [(REMOVED, WEB), (ERASED, WEB)]
    write_config(tmp_path, DB, ID=DB, Name="/db")
    assert told(registry, clock) == [(RECORDED, DB)], "the directory of the other is still there"
    config.parent.rmdir()
    assert told(registry, clock) == []


def test_a_restart_is_the_same_container(tmp_path, registry, clock):
    registry.start()
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, PATH))])
    registry.feed([batch("removed", (7, PATH))])
    registry.feed([batch("made", (8, PATH))])
    assert len({id(news.entry) for news in registry.news()}) == 1
    registry.tick(clock.wait(GRACE / 1e9 + 1))
    assert registry.container_of(7) is None
    assert registry.container_of(8).candidate.id == WEB


def test_containers_at_the_start_are_reported_as_existing(tmp_path, registry, clock):
    write_config(tmp_path, WEB)
    write_config(tmp_path, DB, ID=DB, Name="/db")
    (tmp_path / f"cgroup/docker/{WEB}").mkdir(parents=True)
    registry.start()
    news = registry.news()
    assert {(n.kind, n.entry.candidate.id, bool(n.cgroup_id)) for n in news} == {
        (EXISTING, WEB, False), (EXISTING, WEB, True), (EXISTING, DB, False),
    }  # fmt: skip
    assert [case.candidate.id for case in registry.entries()] == [WEB]


def test_without_records_there_are_cgroups_alone(registry, clock):
    registry.start()
    registry.feed([batch("made", (7, "/plain/a"))])
    registry.feed([batch("removed", (7, "/plain/a"))])
    news = registry.news()
    assert [(n.kind, n.cgroup_id, n.time) for n in news] == [(MADE, 7, 5), (REMOVED, 7, 5)], "by the kernel's time"
    assert not news[0].entry.recorded


def test_cgroups_in_a_container_are_no_news_and_containers_in_it_are_their_own(tmp_path, registry, clock):
    registry.start()
    write_config(tmp_path, WEB)
    write_config(tmp_path, INNER, ID=INNER, Name="/inner")
    registry.feed([batch("made", (7, PATH), (8, f"{PATH}/init.scope"), (9, f"{PATH}/docker/{INNER}"))])
    assert [(n.kind, n.cgroup_id) for n in registry.news() if n.cgroup_id] == [(MADE, 7), (MADE, 9)]
    assert registry.container_of(8).candidate.id == WEB
    assert registry.container_of(9).candidate.id == INNER


def test_a_rename_is_reported_with_the_identity_before(tmp_path, registry, clock):
    registry.start()
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, PATH))])
    told(registry, clock)
    write_config(tmp_path, WEB, Name="/other")
    registry.look(clock.wait(0.3))
    (news,) = registry.news()
    assert (news.kind, news.before.container.name, news.entry.identity.container.name) == (CHANGED, "web", "other")


def test_a_record_that_says_nothing_yet_is_read_when_it_does(tmp_path, registry, clock):
    registry.start()
    (tmp_path / "containers" / WEB).mkdir()
    assert told(registry, clock) == []
    write_config(tmp_path, WEB, b'{"ID": "')
    assert told(registry, clock) == []
    write_config(tmp_path, WEB)
    assert told(registry, clock) == [(RECORDED, WEB)]


def test_no_runtime_is_asked_while_nothing_changes(tmp_path, registry, docker, clock):
    registry.start()
    for i, name in enumerate((WEB, DB, INNER)):
        write_config(tmp_path, name, ID=name)
        registry.feed([batch("made", (i + 1, f"/docker/{name}"))])
    told(registry, clock)
    told(registry, clock)
    before = docker.asked
    for _ in range(100):
        registry.look(clock.wait(1))
    assert docker.asked == before
    write_config(tmp_path, DB, ID=DB, Name="/db")
    registry.look(clock.wait(1))
    assert 0 < docker.asked - before <= 3, "the one that changed, and none of the others"


def test_odd_entries_among_the_records_do_no_harm(tmp_path, registry, clock):
    place = tmp_path / "containers"
    for name in ("x", "\x1b[31m", "\udcff", "a" * 255):
        (place / name).mkdir()
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to(place)
    (place / DB).mkdir()
    os.mkfifo(place / DB / "config.v2.json")
    write_config(tmp_path, WEB)
    registry.start()
    assert told(registry, clock) == [(EXISTING, WEB)]


def test_a_container_without_a_name_is_pending_and_its_events_are_reported(registry, clock):
    registry.start()
    registry.feed([batch("made", (7, PATH))])
    (news,) = registry.news()
    assert (news.kind, news.entry.identity.state) == (MADE, PENDING)


def test_without_listeners_nothing_is_kept_and_a_new_one_begins_with_what_exists(tmp_path, docker, clock):
    (tmp_path / "cgroup").mkdir()
    registry = Registry([docker], mount=str(tmp_path / "cgroup"), clock=clock)
    write_config(tmp_path, WEB)
    registry.start()
    registry.feed([batch("made", (7, PATH))])
    registry.look(clock.wait(1))
    assert registry.news() == []
    registry.listen()
    assert [(news.kind, news.cgroup_id) for news in registry.news() if news.cgroup_id] == [(EXISTING, 7)]


def test_each_listener_has_a_queue_of_its_own_until_it_leaves(tmp_path, registry, clock):
    registry.start()
    first, second = registry.listener(), registry.listener()
    registry.feed([batch("made", (7, "/plain/a"))])
    assert [event.kind for event in first.take()] == [MADE]
    assert first.take() == []
    first.close()
    registry.feed([batch("removed", (7, "/plain/a"))])
    assert [event.kind for event in second.take()] == [MADE, REMOVED]
    assert [event.kind for event in registry.news()] == [MADE, REMOVED]
    assert first.take() == []


def test_a_listener_that_takes_nothing_loses_events_and_counts_them(registry, monkeypatch):
    monkeypatch.setattr(lifecycle, "LIMIT", 2)
    registry.start()
    left = registry.listener()
    registry.feed([batch("made", *((i, f"/plain/{i}") for i in range(5)))])
    assert left.lost == 3
    assert len(left.take()) == 2
