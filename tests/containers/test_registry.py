# SPDX-License-Identifier: BSD-2-Clause
"""The registry, driven by made records and a made clock, with data roots made here."""

import itertools
import struct

import pytest

from eunomia.batch import Batch
from eunomia.containers import cgroup_files
from eunomia.containers.registry import DEADLINE, GRACE, Registry
from eunomia.containers.runtimes.docker import DataRoot, Docker
from eunomia.identity import ON_HOST, PENDING, RESOLVED, UNKNOWN, UNKNOWN_IDENTITY, Container, Pod
from eunomia.stream_schema import Field, Schema
from tests.containers.stage import DB, INNER, WEB, Clock, batch, write_config

NS = 1_000_000_000


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(tmp_path, clock):
    (tmp_path / "cgroup").mkdir()
    return Registry([Docker([DataRoot("/", str(tmp_path))])], mount=str(tmp_path / "cgroup"), clock=clock)


class Asked:
    """A runtime that knows no container, and when it was asked."""

    name = "asked"
    quick = True

    def __init__(self, asked, clock):
        self.asked, self.clock = asked, clock

    def recognises(self, parent, name):
        return ""

    def lookup(self, container_id, path):
        self.asked.append(self.clock())

    def watches(self, container, path):
        return ()

    def changed(self, container, path):
        return False


def tick_until(registry, clock, seconds):
    end = clock.now + int(seconds * NS)
    while (due := registry.next_deadline()) is not None and due <= end:
        clock.now = max(clock.now, due)
        registry.tick(clock.now)
    clock.now = end


def test_a_container_is_resolved_the_moment_its_cgroup_is_made(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    found = registry[7]
    assert (found.state, found.pod, found.parents) == (RESOLVED, None, ())
    assert found.container[:4] == (WEB, "web", "shop/web:1.2", "docker")


def test_cgroups_in_a_container_share_its_identity(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"), (8, f"/docker/{WEB}/init.scope"))])
    assert registry[8] == registry[7]


def test_other_cgroups_are_the_hosts(registry):
    registry.feed([batch("made", (7, "/process_api/b1987532810a3f375b3536514677d0b5"), (8, "/docker"))])
    assert registry[7] == registry[8] == ON_HOST


def test_a_column_is_joined_through_getitem(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"), (8, "/x"))])
    states = [i.state for i in map(registry.__getitem__, [7, 8, 9, 7])]
    assert states == [RESOLVED, "host", UNKNOWN, RESOLVED]


def test_ids_of_v1_hierarchies_are_not_taken_for_those_of_v2(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"), hierarchy=3)])
    assert registry[7] == UNKNOWN_IDENTITY


def test_a_container_that_docker_does_not_know_is_pending_and_then_unknown_but_never_without_its_id(
    registry, clock
):
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    assert registry[7] == (PENDING, Container(WEB, runtime="docker"), None, ())
    tick_until(registry, clock, DEADLINE / NS - 0.5)
    assert registry[7].state == PENDING
    tick_until(registry, clock, 1)
    assert registry[7] == (UNKNOWN, Container(WEB, runtime="docker"), None, ())
    assert registry.next_deadline() is None


POD = "kubepods/burstable/pod0125bb86-8ca9-4141-95e3-ee78da97ada1"


@pytest.mark.parametrize(
    "path",
    [
        f"/{POD}/{WEB}",
        f"/kubepods.slice/kubepods-pod{'0' * 32}.slice/{WEB}",
        f"/system.slice/kubepods-burstable-pod{'0' * 32}.slice:cri-containerd:{WEB}",
        f"/foo/{WEB}",
        f"/{WEB}",
        f"/system.slice/docker-{WEB}.scope",
        f"/system.slice/runc-{WEB}.scope",
        f"/foo.slice/other-{WEB}.scope",
    ],
)
def test_what_may_be_a_container_that_no_runtime_knows_is_pending_and_then_unknown_and_never_the_hosts(
    registry, clock, path
):
    registry.feed([batch("made", (7, path), (8, f"{path}/inner"))])
    assert [registry[i].state for i in (7, 8)] == [PENDING, PENDING]
    tick_until(registry, clock, 10)
    assert [registry[i].state for i in (7, 8)] == [UNKNOWN, UNKNOWN]
    assert registry[7].container.id == WEB
    assert registry.next_deadline() is None


def test_the_pod_of_a_container_that_no_runtime_knows_is_taken_from_its_path(registry, clock):
    registry.feed([batch("made", (7, f"/{POD}/{WEB}"))])
    uid = "0125bb86-8ca9-4141-95e3-ee78da97ada1"
    assert registry[7].pod == Pod("", "", uid, qos="Burstable")
    tick_until(registry, clock, 10)
    assert (registry[7].state, registry[7].pod.uid) == (UNKNOWN, uid)


def test_a_pods_container_in_another_container_is_its_own_also_if_no_runtime_knows_it(tmp_path, registry, clock):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}/kubelet/{POD}/{INNER}"))])
    tick_until(registry, clock, 10)
    assert (registry[7].state, registry[7].container.id, registry[7].parents) == (UNKNOWN, INNER, (WEB,))


def test_a_cgroup_that_a_runtime_made_is_a_containers_whatever_it_is_called(registry, clock):
    registry.feed([batch("made", (6, "/x"), (7, "/x/y"), maker="runc"), batch("made", (8, "/x/y/init.scope"))])
    assert registry[6] == ON_HOST
    assert [registry[i].state for i in (7, 8)] == [PENDING, PENDING]
    tick_until(registry, clock, 10)
    assert [(registry[i].state, registry[i].container.id) for i in (7, 8)] == [(UNKNOWN, "y"), (UNKNOWN, "y")]
    assert registry.next_deadline() is None


def test_what_a_runtime_makes_above_a_container_is_the_hosts(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (5, "/foo"), (6, "/foo/bar"), (7, f"/foo/bar/{WEB}"), maker="runc")])
    assert [registry[i] for i in (5, 6)] == [ON_HOST, ON_HOST]
    assert (registry[7].container.name, registry[7].parents) == ("web", ())


def test_what_a_runtime_makes_in_a_container_is_that_containers(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"), (8, f"/docker/{WEB}/container"), maker="crun")])
    assert registry[8] == registry[7]


def test_a_cgroup_that_no_runtime_made_is_the_hosts(registry):
    registry.feed([batch("made", (7, "/x/y"), maker="mkdir")])
    assert registry[7] == ON_HOST


@pytest.mark.parametrize("name", ["libpod-conmon-", "crio-conmon-", "x"])
def test_a_cgroup_with_a_containers_name_that_is_no_container_is_the_hosts(registry, name):
    registry.feed([batch("made", (7, f"/machine.slice/{name}{WEB}"), (8, f"/machine.slice/{name}{WEB}.scope"))])
    assert registry[7] == registry[8] == ON_HOST


def test_a_bare_id_below_a_custom_parent_is_a_container_where_docker_knows_it(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/foo/{WEB}"), (8, f"/foo/{WEB}/sub"))])
    assert (registry[7].container.name, registry[8].container.name) == ("web", "web")


@pytest.mark.parametrize("path", [f"/docker/{WEB}", f"/foo/{WEB}"])
def test_metadata_written_late_is_picked_up_soon(tmp_path, registry, clock, path):
    registry.feed([batch("made", (7, path))])
    tick_until(registry, clock, 0.5)
    write_config(tmp_path, WEB)
    tick_until(registry, clock, 0.15)
    assert registry[7].container.name == "web"
    assert registry.next_deadline() is None


def test_a_container_that_no_runtime_knows_is_asked_for_less_and_less_often(tmp_path, clock):
    asked = []
    registry = Registry([Asked(asked, clock)], mount=str(tmp_path), clock=clock)
    registry.feed([batch("made", (7, f"/foo/{WEB}"))])
    tick_until(registry, clock, 10)
    assert len(asked) < 30
    assert asked[-1] - asked[0] >= DEADLINE
    assert max(after - before for before, after in itertools.pairwise(asked)) <= NS // 2


def test_metadata_being_rewritten_is_read_when_it_is_whole(tmp_path, registry, clock):
    write_config(tmp_path, WEB, b'{"ID": "a1a1')
    registry.feed([batch("made", (7, f"/foo/{WEB}"))])
    assert registry[7] == (PENDING, Container(WEB, runtime="docker"), None, ())
    write_config(tmp_path, WEB)
    tick_until(registry, clock, 0.03)
    assert registry[7].state == RESOLVED


def test_the_innermost_container_has_the_row_and_its_parents_are_known(tmp_path, registry):
    write_config(tmp_path, WEB, Name="/outer")
    write_config(tmp_path, INNER, Name="/inner", ID=INNER)
    registry.feed([batch("made", (7, f"/docker/{WEB}/docker/{INNER}/init.scope"))])
    assert registry[7].container.name == "inner"
    assert registry[7].parents == (WEB,)


def test_an_id_like_name_in_a_container_stays_that_containers(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}/jobs/{DB}"))])
    assert registry[7].container.name == "web"


def test_a_removed_cgroup_is_remembered_while_its_events_may_be_under_way(tmp_path, registry, clock):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}")), batch("removed", (7, f"/docker/{WEB}"))])
    tick_until(registry, clock, GRACE / NS - 0.1)
    assert registry[7].container.name == "web"
    tick_until(registry, clock, 0.2)
    assert 7 not in registry
    assert registry[7] == UNKNOWN_IDENTITY


def test_a_removed_cgroup_is_remembered_however_late_the_rings_are_drained(tmp_path, registry, clock):
    write_config(tmp_path, WEB)
    before = clock.now - 1
    registry.feed([batch("made", (7, f"/docker/{WEB}")), batch("removed", (7, f"/docker/{WEB}"))])
    clock.now += 20 * GRACE
    registry.tick(clock.now, before)
    assert registry[7].container.name == "web"
    registry.tick(clock.now, clock.now)
    assert 7 not in registry


def test_a_cgroup_reported_only_when_it_is_removed_is_resolved_and_stays_removed(
    tmp_path, registry, clock
):
    write_config(tmp_path, WEB)
    registry.feed([batch("removed", (7, f"/docker/{WEB}"))])
    assert registry[7].container.name == "web"
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    tick_until(registry, clock, 11)
    assert 7 not in registry


def test_a_container_that_is_removed_from_disk_keeps_its_name(tmp_path, registry, clock):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    (tmp_path / "containers" / WEB / "config.v2.json").unlink()
    registry.recheck()
    tick_until(registry, clock, 6)
    assert registry[7].container.name == "web"


def test_a_restarted_container_has_its_new_name(tmp_path, registry):
    path = f"/docker/{WEB}"
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, path)), batch("removed", (7, path))])
    write_config(tmp_path, WEB, Name="/renamed")
    registry.feed([batch("made", (8, path))])
    assert registry[8].container.name == "renamed"


def test_a_rename_is_seen_by_recheck(tmp_path, registry):
    write_config(tmp_path, WEB)
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    write_config(tmp_path, WEB, Name="/renamed")
    registry.recheck()
    assert registry[7].container.name == "renamed"


def test_what_runs_already_is_found_by_walking_and_500_take_well_under_two_seconds_of_work(tmp_path, registry):
    import time

    ids = {}
    for i in range(500):
        container_id = f"{i:064x}"
        write_config(tmp_path, container_id, ID=container_id, Name=f"/c{i}")
        directory = tmp_path / "cgroup" / "docker" / container_id
        directory.mkdir(parents=True)
        ids[directory.stat().st_ino] = f"c{i}"
    begun = time.thread_time()
    registry.start()
    assert time.thread_time() - begun < 1
    assert {i: registry[i].container.name for i in ids} == ids


def test_a_cgroup_whose_record_was_lost_is_found_by_walking_again_at_most_five_times_a_second(
    tmp_path, registry, clock
):
    write_config(tmp_path, WEB)
    registry.start()
    directory = tmp_path / "cgroup" / "docker" / WEB
    directory.mkdir(parents=True)
    cgroup_id = directory.stat().st_ino
    assert registry[cgroup_id] == UNKNOWN_IDENTITY
    registry.look(clock())
    assert registry[cgroup_id] == UNKNOWN_IDENTITY
    registry.look(clock.wait(0.2))
    assert registry[cgroup_id].container.name == "web"


def test_a_cgroup_whose_removal_was_lost_is_forgotten_when_the_tree_is_walked(tmp_path, registry, clock):
    directory = tmp_path / "cgroup" / "x"
    directory.mkdir()
    cgroup_id = directory.stat().st_ino
    registry.start()
    assert registry[cgroup_id] == ON_HOST
    directory.rmdir()
    clock.wait(1)
    assert registry[0] == UNKNOWN_IDENTITY
    tick_until(registry, clock, 11)
    assert cgroup_id not in registry


def test_memory_stays_bounded_when_every_removal_is_lost(registry, clock):
    for n in range(60):
        registry.feed([batch("made", *((1000 * n + i, f"/x/{n}-{i}") for i in range(1000)))])
        registry.tick(clock.wait(1))
    tick_until(registry, clock, 11)
    assert len(registry) < 10_000


def test_subscribers_hear_of_all_that_is_and_of_each_change(tmp_path, registry, clock):
    heard = []
    registry.feed([batch("made", (7, "/x"))])
    registry.subscribe(
        lambda cgroup_id, identity, path: heard.append((cgroup_id, identity and identity.state, path))
    )
    registry.feed([batch("made", (8, f"/docker/{WEB}"))])
    write_config(tmp_path, WEB)
    tick_until(registry, clock, 0.1)
    registry.feed([batch("removed", (8, f"/docker/{WEB}"))])
    path = f"/docker/{WEB}"
    assert heard == [(7, "host", "/x"), (8, PENDING, path), (8, RESOLVED, path), (8, None, path)]


def test_without_a_v2_hierarchy_identities_are_unknown(tmp_path):
    registry = Registry([], mount=str(tmp_path / "absent"))
    registry.start()
    assert registry[1] == UNKNOWN_IDENTITY
    registry.tick(registry.next_deadline())
    assert registry[1] == UNKNOWN_IDENTITY
    assert registry.next_deadline() is None


def test_a_subscription_ends_and_others_go_on(registry):
    first, second = [], []
    end = registry.subscribe(lambda cgroup_id, *_: first.append(cgroup_id))
    registry.subscribe(lambda cgroup_id, *_: second.append(cgroup_id))
    registry.feed([batch("made", (7, "/x"))])
    end()
    end()
    registry.feed([batch("made", (8, "/y"))])
    assert (first, second) == ([7], [7, 8])


def rows_of(*ids):
    schema = Schema("row", 8, [Field("cgroup_id", 0, 8, "Q", "cgroup_id")])
    return Batch(schema, struct.pack(f"={len(ids)}Q", *ids))


def joined(registry, *ids):
    """The identity of each row after a join, which must not read the tree."""
    found = rows_of(*ids)
    before = cgroup_files.walk
    cgroup_files.walk = None
    try:
        registry.join(found, "cgroup_id")
    finally:
        cgroup_files.walk = before
    return [found.owners[i] for i in found.owner] if found.owner is not None else found.owners * len(ids)


def test_rows_of_an_unknown_cgroup_are_pending_until_it_was_looked_for(tmp_path, registry, clock):
    write_config(tmp_path, WEB)
    registry.start()
    directory = tmp_path / "cgroup" / "docker" / WEB
    directory.mkdir(parents=True)
    there, gone = directory.stat().st_ino, 1 << 40
    assert [i.state for i in joined(registry, there, gone)] == [PENDING, PENDING]
    due = registry.next_deadline()
    assert due is not None
    assert due - clock() <= NS // 5
    registry.tick(due)
    assert [i.state for i in joined(registry, there, gone)] == [RESOLVED, UNKNOWN]
    assert registry.next_deadline() is None, "what a walk did not find is not looked for again"


def test_rows_are_not_held_for_a_walk_that_is_far_off(registry, clock, monkeypatch):
    registry.start()
    ticking = itertools.count(clock.now, NS)
    monkeypatch.setattr(registry, "_clock", lambda: next(ticking))  # a walk takes a second
    joined(registry, 5)
    registry.tick(registry.next_deadline())
    monkeypatch.setattr(registry, "_clock", clock)
    assert joined(registry, 6) == [UNKNOWN_IDENTITY]


def test_an_id_that_a_record_reports_is_not_looked_for(registry, clock):
    registry.start()
    joined(registry, 7)
    registry.feed([batch("made", (7, "/x"))])
    before = cgroup_files.walk
    cgroup_files.walk = None
    try:
        registry.tick(clock.wait(1))
    finally:
        cgroup_files.walk = before
    assert joined(registry, 7) == [ON_HOST]
