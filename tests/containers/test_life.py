# SPDX-License-Identifier: BSD-2-Clause
"""The container tracker's rows from records and events as on other hosts, late, or missing.

The kernel's records are made here, for what cannot be produced at will: cgroup v2 that freezes, crun's cgroups, lost
records.
"""

import pytest

from eunomia.batch import Batch
from eunomia.containers.daemons import DataRoot
from eunomia.containers.registry import DEADLINE, Registry
from eunomia.containers.runtimes.docker import Docker
from eunomia.stream_schema import Field, Schema
from eunomia.trackers.container import life
from eunomia.trackers.container.life import DOUBT, HOLD, KILL, Life
from tests.containers.stage import INNER, WEB, Clock, batch, write_config

EXECUTED, ENDED, OUT_OF_MEMORY, FROZEN, THAWED, COMMANDED, KILLED = range(1, 8)
PATH = f"/docker/{WEB}"

SIGN = Schema(
    "sign_event",
    40,
    [
        Field("time", 0, 8, "Q", "time"),
        Field("cgroup_id", 8, 8, "Q", "cgroup_id"),
        Field("start", 16, 8, "Q"),
        Field("sign", 24, 4, "I"),
        Field("pid", 28, 4, "I"),
        Field("exit_code", 32, 4, "i"),
        Field("signal", 36, 4, "I", "signal"),
    ],
)


class Stand:
    """The tracker's deriver without a kernel: signs are given, news come from a real registry."""

    def __init__(self, tmp_path, monkeypatch):
        self.clock = Clock()
        monkeypatch.setattr(life, "monotonic_ns", self.clock)
        (tmp_path / "cgroup").mkdir()
        (tmp_path / "containers").mkdir()
        self.registry = Registry(
            [Docker([DataRoot("/", str(tmp_path))])], mount=str(tmp_path / "cgroup"), clock=self.clock
        )
        self.registry.listen()
        self.told = {}
        self.maps = {"firsts": self}
        self.life = Life(self.registry, self)

    def update(self, key, value):
        self.told[int.from_bytes(key, "little")] = int.from_bytes(value, "little")

    def start(self):
        self.registry.start()
        self.life.start(self.registry.news())

    def rows(self, *signs, until=None, last=False):
        """Hand over signs as keywords and return what was made of them and of the registry's news."""
        raw = [Batch.made(SIGN, [{"time": self.clock(), **sign} for sign in signs])] if signs else []
        until = self.clock.wait(0.001) if until is None else until
        self.registry.tick(until)
        batches = self.life.rows({"raw_sign": raw}, self.registry.news(), until, last)
        names = ("event", "pid", "exit_code", "signal", "duration_ns")
        return [row for b in batches for row in zip(*(b.values(n) for n in names), strict=True)]

    def events(self, *signs, **options):
        return [row[0] for row in self.rows(*signs, **options)]


@pytest.fixture
def stand(tmp_path, monkeypatch):
    made = Stand(tmp_path, monkeypatch)
    yield made
    made.registry.close()


def made(stand, *paths):
    stand.registry.feed([batch("made", *((i + 7, path) for i, path in enumerate(paths)))])


def removed(stand, cgroup_id, path):
    stand.registry.feed([batch("removed", (cgroup_id, path))])


def test_cruns_program_runs_in_a_cgroup_below_the_containers(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH, f"{PATH}/container")
    assert stand.events({"sign": EXECUTED, "cgroup_id": 8, "pid": 41}) == ["created", "started"]
    assert stand.rows({"sign": ENDED, "cgroup_id": 8, "pid": 41, "exit_code": 2})[0][:3] == ("exited", 41, 2)


def test_systemd_in_a_container_is_its_one_program(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH, f"{PATH}/init.scope", f"{PATH}/system.slice/a.service")
    assert stand.events({"sign": EXECUTED, "cgroup_id": 7, "pid": 41}) == ["created", "started"]
    for cgroup_id, pid in ((8, 41), (9, 42)):
        assert stand.events({"sign": EXECUTED, "cgroup_id": cgroup_id, "pid": pid}) == []
    assert stand.events({"sign": ENDED, "cgroup_id": 9, "pid": 42}) == []
    assert stand.events({"sign": ENDED, "cgroup_id": 7, "pid": 41}) == ["exited"]


def test_a_container_in_a_container_has_its_own_life(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    write_config(tmp_path, INNER, ID=INNER, Name="/inner")
    made(stand, PATH, f"{PATH}/docker/{INNER}")
    assert stand.events() == ["created", "created"]
    assert stand.events({"sign": EXECUTED, "cgroup_id": 7, "pid": 41}) == ["started"]
    assert stand.events({"sign": EXECUTED, "cgroup_id": 8, "pid": 42}) == ["started"]
    assert stand.events({"sign": ENDED, "cgroup_id": 8, "pid": 42}) == ["exited"]


def test_version_2_reports_pauses_once_each(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH, f"{PATH}/sub")
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    assert stand.events({"sign": FROZEN, "cgroup_id": 8}, {"sign": FROZEN, "cgroup_id": 7}) == []
    due = stand.life.next_deadline()
    assert due is not None
    assert due - stand.clock() <= KILL
    stand.clock.wait(KILL / 1e9)
    assert stand.events() == ["paused"]
    assert stand.events({"sign": FROZEN, "cgroup_id": 7}) == []
    assert stand.events({"sign": THAWED, "cgroup_id": 7}, {"sign": THAWED, "cgroup_id": 8}) == ["unpaused"]


def test_a_short_pause_is_reported_with_its_end(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    assert stand.events({"sign": FROZEN, "cgroup_id": 7}) == []
    assert stand.events({"sign": THAWED, "cgroup_id": 7}) == ["paused", "unpaused"]


def test_what_is_frozen_to_be_killed_was_not_paused(stand, tmp_path):
    """runc does so with all processes of a container, and they end one after the other."""
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    for _ in range(2):
        assert stand.events({"sign": FROZEN, "cgroup_id": 7}) == []
        assert stand.events({"sign": KILLED, "cgroup_id": 7}) == []
    assert stand.life.next_deadline() is None
    stand.clock.wait(KILL / 1e9)
    assert stand.events({"sign": ENDED, "cgroup_id": 7, "pid": 41, "signal": 9}) == ["exited"]


def test_what_is_killed_when_it_is_paused_was_not_unpaused(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    stand.rows({"sign": FROZEN, "cgroup_id": 7})
    stand.clock.wait(KILL / 1e9)
    assert stand.events() == ["paused"]
    # another process of it is killed, and it is what it was
    assert stand.events({"sign": KILLED, "cgroup_id": 7}, {"sign": FROZEN, "cgroup_id": 7}) == []
    signs = ({"sign": KILLED, "cgroup_id": 7}, {"sign": ENDED, "cgroup_id": 7, "pid": 41, "signal": 9})
    assert stand.events(*signs) == ["exited"]


def test_the_end_of_a_cgroup_waits_for_that_of_its_program(stand, tmp_path):
    """The cgroups' ring is drained last, so it may be ahead."""
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    drained = stand.clock()
    stand.clock.wait(0.002)
    (tmp_path / f"containers/{WEB}/config.v2.json").unlink()
    late = Batch.made(batch("x").schema, [{"time": stand.clock() - 10, "cgroup_id": 7, "path": PATH}])
    late.stream = "removed"
    stand.registry.feed([late])
    assert stand.events(until=drained) == []
    due = stand.life.next_deadline()
    assert due is not None
    assert due <= stand.clock()
    sign = {"sign": ENDED, "cgroup_id": 7, "pid": 41, "exit_code": 1, "time": drained + 1}
    assert [row[:3] for row in stand.rows(sign)] == [("exited", 41, 1), ("removed", None, None)]


def test_an_end_that_was_not_recorded_has_no_exit_code(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    removed(stand, 7, PATH)
    assert [row[:3] for row in stand.rows()] == [("exited", 41, None)]


def test_rows_wait_a_second_for_a_name(stand, tmp_path):
    stand.start()
    made(stand, PATH)
    assert stand.events({"sign": EXECUTED, "cgroup_id": 7, "pid": 41}) == []
    stand.clock.wait(HOLD / 2e9)
    write_config(tmp_path, WEB)
    assert stand.events() == ["created", "started"]


def test_rows_that_no_name_comes_for_are_shown_without_it(stand):
    stand.start()
    made(stand, PATH)
    assert stand.events({"sign": EXECUTED, "cgroup_id": 7, "pid": 41}) == []
    due = stand.life.next_deadline()
    assert due is not None
    assert due - stand.clock() <= HOLD
    stand.clock.wait(HOLD / 1e9)
    assert stand.events() == ["created", "started"]


def test_a_possible_container_that_no_runtime_knows_is_shown_by_its_id(stand):
    stand.start()
    made(stand, f"/builds/{WEB}")
    assert stand.events({"sign": EXECUTED, "cgroup_id": 7, "pid": 41}) == []
    stand.clock.wait(max(DOUBT, DEADLINE) / 1e9)
    assert stand.events() == ["created", "started"]
    assert stand.life.next_deadline() is None


def test_all_waiting_rows_are_shown_at_the_end(stand):
    stand.start()
    made(stand, PATH)
    assert stand.events({"sign": EXECUTED, "cgroup_id": 7, "pid": 41}, last=True) == ["created", "started"]


def test_an_out_of_memory_kill_comes_before_the_end_that_it_causes(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    now = stand.clock()
    signs = [
        {"sign": EXECUTED, "cgroup_id": 7, "pid": 41, "time": now},
        {"sign": OUT_OF_MEMORY, "cgroup_id": 7, "pid": 41, "time": now + 5},
        {"sign": ENDED, "cgroup_id": 7, "pid": 41, "signal": 9, "time": now + 9},
    ]
    rows = stand.rows(*signs)
    assert [row[0] for row in rows] == ["created", "started", "oom_killed", "exited"]
    assert rows[-1][3:] == ("SIGKILL", 9)


def test_two_changes_at_the_same_time_are_one_rename(stand, tmp_path):
    stand.start()
    write_config(tmp_path, WEB)
    made(stand, PATH)
    stand.rows({"sign": EXECUTED, "cgroup_id": 7, "pid": 41})
    for change in ({"RestartCount": 1}, {"RestartCount": 1, "Name": "/other"}):
        write_config(tmp_path, WEB, **change)
        stand.registry.recheck()
    assert stand.events(until=stand.clock.wait(1)) == ["renamed"]


def test_signs_of_unknown_cgroups_are_ignored(stand):
    stand.start()
    for sign in range(9):
        assert stand.events({"sign": sign, "cgroup_id": 12345, "pid": 1}) == []
