# SPDX-License-Identifier: BSD-2-Clause
"""The table of processes, fed with made records."""

from __future__ import annotations

import pytest

from eunomia.columns.joined import JOINED
from eunomia.process_identity import UNKNOWN_PROCESS, Process
from eunomia.processes import process_table as bounds
from eunomia.processes.process_table import ENDED, EXECUTED, FORKED, FOUND, GRACE, ProcessTable
from eunomia.stream_schema import Field, Schema
from tests.harness import batch_of
from tests.processes import life_schema

ROWS = Schema("rows", 16, [Field("time", 0, 8, "Q", "time"), Field("pid", 8, 4, "I", "pid")])


class Story:
    """A table, and what feeds it; each event is a microsecond after the one before."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.on_disk: dict[int, bytes] = {}
        self.table = ProcessTable(
            argv_of=lambda pid: self.on_disk.get(pid, b""),
            look_up=lambda pid, start: self._looked_up(pid, start),
            clock=lambda: self.now,
        )
        self.starts: dict[int, int] = {}
        self.parents: dict[int, int] = {}

    def _looked_up(self, pid: int, start: int) -> Process | None:
        if pid not in self.on_disk:
            return None
        process = Process(pid, start, start)
        process.argv_bytes = self.on_disk[pid]
        return process

    def record(self, kind: int, pid: int, **more: int | bytes) -> dict[str, int | bytes]:
        parent = self.parents.get(pid, 0)
        return {
            "time": self.now, "kind": kind, "pid": pid, "start": self.starts[pid], "ppid": parent,
            "parent_start": self.starts.get(parent, 0), **more,
        }  # fmt: skip

    def tell(self, *records: dict[str, int | bytes]) -> None:
        self.table.feed([batch_of(life_schema(), *records)])
        self.table.tick(self.now)

    def found(self, *pids: int, parent: int = 0, argv: bytes = b"") -> None:
        for pid in pids:
            self.starts.setdefault(pid, pid)
            self.parents.setdefault(pid, parent)
            if argv:
                self.on_disk[pid] = argv
        records = [self.record(FOUND, pid, exe=b"/bin/old", comm=b"old") for pid in pids]
        self.table.fill(batch_of(life_schema(), *records))

    def fork(self, parent: int, pid: int, **more: int | bytes) -> int:
        self.now += 1000
        self.starts[pid], self.parents[pid] = self.now, parent
        maker = {"maker": parent, "maker_start": self.starts[parent]}
        self.tell(self.record(FORKED, pid, **{**maker, **more}))
        return self.now

    def exec(self, pid: int, *argv: bytes, **more: int | bytes) -> int:
        self.now += 1000
        words = b"".join(word + b"\0" for word in argv)
        self.tell(self.record(EXECUTED, pid, argv=words, exe=b"/bin/" + argv[0], comm=argv[0], **more))
        return self.now

    def end(self, pid: int) -> int:
        self.now += 1000
        self.tell(self.record(ENDED, pid))
        return self.now

    def later(self, nanoseconds: int = GRACE + 1) -> None:
        self.now += nanoseconds
        self.table.tick(self.now)

    def argv_at(self, pid: int, when: int = 0) -> list[str] | None:
        found = self.table.at(pid, when)
        return None if found is None else found.argv

    def line(self, pid: int) -> list[int]:
        found = self.table.at(pid)
        assert found is not None
        return [p.pid for p in found.ancestors(1000)]


@pytest.fixture
def story() -> Story:
    return Story()


def test_what_ran_before_is_known_with_its_arguments(story):
    story.found(1, argv=b"/sbin/init\0")
    story.found(1, 7, parent=1, argv=b"sshd\0-D\0")
    assert story.argv_at(7) == ["sshd", "-D"]
    assert story.line(7) == [1]
    assert len(story.table) == 2


def test_a_child_has_its_parents_program_until_it_execs(story):
    story.found(1, argv=b"sh\0")
    forked = story.fork(1, 10)
    assert story.argv_at(10) == ["sh"]
    execed = story.exec(10, b"ls", b"-l")
    assert story.argv_at(10) == ["ls", "-l"]
    assert story.argv_at(10, forked + 1) == ["sh"], "its rows of before the exec are the shell's"
    assert story.argv_at(10, execed) == ["ls", "-l"]
    assert story.table.at(10, forked).exec_id == story.table.at(10).exec_id


def test_lives_of_one_pid_are_told_apart_by_time(story):
    story.found(1, argv=b"sh\0")
    times = []
    for n in range(4):
        story.fork(1, 10)
        times.append(story.exec(10, b"life%d" % n))
        story.end(10)
    for n, when in enumerate(times):
        assert story.argv_at(10, when) == [f"life{n}"]
        assert story.argv_at(10, when + 1500) == [f"life{n}"], "a late row finds who had ended by then"
    assert story.table.at(10, 5) is None, "no process had it then"
    assert len({story.table.at(10, when).exec_id for when in times}) == 4


def test_rows_of_a_batch_find_each_their_own(story):
    story.found(1, 2, argv=b"sh\0")
    first = story.fork(1, 10)
    story.exec(10, b"one")
    story.end(10)
    second = story.fork(2, 10)
    story.exec(10, b"two")
    story.fork(1, 11)
    rows = [
        {"time": first + 1500, "pid": 10}, {"time": second, "pid": 10}, {"time": second + 1500, "pid": 10},
        {"time": second, "pid": 1}, {"time": second, "pid": 99}, {"time": 3, "pid": 11},
    ]  # fmt: skip
    batch = batch_of(ROWS, *rows)
    story.table.join(batch, batch.raw("pid"))
    assert batch.values("process.argv") == [["one"], ["sh"], ["two"], ["sh"], [], []]
    assert batch.actors[batch.actor[4]] is UNKNOWN_PROCESS
    assert batch.actors[batch.actor[5]] is UNKNOWN_PROCESS, "it had not begun"
    assert batch[[False, True, True, False, False, False]].values("process.argv") == [["sh"], ["two"]]
    assert batch[2:4].values("process.argv") == [["two"], ["sh"]]
    both = batch.concatenate([batch[0:1], batch[2:3]])
    assert both.values("process.argv") == [["one"], ["two"]]


def test_an_ended_process_stays_for_late_rows_and_is_then_forgotten(story):
    story.found(1)
    story.fork(1, 10)
    story.exec(10, b"short")
    ended = story.end(10)
    assert len(story.table) == 1
    assert story.argv_at(10, ended) == ["short"]
    story.later()
    assert story.table.at(10) is None
    assert story.table.remembered == 0


def test_ancestors_are_the_processes_that_forked_also_if_they_have_ended(story):
    story.found(1, argv=b"init\0")
    story.fork(1, 10)
    story.exec(10, b"launcher", b"--detach")
    story.fork(10, 11)
    story.exec(11, b"daemon")
    story.end(10)
    story.later()
    assert story.table.at(10) is None
    story.parents[11] = 1  # the kernel has given it to init
    story.exec(11, b"daemon2")
    assert story.line(11) == [10, 1]
    brief = JOINED["process.ancestors"].take(story.table.at(11))
    assert [b["argv"] for b in brief] == [["launcher", "--detach"], ["init"]]
    assert story.table.at(11).parent_exec_id == brief[0]["exec_id"]
    story.end(11)
    story.later()
    assert story.table.remembered == 0, "the launcher has no descendants any more"


def test_an_ancestor_is_what_it_was_when_it_forked(story):
    story.found(1)
    story.fork(1, 10)
    story.exec(10, b"sh", b"-c", b"cat & exec tail")
    story.fork(10, 11)
    story.exec(10, b"tail")
    story.later()
    assert JOINED["process.ancestors"].take(story.table.at(11))[0]["argv"] == ["sh", "-c", "cat & exec tail"]
    assert story.argv_at(10) == ["tail"]


def test_with_clone_parent_the_maker_gives_the_program_and_the_parent_is_another(story):
    story.found(1, argv=b"init\0")
    story.fork(1, 10)
    story.exec(10, b"runc")
    story.fork(1, 11, maker=10, maker_start=story.starts[10])
    assert story.argv_at(11) == ["runc"]
    assert story.line(11) == [1]


def test_chains_of_ended_ancestors_are_cut(story):
    story.found(1)
    story.fork(1, 100)
    for pid in range(101, 300):
        story.fork(pid - 1, pid)
        story.end(pid - 1)
        story.later()
    assert bounds.CHAIN <= len(story.line(299)) <= bounds.CHAIN + 2
    assert story.table.remembered <= bounds.CHAIN + 1
    assert story.table.cut > 100


def test_the_number_of_ended_ancestors_is_bounded(story, monkeypatch):
    monkeypatch.setattr(bounds, "KEPT", 20)
    story.found(1)
    for pid in range(100, 200, 2):
        story.fork(1, pid)
        story.exec(pid, b"made%d" % pid)
        story.fork(pid, pid + 1)
        story.end(pid)
    story.later()
    assert story.table.remembered == 20
    assert story.table.cut == 30
    assert story.line(199) == [198, 1], "the latest are whole"
    assert story.line(101) == [100], "of the first there is but the name"
    assert story.table.at(101).parent.argv == []
    for pid in range(101, 200, 2):
        story.end(pid)
    story.later()
    assert story.table.remembered == 0
    assert len(story.table) == 1


def test_so_are_those_that_ended_lately_and_those_that_run(story, monkeypatch):
    monkeypatch.setattr(bounds, "LATELY", 50)
    monkeypatch.setattr(bounds, "LIVING", 30)
    story.found(1)
    for pid in range(100, 300):
        story.fork(1, pid)
        story.end(pid)
    assert story.table.remembered == 50
    assert story.table.cut == 150
    for pid in range(400, 500):
        story.fork(1, pid)
    assert len(story.table) == 30
    assert story.table.refused == 71
    assert story.table.at(450) is None


def test_ended_processes_are_remembered_however_late_the_rings_are_drained(story):
    story.found(1)
    before = story.now
    story.fork(1, 10)
    ended = story.end(10)
    story.table.tick(ended + 20 * GRACE, before)
    assert story.table.at(10, ended) is not None
    story.table.tick(ended + 20 * GRACE, ended)
    assert story.table.at(10, ended) is None


def test_after_lost_records_the_iterator_sets_it_right(story):
    story.found(1, 2, argv=b"sh\0")
    story.fork(1, 10)
    story.exec(10, b"gone")
    story.fork(1, 11)
    story.exec(11, b"before")
    story.now += 1000
    # Without records: 10 has ended and another has its pid, 11 has called exec, 12 exists, 2 does not.
    story.starts[10], story.parents[10] = story.now, 1
    story.starts[12], story.parents[12] = story.now, 1
    story.on_disk |= {10: b"new\0", 11: b"after\0", 12: b"unheard\0"}
    records = [story.record(FOUND, pid, comm=b"x", exe=b"/bin/x") for pid in (1, 10, 11, 12)]
    story.table.refill(batch_of(life_schema(), *records))
    assert [story.argv_at(pid) for pid in (10, 11, 12)] == [["new"], ["after"], ["unheard"]]
    assert story.table.at(2).ended
    assert len(story.table) == 4
    assert story.table.refills == 1


def test_after_lost_records_a_row_is_not_given_to_an_ended_process(story):
    story.found(1)
    story.fork(1, 10)
    ended = story.end(10)
    story.now += 50_000_000
    assert story.table.at(10, story.now) is not None
    story.table.refill(batch_of(life_schema(), story.record(FOUND, 1)))
    assert story.table.at(10, ended + 5000) is not None, "the row about its end"
    assert story.table.at(10, story.now) is None, "its record was lost"


def test_rows_of_a_time_in_which_records_were_lost_say_so(story):
    story.found(1)
    story.fork(1, 10)
    before = story.exec(10, b"old")
    since = story.now
    story.now += 5000
    during = story.now
    story.now += 5000
    records = [story.record(FOUND, 1), story.record(FOUND, 10, comm=b"old", exe=b"/bin/old")]
    story.table.refill(batch_of(life_schema(), *records), since + 1)
    story.now += 5000
    rows = batch_of(
        ROWS, *({"pid": pid, "time": time} for pid, time in ((10, before), (10, during), (99, during), (99, story.now)))
    )
    story.table.join(rows, rows.raw("pid"))
    assert list(rows.values("process.state")) == ["known", "unsure", "lost", "unknown"]
    assert [argv[:1] for argv in rows.values("process.argv")] == [["old"], ["old"], [], []]
    assert (story.table.unsure, story.table.blank) == (1, 1)


def test_records_that_the_iterator_has_reported_already_change_nothing(story):
    story.found(1)
    story.starts[10], story.parents[10] = 500, 1
    story.found(1, 10, argv=b"here\0")
    story.tell(story.record(FORKED, 10, maker=1, maker_start=1))
    assert len(story.table) == 2
    assert story.argv_at(10) == ["here"]


def test_an_unknown_process_that_execs_is_added(story):
    story.found(1)
    story.starts[10], story.parents[10] = 700, 1
    when = story.exec(10, b"late")
    assert story.argv_at(10) == ["late"]
    assert story.table.at(10, when - 1) is None
    assert story.line(10) == [1]
    story.end(10)
    assert len(story.table) == 1


def test_a_parent_that_the_iterator_hides_is_looked_up(story):
    story.on_disk[1] = b"init\0"
    story.starts[1] = 1
    story.found(10, parent=1)
    assert story.line(10) == [1]
    assert story.argv_at(1) == ["init"]
    story.table.refill(batch_of(life_schema(), story.record(FOUND, 10, exe=b"/bin/old", comm=b"old")))
    assert not story.table.at(1).ended


def test_an_argument_need_not_be_text(story):
    story.found(1)
    story.fork(1, 10)
    story.exec(10, b"a\xff", b"", b"\x1b[2J")
    assert story.argv_at(10) == ["a\udcff", "", "\x1b[2J"]


@pytest.mark.parametrize(("name", "shown"), [(b"pts7", "pts/7"), (b"tty1", "tty1"), (b"", ""), (b"ptsX", "ptsX")])
def test_a_terminal_is_called_as_below_dev(name, shown):
    process = Process(1, 1, 1)
    process.tty_bytes = name
    assert process.tty == shown
