# SPDX-License-Identifier: BSD-2-Clause
"""What ran is known again after a restart, whenever the server was killed, and an unusable file stops nothing."""

import contextlib
import os
import random
import signal
from pathlib import Path

import msgspec
import pytest

from eunomia.server import state
from eunomia.server.models import Filters, Generation, TrackerRequest
from eunomia.server.objects import Objects, digest_of
from eunomia.server.problems import ApiError
from eunomia.server.state import Entry, State, StateError, bounded
from tests.server.conftest import KILLS


def entry(id_: str = "process", *, object_: str = "", generations: int = 1, **request) -> Entry:
    request = TrackerRequest(kind="" if object_ else "process", object=object_, id=id_, **request)
    ran = [
        Generation(number=n, object=object_ or "process", time=f"2026-11-27T12:00:{n % 60:02}Z", outcome="running")
        for n in range(1, generations + 1)
    ]
    return Entry(id_, request, "2026-11-27T12:00:00Z", generations, ran)


@contextlib.contextmanager
def opened(directory: Path):
    found = State(str(directory))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def place(tmp_path):
    return tmp_path / "state"


def test_what_was_put_is_there_after_a_restart(place):
    one = entry("web", filters=Filters(containers=["web*"], pids=[1]), settings={"min_us": 100, "on": True})
    with opened(place) as before:
        before.put(entry("gone"))
        before.put(one)
        before.put(entry("process", duration=30.5))
        before.remove("gone")
    with opened(place) as after:
        assert after.entries == [one, entry("process", duration=30.5)]
        assert after.said == []


def test_a_changed_tracker_keeps_its_place_and_has_its_new_content(place):
    with opened(place) as now:
        for name in ("a", "b", "c"):
            now.put(entry(name))
        now.put(entry("a", duration=5))
        assert [(e.id, e.request.duration) for e in now.entries] == [("a", 5), ("b", 0), ("c", 0)]


class TestKilledAtAnyMoment:
    """Each state is derived from a number, so that a mixture of two would be noticed."""

    @staticmethod
    def of(number: int) -> list[Entry]:
        draw = random.Random(number)
        return [
            entry(f"t{number}-{i}", settings={"number": number}, generations=draw.randrange(1, 6))
            for i in range(draw.randrange(1, 40))
        ]

    def write_on_and_on(self, place: Path, reports: int, first: int) -> None:
        """Write one state after the other, each as a whole; report each that was written."""
        now = State(str(place))
        os.write(reports, b"%d\n" % (first - 1))
        for number in range(first, first + 1_000_000):
            entries = {e.id: e for e in self.of(number)}
            with now._lock:
                now._write(entries)
            os.write(reports, b"%d\n" % number)

    def killed(self, place: Path, first: int, draw: random.Random) -> int:
        """Have a child write until it is killed; return the number of the last state that it reported."""
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.close(reads)
                self.write_on_and_on(place, writes, first)
            os._exit(1)
        os.close(writes)
        with open(reads, "rb") as reported:
            lines = [reported.readline() for _ in range(1 + draw.randrange(4))]
            for _ in range(draw.randrange(100_000)):  # somewhere within a write
                pass
            os.kill(child, signal.SIGKILL)
            lines += reported.readlines()
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child ended by itself: it failed to write"
        return int(lines[-1])

    def test_the_state_is_the_last_one_that_was_reported_or_the_next(self, place):
        draw = random.Random()
        number = cut = 0
        with opened(place) as now:
            for one in self.of(0):
                now.put(one)
        for _ in range(KILLS):
            last = self.killed(place, number + 1, draw)
            cut += (place / "state.json.new").exists()
            with opened(place) as after:
                assert after.said == []
                number = after.entries[0].request.settings["number"]
                assert after.entries == self.of(number)
                assert number in {last, last + 1}, "what was reported as written is there"
                assert sorted(os.listdir(place)) == ["lock", "objects", "state.json"]
        assert number >= KILLS
        assert cut, "some were killed in the middle of a write"


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_it_returns(place, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor):
        done.append("sync directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
        real_sync(descriptor)

    def rename(old, new):
        done.append("rename")
        real_replace(old, new)

    with opened(place) as now:
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(os, "replace", rename)
        now.put(entry())
    assert done == ["sync file", "rename", "sync directory"]


class TestAFileThatCannotBeUsed:
    @pytest.fixture
    def written(self, place):
        with opened(place) as now:
            now.put(entry("web", settings={"min_us": 100}))
        return place / "state.json"

    def reopened(self, written) -> str:
        """Open it: it is said why no tracker is there, and the next start finds nothing wrong."""
        content = written.read_bytes()
        with opened(written.parent) as now:
            assert now.entries == []
            (said,) = now.said
            now.put(entry("later"))
        aside = written.with_name(f"{written.name}.bad-1")
        assert aside.read_bytes() == content
        assert said.endswith("no tracker is started again from it; the file was moved to state.json.bad-1")
        with opened(written.parent) as again:
            assert (again.said, [e.id for e in again.entries]) == ([], ["later"])
        return said

    def test_is_cut_at_any_place(self, written):
        whole = written.read_bytes()
        for size in range(len(whole)):
            with pytest.raises(ValueError, match=r"^it is "):
                state.decode(whole[:size])
        written.write_bytes(whole[: len(whole) // 2])
        assert "it is broken: it is not whole" in self.reopened(written)

    def test_is_empty(self, written):
        written.write_bytes(b"")
        assert "it is empty" in self.reopened(written)

    def test_has_one_changed_digit(self, written):
        written.write_bytes(written.read_bytes().replace(b":100", b":900"))
        assert "it is damaged: its content does not match its digest" in self.reopened(written)

    def test_is_of_a_newer_version(self, written):
        written.write_bytes(b'{"version": 7, "trackers": {"shape": "unknown"}}')
        assert "a newer version of eunomia wrote it (format 7; this one reads 1)" in self.reopened(written)

    def test_is_of_an_older_version(self, written):
        written.write_bytes(b'{"version": 0, "running": ["process"]}')
        assert "its format 0 is no longer read (this eunomia reads 1)" in self.reopened(written)

    @pytest.mark.parametrize(
        "content",
        [
            b"[]",
            b"null",
            b"{}",
            b'{"version": "1"}',
            b'{"version": true}',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"a":' * 9999,
        ],
    )
    def test_is_no_state_file(self, written, content):
        written.write_bytes(content)
        assert "not a state file" in self.reopened(written)

    def test_has_a_tracker_that_this_version_does_not_know(self, written):
        body = b'[{"id":"a","unheard":1}]'
        envelope = {"version": 1, "digest": digest_of(body), "trackers": msgspec.Raw(body)}
        written.write_bytes(msgspec.json.encode(envelope))
        assert "it is damaged: Object missing required field" in self.reopened(written)

    def test_comes_again_and_again_and_does_not_fill_the_disk(self, written):
        for number in range(6):
            written.write_bytes(b"broken %d" % number)
            with opened(written.parent):
                pass
        left = sorted(p.name for p in written.parent.glob("state.json*"))
        assert left == ["state.json.bad-1", "state.json.bad-2", "state.json.bad-3"]
        assert [(written.parent / name).read_bytes() for name in left] == [b"broken 3", b"broken 4", b"broken 5"]

    def test_is_a_link_to_another_file(self, written, tmp_path):
        other = tmp_path / "other"
        written.rename(other)
        written.symlink_to(other)
        with pytest.raises(StateError, match=r"state\.json: Too many levels of symbolic links"):
            State(str(written.parent))


def test_a_full_disk_is_said_and_the_old_state_stays(place, monkeypatch):
    with opened(place) as now:
        now.put(entry("a"))

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StateError, match=r"the state cannot be written to .*: No space left on device"):
            now.put(entry("b"))
        monkeypatch.undo()
        assert [e.id for e in now.entries] == ["a"]
        assert sorted(os.listdir(place)) == ["lock", "objects", "state.json"]
    with opened(place) as after:
        assert [e.id for e in after.entries] == ["a"]


class TestTheDirectory:
    def test_is_made_for_this_user_alone(self, place):
        with opened(place / "deeper") as now:
            now.put(entry())
        modes = {p.name: p.stat().st_mode & 0o777 for p in [place / "deeper", *(place / "deeper").iterdir()]}
        assert modes == {"deeper": 0o700, "lock": 0o600, "objects": 0o700, "state.json": 0o600}

    def test_is_refused_if_others_may_write_to_it(self, place):
        place.mkdir(mode=0o700)
        place.chmod(0o770)
        with pytest.raises(StateError, match="others may write to it: chmod go-w it"):
            State(str(place))

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a directory of somebody else's")
    def test_is_refused_if_it_is_somebody_elses(self, place):
        place.mkdir(mode=0o700)
        os.chown(place, 12345, -1)
        with pytest.raises(StateError, match="it belongs to user 12345"):
            State(str(place))

    def test_is_used_by_one_process_at_a_time(self, place):
        who = rf"process {os.getpid()} uses it: is a server running\?"
        with opened(place), pytest.raises(StateError, match=who):
            State(str(place))
        with opened(place) as again:
            assert again.entries == []

    def test_is_free_again_when_its_process_was_killed(self, place):
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            State(str(place))
            os.write(writes, b"open")
            signal.pause()
        assert os.read(reads, 4) == b"open"
        with pytest.raises(StateError, match=f"process {child} uses it"):
            State(str(place))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with opened(place) as again:
            assert again.entries == []

    def test_is_a_file(self, place):
        place.write_text("")
        with pytest.raises(StateError, match=r"state directory .*: (File exists|Not a directory)"):
            State(str(place))


class TestObjects:
    def test_come_back_as_they_were(self, place):
        with opened(place) as now:
            digest = now.objects.put(b"object")
            now.put(entry("mine", object_=digest))
        with opened(place) as after:
            assert after.objects.get(after.entries[0].request.object) == b"object"

    def test_that_were_changed_on_the_disk_are_refused(self, place):
        with opened(place) as now:
            digest = now.objects.put(b"object")
            (place / "objects" / digest.removeprefix("sha256:")).write_bytes(b"evil")
            with pytest.raises(ApiError, match="was changed on disk"):
                now.objects.get(digest)
            assert now.objects.put(b"object") == digest, "and are written again when they come again"
            assert now.objects.get(digest) == b"object"

    @pytest.mark.parametrize("name", ["../state.json", "sha256:../../etc/passwd", "", "sha256:" + "A" * 64])
    def test_are_not_found_by_a_path(self, place, name):
        with opened(place) as now:
            now.put(entry())
            assert name not in now.objects
            with pytest.raises(ApiError, match="there is no object"):
                now.objects.get(name)

    def test_of_the_five_generations_before_the_current_one_stay_for_rollback(self, place):
        with opened(place) as now:
            now.objects._spare = 0  # nothing that is not in use
            one = entry("mine", object_=now.objects.put(b"0"))
            now.put(one)
            digests = [one.request.object]
            for number in range(2, 10):
                digests.append(now.objects.put(b"%d" % number))
                ran = Generation(number=number, object=digests[-1], time="2026-11-27T12:00:00Z", outcome="running")
                request = msgspec.structs.replace(one.request, object=digests[-1])
                one = msgspec.structs.replace(
                    one, request=request, generation=number, generations=[*one.generations, ran]
                )
                now.put(one)
                (one,) = now.entries
            assert [g.number for g in one.generations] == [4, 5, 6, 7, 8, 9]
            assert set(now.objects) == set(digests[-6:])
            back = msgspec.structs.replace(one, generation=5, request=TrackerRequest(object=digests[4]))
            now.put(back)
            assert set(now.objects) == set(digests[-6:]), "one can go forward again too"
            now.remove("mine")
            assert set(now.objects) == set()

    def test_that_nothing_uses_stay_while_there_is_room_the_latest_longest(self, tmp_path):
        store = Objects(tmp_path / "objects", limit=100, spare=30)
        used = store.put(b"u" * 50)
        store.use({used})
        old, new = store.put(b"o" * 12), store.put(b"n" * 12)
        os.utime(tmp_path / "objects" / old.removeprefix("sha256:"), (1, 1))
        latest = store.put(b"l" * 12)
        assert set(store) == {used, new, latest}

    def test_in_use_are_never_removed_and_their_size_has_a_bound(self, tmp_path):
        store = Objects(tmp_path / "objects", limit=100, spare=100)
        used = [store.put(bytes([n]) * 30) for n in range(3)]
        store.use(used)
        with pytest.raises(
            ApiError, match="no room for an object of 11 bytes: those that run have most of 100; stop some"
        ):
            store.put(b"x" * 11)
        assert set(store) == set(used)

    def test_that_are_gone_cannot_be_recorded_as_running(self, place):
        with opened(place) as now:
            with pytest.raises(StateError, match="is not stored: upload it again"):
                now.put(entry("mine", object_=digest_of(b"never uploaded")))
            assert now.entries == []

    def test_half_written_ones_are_removed_at_the_start(self, place):
        with opened(place):
            (place / "objects" / f"{'a' * 64}.new").write_bytes(b"half")
        with opened(place) as now:
            assert os.listdir(place / "objects") == []
            assert set(now.objects) == set()


def test_generations_after_the_current_one_stay_too():
    ran = [Generation(number=n, object="x", time="", outcome="replaced") for n in range(1, 11)]
    assert [g.number for g in bounded(ran, 8)] == [3, 4, 5, 6, 7, 8, 9, 10]
