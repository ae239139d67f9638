# SPDX-License-Identifier: BSD-2-Clause
"""BoltDB files: those of real programs, of all shapes, and hostile ones."""

import os
import random
import struct
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from eunomia.containers import bolt
from eunomia.containers.bolt import Bolt, Broken, Bucket
from tests import needs
from tests.containers.bolt_file import Tree, Writer, branch, fnv, leaf

SMALL: Tree = {
    b"v1": {
        b"k8s.io": {b"containers": {b"abc": {b"image": b"bb:latest", b"labels": {b"app": b"web"}}}},
        b"version": b"\x06",
    }
}
LARGE: Tree = {
    b"ctr": {b"%064d" % i: {b"config": b"{%d}" % i, b"state": b"x" * (i % 70)} for i in range(3000)},
    b"one large value": b"y" * 100_000,
    b"": b"a key of nothing",
}


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def whole(bucket: Bucket | None) -> Tree:
    assert bucket is not None
    return {**dict(bucket.items()), **{key: whole(inner) for key, inner in bucket.buckets()}}


def read(path: str) -> Tree:
    return bolt.ask(path, lambda db: whole(db.bucket()))


@pytest.mark.parametrize("page_size", [1024, 4096, 65536])
@pytest.mark.parametrize(("fanout", "inline"), [(3, 0), (50, 1024), (1000, 1 << 20)])
def test_all_that_was_written_is_read(tmp_path: Path, page_size: int, fanout: int, inline: int):
    some = {**LARGE, b"ctr": {key: LARGE[b"ctr"][key] for key in sorted(LARGE[b"ctr"])[:200]}}
    for tree in ({}, SMALL, some):
        path = written(tmp_path / "db", Writer(page_size, fanout, inline).file(tree))
        assert read(path) == tree


@pytest.mark.parametrize("fanout", [3, 50])
def test_each_key_is_found_and_no_other(tmp_path: Path, fanout: int):
    path = written(tmp_path / "db", Writer(fanout=fanout).file(LARGE))
    with Bolt(path) as db:
        containers = db.bucket(b"ctr")
        for i in range(3000):
            assert containers.bucket(b"%064d" % i).get(b"config") == b"{%d}" % i
            assert containers.bucket(b"%064d" % i + b"a") is None
        assert containers.bucket(b"") is None
        assert containers.bucket(b"~") is None
        assert db.bucket().get(b"") == b"a key of nothing"
        assert len(db.bucket().get(b"one large value")) == 100_000


def test_values_are_no_buckets_and_buckets_no_values(tmp_path: Path):
    with Bolt(written(tmp_path / "db", Writer().file(SMALL))) as db:
        assert db.bucket(b"v1", b"version") is None
        assert db.bucket(b"v1", b"version", b"further") is None
        assert db.bucket(b"v1").get(b"k8s.io") is None
        assert db.bucket(b"v1", b"k8s.io", b"containers", b"abc").get(b"image") == b"bb:latest"


def test_only_a_few_pages_are_read_for_a_key(tmp_path: Path):
    path = written(tmp_path / "db", Writer(fanout=8).file({b"ctr": LARGE[b"ctr"]}))
    with Bolt(path, room=10 * 4096) as db:
        assert db.bucket(b"ctr", b"%064d" % 1234).get(b"config") == b"{1234}"
        with pytest.raises(Broken, match="more than 40960 bytes"):
            whole(db.bucket())


def test_the_newer_meta_page_holds_and_the_older_one_when_that_is_torn(tmp_path: Path):
    writer = Writer()
    writer.file({b"a": b"old"}, 7)
    data = bytearray(writer.commit({b"a": b"new"}, 8))
    assert read(written(tmp_path / "db", data)) == {b"a": b"new"}
    data[30] ^= 1  # in page 0, which is that of 8
    assert read(written(tmp_path / "db", data)) == {b"a": b"old"}
    data[4096 + 30] ^= 1
    with pytest.raises(Broken, match="torn"):
        read(written(tmp_path / "db", data))


def test_a_reader_notices_a_writer_and_begins_again(tmp_path: Path):
    writer = Writer()
    path = written(tmp_path / "db", writer.file({b"n": b"0"}))
    seen = []

    def question(db: Bolt) -> bytes | None:
        value = db.bucket().get(b"n")
        assert not db.stale
        if len(seen) < 3:
            written(tmp_path / "db", writer.commit({b"n": b"%d" % (len(seen) + 1)}, db.transaction + 1))
            assert db.stale
        seen.append(value)
        return value

    assert bolt.ask(path, question) == b"3"
    assert seen == [b"0", b"1", b"2", b"3"]


def test_pages_overwritten_by_a_writer_are_read_again_not_reported(tmp_path: Path):
    writer = Writer()
    path = written(tmp_path / "db", writer.file({b"n": b"0"}))
    asked = []

    def question(db: Bolt) -> bytes | None:
        asked.append(db.transaction)
        if len(asked) == 1:
            data = bytearray(writer.commit({b"n": b"1"}, 8))
            data[3 * 4096 : 5 * 4096] = bytes(2 * 4096)  # what 7 had
            written(tmp_path / "db", data)
        return db.bucket().get(b"n")

    assert bolt.ask(path, question) == b"1"
    assert asked == [7, 8]


def test_a_file_that_never_rests_is_given_up(tmp_path: Path):
    writer = Writer()
    path = written(tmp_path / "db", writer.file({}))
    with pytest.raises(Broken, match="changed"):
        bolt.ask(path, lambda db: written(tmp_path / "db", writer.commit({}, db.transaction + 1)))


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\0" * 100_000, b"SQLite format 3\0" * 1000])
def test_what_is_no_boltdb_file_is_refused(tmp_path: Path, data: bytes):
    with pytest.raises(Broken, match="not a BoltDB file"):
        Bolt(written(tmp_path / "db", data))


def looped(kind: str) -> bytes:
    """Return a file whose page 4, its first, leads to itself."""
    writer = Writer()
    data = bytearray(writer.file({}))
    if kind == "branch":
        page = struct.pack("=QHHI", 4, 1, 200, 0) + branch([(b"", 4)] * 200)
    elif kind == "bucket":
        page = struct.pack("=QHHI", 4, 2, 1, 0) + leaf([(1, b"a", struct.pack("=QQ", 4, 0))])
    elif kind == "overflow":
        page = struct.pack("=QHHI", 4, 2, 0, 0xFFFFFFFF)
    else:
        page = struct.pack("=QHHI", 4, 1, 0, 0)
    data[4 * 4096 : 4 * 4096 + len(page)] = page
    return bytes(data)


@pytest.mark.parametrize("kind", ["branch", "bucket", "overflow"])
def test_pages_that_lead_to_themselves_come_to_an_end(tmp_path: Path, kind: str):
    def endless(db: Bolt) -> None:
        todo = [db.bucket()]
        while todo:
            bucket = todo.pop()
            for _ in bucket.items():
                pass
            todo += [inner for _, inner in bucket.buckets()]

    with pytest.raises(Broken):
        bolt.ask(written(tmp_path / "db", looped(kind)), endless)


def test_a_key_below_an_empty_branch_is_not_looked_for_forever(tmp_path: Path):
    with Bolt(written(tmp_path / "db", looped("empty"))) as db, pytest.raises(Broken, match="branch"):
        db.bucket().get(b"a")


def test_mutated_and_truncated_files_are_read_or_broken_and_nothing_else(tmp_path: Path):
    """Changes of the meta pages get a right checksum, or nothing behind them would ever be reached."""
    chance = random.Random(4)
    tree = {**SMALL, b"ctr": {b"%04d" % i: {b"c": b"x" * (i % 40)} for i in range(60)}, b"big": b"z" * 9000}
    broken = fine = 0
    for _ in range(1500):
        writer = Writer(fanout=chance.choice([3, 20]), inline=chance.choice([0, 500]))
        data = bytearray(writer.file(tree))
        for _ in range(chance.randint(1, 4)):
            # Mostly the heads of pages, where it hurts.
            at = chance.randrange(len(data)) & ~0xFFF | chance.choice([chance.randrange(160), chance.randrange(4096)])
            data[min(at, len(data) - 1)] = chance.choice([0, 1, 255, chance.randrange(256)])
        writer.pages = data
        if chance.random() < 0.5:
            writer.meta(9, chance.choice([5, chance.randrange(writer._next + 2), 1 << 63]))
        if chance.random() < 0.2:
            del data[chance.randrange(len(data)) :]
        try:
            with Bolt(written(tmp_path / "db", data), room=1 << 20) as db:
                db.bucket(b"ctr", b"0030")
                db.bucket(b"v1", b"k8s.io", b"containers", b"abc", b"labels")
                whole(db.bucket())
            fine += 1
        except Broken:
            broken += 1
        except RecursionError:  # of this test's own whole()
            broken += 1
    assert broken > 100
    assert fine > 100


@pytest.mark.parametrize("pages", [1 << 20, 1 << 51, (1 << 64) - 1])
@pytest.mark.parametrize("root", [1 << 19, 1 << 50, 1 << 62, (1 << 64) - 2])
def test_a_meta_page_with_a_right_sum_and_numbers_beyond_the_file_is_broken(tmp_path: Path, root: int, pages: int):
    writer = Writer()
    data = bytearray(writer.file({}))
    body = struct.pack("=IIIIQQQQQ", 0xED0CDAED, 2, 4096, 0, root, 0, 2, pages, 9)
    data[4096 + 16 : 4096 + 80] = body + struct.pack("=Q", fnv(body))
    with Bolt(written(tmp_path / "db", data)) as db, pytest.raises(Broken, match="no page"):
        db.bucket(b"v1")


def test_a_fifo_a_directory_and_nothing_raise_what_the_kernel_says(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "", "missing"):
        with pytest.raises(OSError):
            Bolt(str(tmp_path / name))


def test_the_descriptor_is_closed_also_when_the_file_is_broken(tmp_path: Path):
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Broken):
        Bolt(os.open(written(tmp_path / "db", b"nothing"), os.O_RDONLY))
    assert bolt.ask(os.open(written(tmp_path / "db", Writer().file({b"a": b"b"})), os.O_RDONLY), lambda db: db.transaction) == 7
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_database_of_a_real_podman_is_read():
    needs.root()
    podman = [needs.program("podman", "podman"), "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"]
    with TemporaryDirectory(prefix="eu-", dir="/tmp") as root:  # Podman wants paths of less than 50 characters
        podman += ["--root", f"{root}/s", "--runroot", f"{root}/r", "--tmpdir", f"{root}/t"]
        for i in range(60):
            label = ["--label", f"n={i}"]
            subprocess.run([*podman, "volume", "create", *label, f"volume-{i}"], check=True, capture_output=True)
        path = f"{root}/s/libpod/bolt_state.db"
        if not os.path.exists(path):
            pytest.skip("needs a Podman that keeps its state in BoltDB (4.x)")
        volumes = bolt.ask(path, lambda db: whole(db.bucket(b"vol")))
    assert sorted(volumes) == sorted(b"volume-%d" % i for i in range(60))
    assert all(b'"labels":{"n":"%d"}' % i in volumes[b"volume-%d" % i][b"config"] for i in range(60))
