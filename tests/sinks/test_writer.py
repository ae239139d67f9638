# SPDX-License-Identifier: BSD-2-Clause
import contextlib
import json
import os
import select
import socket
import stat
import subprocess
import threading
import time

import pytest

from eunomia.sinks import open_sink
from eunomia.sinks.writer import FileWriter, PipeWriter, open_writer, parse_size

KEY, OTHER = ("t", "a"), ("t", "b")


def rows(count, size=100, key=KEY):
    line = b"x" * (size - 1) + b"\n"
    return line * count, {key: count}


def lost(writer, key=KEY):
    return sum(writer.dropped.get(key, {}).values())


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        with contextlib.suppress(OSError):
            os.close(fd)


def read_all(fd, into):
    while data := os.read(fd, 65536):
        into += data


def test_a_stalled_reader_never_blocks_and_every_row_is_counted(pipe):
    read, write = pipe
    writer = PipeWriter(os.dup(write), bound=1 << 20, patience=0.2)
    os.close(write)
    began = time.monotonic()
    for _ in range(100):
        writer.write(*rows(1000))
    assert time.monotonic() - began < 2
    assert lost(writer) > 0
    assert sum(writer.waiting.values()) + lost(writer) + writer.delivered.get(KEY, 0) == 100_000
    got = bytearray()
    writer.close()
    read_all(read, got)
    assert writer.dropped == {KEY: {"slow reader": 100_000 - writer.delivered[KEY]}}
    assert got.count(b"\n") == writer.delivered[KEY]


def test_a_reader_that_catches_up_in_time_gets_everything(pipe):
    read, write = pipe
    writer = PipeWriter(os.dup(write), patience=5)
    os.close(write)
    got = bytearray()
    for _ in range(20):
        writer.write(*rows(1000))
    reader = threading.Thread(target=read_all, args=(read, got))
    reader.start()
    writer.close()
    reader.join()
    assert writer.delivered == {KEY: 20_000}
    assert writer.dropped == {}
    assert got.count(b"\n") == 20_000


def test_rows_in_a_half_sent_piece_are_counted_by_stream(pipe):
    read, write = pipe
    writer = PipeWriter(os.dup(write), patience=0)
    os.close(write)
    order = [KEY, OTHER] * 5000
    data = b"".join((b"a" if k is KEY else b"b") * 99 + b"\n" for k in order)
    writer.write(data, {KEY: 5000, OTHER: 5000}, order)
    writer.close()
    got = bytearray()
    read_all(read, got)
    assert writer.delivered == {KEY: got.count(b"a\n"), OTHER: got.count(b"b\n")}
    assert writer.delivered[KEY] + lost(writer) == 5000


def test_a_closed_pipe_ends_quietly(pipe, capfd):
    read, write = pipe
    os.close(read)
    writer = open_writer(fd=write)
    writer.write(*rows(10))
    assert writer.closed
    writer.write(*rows(5))
    writer.close()
    assert writer.dropped == {KEY: {"closed pipe": 15}}
    assert capfd.readouterr().err == ""


def test_a_pipe_that_closes_half_way_accounts_for_what_waits(pipe):
    read, write = pipe
    writer = PipeWriter(os.dup(write))
    os.close(write)
    writer.write(*rows(5000))
    os.close(read)
    writer.flush()
    assert writer.closed
    assert writer.delivered[KEY] + writer.dropped[KEY]["closed pipe"] == 5000


def test_the_descriptor_that_others_share_keeps_blocking(pipe):
    writer = PipeWriter(os.dup(pipe[1]))
    writer.write(*rows(5000))
    assert os.get_blocking(pipe[1])


def test_a_pipe_that_cannot_be_opened_anew_is_polled(pipe, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    read, write = pipe
    writer = PipeWriter(os.dup(write), patience=0)
    os.close(write)
    writer.write(*rows(5000))
    writer.close()
    got = bytearray()
    read_all(read, got)
    assert got.count(b"\n") == writer.delivered[KEY] > 0
    assert writer.delivered[KEY] + lost(writer) == 5000


def test_a_socket_is_written_to_and_never_blocks():
    ours, theirs = socket.socketpair()
    writer = open_writer(fd=ours.fileno())
    writer._patience = 0
    began = time.monotonic()
    writer.write(*rows(50_000))
    writer._queue and writer.flush()
    assert time.monotonic() - began < 1
    assert theirs.recv(100) == b"x" * 99 + b"\n"
    ours.detach()
    writer.close()
    assert writer.delivered[KEY] + lost(writer) == 50_000
    theirs.close()


def test_a_full_device_is_said_once_and_counted():
    said = []
    writer = FileWriter(os.open("/dev/full", os.O_WRONLY), "/dev/full", say=said.append)
    for _ in range(5):
        writer.write(*rows(10))
    assert writer.dropped == {KEY: {"No space left on device": 50}}
    assert len(said) == 1
    assert "No space left on device" in said[0]


@pytest.fixture
def small_disk(tmp_path):
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("not supported: no mount(8) here")
    if done.returncode:
        pytest.skip(f"not supported: tmpfs cannot be mounted: {done.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_leaves_whole_lines_and_recovers_when_there_is_room(small_disk):
    ballast, path = small_disk / "ballast", small_disk / "out.json"
    ballast.write_bytes(bytes(32 << 10))
    writer = open_writer(str(path))
    said = []
    writer._say = said.append
    order = [KEY, OTHER] * 500
    data = b"".join((b"a" if k is KEY else b"b") * 99 + b"\n" for k in order)
    writer.write(data, {KEY: 500, OTHER: 500}, order)
    got = path.read_bytes()
    assert got.endswith(b"\n")
    assert set(map(len, got.splitlines())) == {99}
    assert writer.delivered == {KEY: got.count(b"a\n"), OTHER: got.count(b"b\n")}
    assert writer.delivered[KEY] + lost(writer) == 500
    assert writer.dropped[OTHER] == {"No space left on device": 500 - writer.delivered[OTHER]}
    ballast.unlink()
    writer._failed_at -= 2
    writer.write(*rows(100))
    assert len(path.read_bytes().splitlines()) == len(got.splitlines()) + 100
    assert [("No space" in s, "works again;" in s) for s in said] == [(True, False), (False, True)]
    writer.close()


def test_files_rotate_between_lines_and_keep_so_many(tmp_path):
    path = tmp_path / "out"
    writer = open_writer(str(path), rotate=1050, keep=3)
    for _ in range(10):
        writer.write(*rows(7))
    writer.close()
    assert sorted(os.listdir(tmp_path)) == ["out", "out.1", "out.2", "out.3"]
    assert all((tmp_path / f"out.{i}").stat().st_size == 1000 for i in (1, 2, 3))
    assert writer.delivered == {KEY: 70}


def test_nothing_is_lost_by_rotating(tmp_path, sample):
    path = tmp_path / "out.json"
    writer = open_writer(str(path), rotate=3000, keep=100)
    sink = open_sink("json", writer, [sample.FORK])
    for start in range(0, 200, 50):
        sink.write([sample.batch(sample.FORK, [{"pid": start + i} for i in range(50)])])
    sink.close()
    files = sorted(tmp_path.iterdir(), key=lambda p: int(p.suffix[1:]) if p.suffix != ".json" else 0)
    pids = [json.loads(line)["pid"] for p in reversed(files) for line in p.read_text().splitlines()]
    assert pids == list(range(200))
    assert all(p.stat().st_size <= 3000 for p in files)


def test_each_rotated_csv_file_has_its_header(tmp_path, sample):
    path = tmp_path / "out.csv"
    writer = open_writer(str(path), rotate=2000)
    sink = open_sink("csv", writer, [sample.FORK])
    sink.write([sample.batch(sample.FORK, [{} for _ in range(60)])])
    sink.close()
    files = list(tmp_path.iterdir())
    assert len(files) > 2
    assert all(p.read_text().startswith("time,tracker,") for p in files)
    assert sum(p.read_text().count("\n") - 1 for p in files) == 60


def test_a_line_longer_than_the_limit_gets_a_file_of_its_own(tmp_path):
    writer = open_writer(str(tmp_path / "out"), rotate=50)
    writer.write(*rows(3, 200))
    writer.close()
    assert [p.stat().st_size for p in tmp_path.iterdir()] == [200] * 3


def test_an_older_file_is_kept_when_rotation_is_on(tmp_path):
    path = tmp_path / "out"
    path.write_text("yesterday\n")
    open_writer(str(path), rotate=1000).close()
    assert (tmp_path / "out.1").read_text() == "yesterday\n"


def test_a_rotation_that_fails_is_said_and_rows_go_on(tmp_path):
    path = tmp_path / "out"
    writer = open_writer(str(path), rotate=1000)
    said = []
    writer._say = said.append
    (tmp_path / "out.new").mkdir()
    for _ in range(5):
        writer.write(*rows(9))
    assert writer.delivered == {KEY: 45}
    assert path.stat().st_size == 4500
    assert len(said) == 1


def test_files_are_for_their_owner_alone(tmp_path):
    path = tmp_path / "out"
    open_writer(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("path", "said"), [("", "is a directory"), ("no/such/file", "does not exist"), ("fifo", "has no reader")]
)
def test_a_path_that_cannot_be_written_is_said_in_one_sentence(tmp_path, path, said):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match=said) as caught:
        open_writer(str(tmp_path / path))
    assert caught.value.strerror.startswith(f"cannot write to {str(tmp_path / path)!r}")


def test_only_files_rotate():
    with pytest.raises(ValueError, match="not a regular file"):
        open_writer("/dev/null", rotate=100)
    with pytest.raises(ValueError, match="--output"):
        open_writer(rotate=100)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100MB", 100_000_000),
        ("1GiB", 1 << 30),
        ("500k", 500_000),
        ("1.5 MiB", 3 << 19),
        ("4096", 4096),
        ("8b", 8),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "1XB", "inf", "nan", "1e999", "10 20", "5i"])
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_a_terminal_is_known_as_one():
    leader, follower = os.openpty()
    writer = open_writer(fd=follower)
    assert writer.terminal == follower
    writer.write(b"hello\n", {KEY: 1})
    assert select.select([leader], [], [], 1)[0]
    assert os.read(leader, 100) == b"hello\r\n"
    writer.close()
    os.close(leader)
