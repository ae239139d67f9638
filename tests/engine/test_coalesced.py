# SPDX-License-Identifier: BSD-2-Clause
"""Events that are counted in the kernel: which are equal, and what becomes of counts where there is no room."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from eunomia.filters import Filters
from eunomia.kernel import coalesced
from eunomia.kernel.spec import aligned
from eunomia.source import Options, open_source
from tests import needs
from tests.engine.conftest import Kept
from tests.harness import Seen, tracked

LONG = Options(coalesce=60 * 10**9)
PR_SET_NAME = 15

_libc = ctypes.CDLL(None)


def opens(path: object, flags: int = os.O_RDONLY, times: int = 1) -> None:
    for _ in range(times):
        with suppress(OSError):
            os.close(os.open(str(path), flags, 0o600))


def mine(seen: Seen, **columns: object) -> list[int]:
    """The counts of the rows of this process, with these values."""
    return [row["count"] for row in seen.rows("open", pid=os.getpid(), **columns)]


def total(seen: Seen) -> int:
    return sum(row["count"] for row in seen.rows("open"))


def test_only_what_is_equal_is_counted_together(tmp_path: Path):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    with tracked("opensnoop", options=LONG) as seen:
        opens(tmp_path / "a", times=3)
        opens(tmp_path / "b", times=2)
        opens(tmp_path / "a", os.O_WRONLY, times=4)
        opens(tmp_path / "c", times=5)
        opens(tmp_path / "d", times=6)
        (tmp_path / "d").touch()
        opens(tmp_path / "d", times=7)
    path = str(tmp_path)
    assert mine(seen, resolved=f"{path}/a", flags="O_RDONLY|O_CLOEXEC") == [1, 2]
    assert mine(seen, resolved=f"{path}/a", flags="O_WRONLY|O_CLOEXEC") == [1, 3]
    assert mine(seen, resolved=f"{path}/b") == [1, 1]
    assert mine(seen, resolved=f"{path}/c", errno="ENOENT") == [1, 4]
    assert mine(seen, resolved=f"{path}/d", errno="ENOENT") == [1, 5]
    assert mine(seen, resolved=f"{path}/d", errno="", flags="O_RDONLY|O_CLOEXEC") == [1, 6]


def test_a_file_that_takes_another_s_place_in_memory_is_another(tmp_path: Path):
    names = [f"{n:02}" for n in range(40)]
    with tracked("opensnoop", options=LONG) as seen:
        for name in names:
            directory = tmp_path / name
            directory.mkdir()
            opens(directory / "config", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            (directory / "config").unlink()
            directory.rmdir()
    rows = [row for row in seen.rows("open", pid=os.getpid()) if row["resolved"].endswith("/config")]
    paths = Counter(row["resolved"] for row in rows)
    assert paths == {f"{tmp_path}/{name}/config": 1 for name in names}


def test_a_directory_that_is_renamed_makes_another_path(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    with tracked("opensnoop", options=LONG) as seen:
        opens(tmp_path / "a/b/file", times=2)
        (tmp_path / "a").rename(tmp_path / "z")
        opens(tmp_path / "z/b/file", times=3)
    assert mine(seen, resolved=f"{tmp_path}/a/b/file") == [1, 1]
    assert mine(seen, resolved=f"{tmp_path}/z/b/file") == [1, 2]


def test_a_failed_open_is_told_apart_by_its_directory(tmp_path: Path, monkeypatch):
    with tracked("opensnoop", options=LONG) as seen:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            opens("missing", times=3)
        opens(f"{tmp_path}/" + "m" * 200, times=4)
        opens(f"{tmp_path}/" + "m" * 199, times=5)
    for name in ("one", "two"):
        assert mine(seen, resolved=f"{tmp_path}/{name}/missing") == [1, 2]
    assert mine(seen, resolved=f"{tmp_path}/" + "m" * 200) == [1, 3]
    assert mine(seen, resolved=f"{tmp_path}/" + "m" * 199) == [1, 4]


def test_threads_of_another_name_are_others(tmp_path: Path):
    (tmp_path / "file").touch()

    def act(name: bytes) -> None:
        _libc.prctl(PR_SET_NAME, name)
        opens(tmp_path / "file", times=3)

    with tracked("opensnoop", options=LONG) as seen:
        for name in (b"reader", b"writer", b"reader"):
            thread = threading.Thread(target=act, args=(name,))
            thread.start()
            thread.join()
    assert mine(seen, comm="reader") == [1, 5]
    assert mine(seen, comm="writer") == [1, 2]


def test_pipes_are_not_taken_for_each_other():
    ends = [os.pipe() for _ in range(3)]
    with tracked("opensnoop", options=LONG) as seen:
        for reader, _ in ends:
            opens(f"/proc/self/fd/{reader}", os.O_RDONLY | os.O_NONBLOCK, times=2)
    names = [os.readlink(f"/proc/self/fd/{reader}") for reader, _ in ends]
    for fd in (fd for pair in ends for fd in pair):
        os.close(fd)
    for name in names:
        assert sum(mine(seen, resolved=name)) == 2


def test_what_finds_no_room_in_the_table_stands_for_itself(tmp_path: Path):
    small = Options(coalesce=60 * 10**9, map_sizes={"equal_open_a": 8, "equal_open_b": 8})
    for n in range(50):
        (tmp_path / str(n)).touch()
    with tracked("opensnoop", options=small) as seen:
        for _ in range(20):
            for n in range(50):
                opens(tmp_path / str(n))
    rows = [row for row in seen.rows("open", pid=os.getpid()) if row["resolved"].startswith(f"{tmp_path}/")]
    found: Counter[str] = Counter()
    for row in rows:
        found[row["resolved"]] += row["count"]
    assert found == {f"{tmp_path}/{n}": 20 for n in range(50)}
    assert len(rows) > 40 * 20
    account = seen.ledger("open")
    assert account.events is not None
    assert (account.events.shown, account.lost) == (total(seen), 0)
    assert account.balanced


def test_a_window_ends_early_where_its_records_are_too_many_to_be_kept(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(coalesced, "ENOUGH", 4096)
    (tmp_path / "file").touch()
    with tracked("opensnoop", options=LONG) as seen:
        opens(tmp_path / "file", times=10)
        for n in range(200):
            opens(tmp_path / f"missing-{n}")
        seen.until(lambda seen: mine(seen, resolved=f"{tmp_path}/file") == [1, 9], 60)


def test_counts_whose_record_could_not_be_kept_are_lost_by_name(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(coalesced, "MOST", -1)
    (tmp_path / "file").touch()
    with tracked("opensnoop", options=LONG) as seen:
        opens(tmp_path / "file", times=10)
    assert mine(seen, resolved=f"{tmp_path}/file") == [1]
    account = seen.ledger("open")
    assert account.events is not None
    assert account.events.behind >= 9
    assert account.lost == account.events.behind
    assert f"lost {account.lost} ({account.lost} counted behind a lost record)" in account.line()
    assert '"lost_reasons":{"ring full":0,"counted behind a lost record":' in account.json()


def test_counts_behind_a_record_that_the_ring_refused_are_lost_by_name():
    needs.root()
    with open_source("opensnoop").load(coalesce=60 * 10**9, set_={"eunomia_filter": 1 << 32}) as live:
        map_ = live.maps["equal_open_a"]
        for id_, count in ((0, 3), ((1 << 64) - 1, 4), (12345, 5)):
            key = os.urandom(map_.key_size)
            map_.update(key, struct.pack("QQQQ", count, 1, 2, id_))
        live.detach()
        assert [batch for batch in live.readers["open"].drain() if any(n > 1 for n in batch.raw("count"))] == []
        count = live.count("open")
    assert aligned(map_.key_size) == map_.key_size
    assert count.behind == 12
    assert count.lost == 12


def test_a_source_that_is_removed_in_a_window_forgets_nothing(live, opener):
    one, sink = opener(), Kept()
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.start()
    live.call(lambda: live.engine.add(open_source("opensnoop"), LONG))
    one.opens(20)
    live.call(lambda: live.engine.remove("opensnoop"))
    one.opens(40)
    assert [n for batch in sink.batches for n in batch.raw("count")] == [1, 19]
    (entry,) = live.engine.ledger()
    assert entry.events is not None
    assert (entry.emitted, entry.lost, entry.events.shown) == (2, 0, 20)
    live.end()


def test_outputs_that_want_different_rows_each_get_their_counts(live, opener):
    one, two, first, second = opener(), opener(), Kept(), Kept()
    live.engine.add(open_source("opensnoop"), LONG)
    live.connect("first", first, Filters(pids=(one.pid,)))
    live.connect("second", second, Filters(pids=(two.pid,)))
    live.start()
    one.opens(10)
    two.opens(30)
    live.end()
    assert sum(n for batch in first.batches for n in batch.raw("count")) == 10
    assert sum(n for batch in second.batches for n in batch.raw("count")) == 30


@pytest.mark.parametrize("ring_size", [None, 8 << 20], ids=["maps go on", "a new ring"])
def test_a_source_that_is_replaced_in_a_window_loses_and_doubles_no_count(live, opener, ring_size):
    one, sink = opener(), Kept()
    live.engine.add(open_source("opensnoop"), LONG)
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.start()
    for _ in range(3):
        one.opens(20)
        live.engine.replace("opensnoop", open_source("opensnoop"), LONG._replace(ring_size=ring_size))
    one.opens(20)
    live.end()
    assert sum(n for batch in sink.batches for n in batch.raw("count")) == 80
    (entry,) = live.engine.ledger()
    assert entry.events is not None
    assert (entry.events.shown, entry.lost, entry.emitted) == (80, 0, sum(b.count for b in sink.batches))


def test_opens_are_counted_exactly_while_their_source_is_replaced(live, opener):
    one, sink = opener(), Kept()
    live.engine.add(open_source("opensnoop"), Options(coalesce=20_000_000))
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.start()
    busy = threading.Thread(target=one.opens, args=(30_000,))
    busy.start()
    while busy.is_alive():
        live.engine.replace("opensnoop", open_source("opensnoop"))
    busy.join()
    live.end()
    assert sum(n for batch in sink.batches for n in batch.raw("count")) == 30_000
