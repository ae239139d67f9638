# SPDX-License-Identifier: BSD-2-Clause
"""What was pulled stays on disk, up to a bound, whoever else writes there."""

import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eunomia.oci.cache import Cache, place
from eunomia.oci.reference import digest_of
from eunomia.oci.signatures import Signature
from tests import needs

KIB = 1024


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"), 10 * KIB)


def content(number, size=KIB):
    return bytes([number]) * size


def sizes(cache):
    return [os.path.getsize(os.path.join(cache.directory, name)) for name in os.listdir(cache.directory)]


def test_what_was_stored_is_found_by_its_digest(cache):
    assert cache.get(digest_of(b"x")) is None
    cache.put(b"x")
    assert cache.get(digest_of(b"x")) == b"x"
    assert cache.get(digest_of(b"x"), 1) == b"x"
    assert cache.get(digest_of(b"x"), 2) is None


def test_the_least_recently_used_goes_first(cache):
    for number in range(10):
        cache.put(content(number))
        path = os.path.join(cache.directory, digest_of(content(number)).replace(":", "-"))
        os.utime(path, (number, number))
    assert cache.get(digest_of(content(0)))  # which makes it the last
    cache.put(content(10, 3 * KIB))
    there = [number for number in range(10) if cache.get(digest_of(content(number)))]
    assert there == [0, 4, 5, 6, 7, 8, 9]
    assert cache.get(digest_of(content(10, 3 * KIB)))
    assert sum(sizes(cache)) <= cache.bound


def test_what_is_larger_than_the_bound_is_not_stored_and_removes_nothing(cache):
    cache.put(b"x")
    cache.put(content(1, 11 * KIB))
    assert cache.get(digest_of(b"x")) == b"x"
    assert cache.get(digest_of(content(1, 11 * KIB))) is None


def test_what_was_changed_on_disk_is_not_returned_and_is_replaced(cache):
    digest = digest_of(b"right")
    cache.put(b"right")
    path = os.path.join(cache.directory, digest.replace(":", "-"))
    with open(path, "wb") as file:
        file.write(b"wrong")
    assert cache.get(digest) is None
    cache.put(b"right")
    assert cache.get(digest) == b"right"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_a_directory_or_a_link_in_its_place_is_not_read(cache, make):
    cache.put(b"other")
    make(os.path.join(cache.directory, digest_of(b"x").replace(":", "-")))
    assert cache.get(digest_of(b"x")) is None
    cache.put(b"x")
    assert cache.get(digest_of(b"other")) == b"other"


def test_what_a_killed_process_left_is_removed(cache):
    cache.put(b"x")
    with open(os.path.join(cache.directory, "unfinished"), "w") as file:
        file.write("half")
    cache.put(b"y")
    assert sorted(os.listdir(cache.directory)) == sorted(
        ["lock", *(digest_of(data).replace(":", "-") for data in (b"x", b"y"))]
    )


def test_without_a_place_to_write_it_is_empty(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(str(tmp_path / "file/cache"))
    cache.put(b"x")
    assert cache.get(digest_of(b"x")) is None


def test_signatures_are_kept_beside_what_they_sign(cache):
    digest = digest_of(b"x")
    assert cache.signatures(digest) == []
    cache.put_signatures(digest, [Signature(b"\xff", b"\x00")])
    assert cache.signatures(digest) == [Signature(b"\xff", b"\x00")]


WRITER = """
import sys
from eunomia.oci.cache import Cache
from eunomia.oci.reference import digest_of
cache, first = Cache(sys.argv[1], 20000), int(sys.argv[2])
for number in range(first, first + 300):
    data = bytes([number % 256, number // 256]) * 500
    cache.put(data)
    found = cache.get(digest_of(data))
    assert found in (None, data)
    for other in range(0, 600, 7):
        data = bytes([other % 256, other // 256]) * 500
        assert cache.get(digest_of(data)) in (None, data)
"""


def test_processes_that_write_at_the_same_time_keep_it_whole_and_bounded(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "cache"), str(first)]) for first in (0, 100, 200)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    cache = Cache(str(tmp_path / "cache"), 20000)
    assert 19000 <= sum(sizes(cache)) <= 20000
    for name in os.listdir(cache.directory):
        if name != "lock":
            assert cache.get(name.replace("-", ":")) is not None, name


def test_who_writes_waits_for_the_one_that_is_writing(tmp_path):
    cache = Cache(str(tmp_path / "cache"))
    cache.put(b"x")
    script = "import sys; from eunomia.oci.cache import Cache; Cache(sys.argv[1]).put(b'y')"
    with open(os.path.join(cache.directory, "lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer = subprocess.Popen([sys.executable, "-c", script, cache.directory])
        waits = re.compile(rf"-> FLOCK .*:{os.fstat(lock.fileno()).st_ino} ")
        while writer.poll() is None and not waits.search(Path("/proc/locks").read_text()):
            time.sleep(0.01)
        assert writer.poll() is None, "it did not wait"
        assert cache.get(digest_of(b"y")) is None
    assert writer.wait() == 0
    assert cache.get(digest_of(b"y")) == b"y"


def test_without_a_home_nothing_is_kept(tmp_path, eunomia, registry, built):
    nobody = 65534
    needs.root()
    assert eunomia("push", built, f"{registry.host}/homeless:1").code == 0
    tmp_path.chmod(0o777)
    done = eunomia(
        "pull", f"{registry.host}/homeless:1", "--insecure-unsigned", nobody=True, cwd=tmp_path,
        environment={"HOME": "", "XDG_CACHE_HOME": "relative"},
    )  # fmt: skip
    assert done.code == 0, done.err
    assert os.listdir(tmp_path) == ["mine.bpf.o"]
    assert (tmp_path / "mine.bpf.o").stat().st_uid == nobody


def test_it_is_below_the_user_s_cache_or_the_system_s():
    assert place({"XDG_CACHE_HOME": "/x"}) == "/x/eunomia/oci"
    assert place({"XDG_CACHE_HOME": "not/absolute"}) == place({})
    if os.geteuid() == 0:
        assert place({}) == "/var/cache/eunomia/oci"
