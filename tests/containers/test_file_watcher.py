# SPDX-License-Identifier: BSD-2-Clause
"""Changes of watched files: which owners are notified, and how often."""

import errno
import os
import select
import shutil

import pytest

from eunomia.containers import file_watcher
from eunomia.containers.file_watcher import BURST, FALLBACK, PAUSE, FileWatcher
from tests.containers.stage import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told(clock):
    watching = FileWatcher(clock)
    yield watching
    watching.close()


def readable(told: FileWatcher) -> bool:
    return bool(select.select([told.fd], [], [], 0)[0])


def test_an_owner_is_notified_of_its_paths_only(told, clock, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        told.watch(name, [str(tmp_path / name)])
    assert told.take(clock()) == set()
    (tmp_path / "a/x").write_text("1")
    assert readable(told)
    assert told.take(clock()) == {"a"}


def test_all_owners_of_a_path_are_notified(told, clock, tmp_path):
    told.watch("a", [str(tmp_path)])
    told.watch("b", [str(tmp_path), f"{tmp_path}/."])
    (tmp_path / "x").write_text("1")
    assert told.take(clock()) == {"a", "b"}


def test_a_path_stays_watched_until_its_last_owner_is_forgotten(told, clock, tmp_path):
    told.watch("a", [str(tmp_path)])
    told.watch("b", [str(tmp_path)])
    told.forget("a")
    (tmp_path / "x").write_text("1")
    assert told.take(clock()) == {"b"}
    told.forget("b")
    told.take(clock.wait(1))
    (tmp_path / "y").write_text("1")
    assert not readable(told)
    assert told.take(clock.wait(1)) == set()


def test_a_replaced_file_is_reported_and_again_once_it_is_watched_again(told, clock, tmp_path):
    for text in ("1", "2", "3"):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(tmp_path / "file")
        assert told.take(clock.wait(1)) == (set() if text == "1" else {"a"})
        told.watch("a", [str(tmp_path / "file")])
        told.take(clock.wait(1))


def test_a_directory_that_is_removed_is_news(told, clock, tmp_path):
    (tmp_path / "d").mkdir()
    told.watch("a", [str(tmp_path / "d")])
    shutil.rmtree(tmp_path / "d")
    assert told.take(clock()) == {"a"}
    (tmp_path / "d").mkdir()
    told.watch("a", [str(tmp_path / "d")])
    told.take(clock.wait(1))
    (tmp_path / "d/x").write_text("1")
    assert told.take(clock.wait(1)) == {"a"}


def test_a_log_that_is_written_in_a_watched_directory_is_no_news(told, clock, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        told.watch("a", [str(tmp_path)])
        for _ in range(100):
            log.write(b"line\n")
            log.flush()
        assert not readable(told)
    assert told.take(clock()) == {"a"}, "that it was closed is"


def test_endless_writes_cost_five_reads_a_second(told, clock, tmp_path):
    told.watch("a", [str(tmp_path)])
    looks = 0
    for i in range(10_000):  # 10 s
        if i % 10 == 0:
            (tmp_path / "x").write_text("1")
        looks += bool(told.take(clock.wait(0.001)))
    assert BURST <= looks <= 10e9 / PAUSE + BURST
    assert not readable(told), "there is no wakeup before it is due"
    due = told.next_deadline()
    assert due is not None
    assert due - clock() <= PAUSE


def test_a_queue_that_was_full_is_news_to_everybody(told, clock, tmp_path):
    (tmp_path / "quiet").mkdir()
    (tmp_path / "busy").mkdir()
    told.watch("quiet", [str(tmp_path / "quiet")])
    told.watch("busy", [str(tmp_path / "busy")])
    with open("/proc/sys/fs/inotify/max_queued_events") as limit:
        events = int(limit.read())
    for i in range(events // 2 + 10):  # each makes two
        os.close(os.open(tmp_path / f"busy/{i % 2}", os.O_CREAT | os.O_WRONLY))
        os.unlink(tmp_path / f"busy/{i % 2}")
    assert told.take(clock()) == {"quiet", "busy"}


def test_without_room_for_watches_the_owner_is_notified_every_few_seconds(clock, tmp_path, monkeypatch):
    class Full:
        """The kernel with max_user_watches used up."""

        inotify_init1 = file_watcher.lib.inotify_init1

        @staticmethod
        def inotify_add_watch(*_: object) -> int:
            file_watcher.ffi.errno = errno.ENOSPC
            return -1

    monkeypatch.setattr(file_watcher, "lib", Full)
    told = FileWatcher(clock)
    told.watch("a", [str(tmp_path)])
    assert told.unwatched == {"a"}
    assert told.take(clock()) == set()
    due = told.next_deadline()
    assert due is not None
    assert due - clock() == FALLBACK
    assert told.take(clock.wait(FALLBACK / 1e9)) == {"a"}
    assert told.take(clock.wait(1)) == set()
    told.forget("a")
    assert told.next_deadline() is None


@pytest.mark.parametrize("path", ["/nonexistent/x", "/proc/self/status", "a\0b", "\udcff", "/tmp/" + "x" * 5000])
def test_no_path_is_too_odd(told, clock, path):
    told.watch("a", [path])
    assert told.unwatched == set()
    assert told.take(clock()) == set()


def test_a_dropped_watcher_keeps_no_instance_open(clock, tmp_path):
    for _ in range(200):  # of which a user may have 128
        fresh = FileWatcher(clock)
        fresh.watch("a", [str(tmp_path)])
        assert fresh.unwatched == set()
