# SPDX-License-Identifier: BSD-2-Clause
"""Users' names in containers, with hostile or missing files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eunomia.process_identity import Process, ProcessRoot
from eunomia.processes.users import ALL_ENTRIES, CHECK_PAUSE, ENTRIES, FILE_LIMIT, Users, inside, parse, spans_of
from tests import needs

HOST = 0xEFFFFFFD


def namespace(pid: int, kind: str) -> int:
    return int(os.readlink(f"/proc/{pid}/ns/{kind}").rpartition("[")[2].rstrip("]"))


def of(pid: int, uid: int = 0, root: int = 1, since: int = 1) -> Process:
    process = Process(pid, 1, since)
    process.uid = uid
    process.location = ProcessRoot(root, namespace(pid, "mnt"), namespace(pid, "user"))
    return process


@contextmanager
def inside_of(root: Path) -> Iterator[int]:
    """Yield the pid of a process whose root is a directory."""
    needs.root()
    script = "import os, sys, time; os.chroot(sys.argv[1]); os.write(1, b'x'); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script, str(root)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.read(1) == b"x"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_lines_that_are_none_are_left_out_and_the_first_of_an_id_counts():
    data = (
        b"root:x:0:0:root:/root:/bin/sh\n\n:x:1:1::/:\nno fields\ntoo:few\nx:y:notanumber:\nx:y:-1:\nx:y:+5:\n"
        b"x:y:99999999999:\nx:y:4294967296:\nx:y:\xb2:\ntoor:x:0:0\nlast:x:4294967295"
    )
    assert parse(data) == {0: "root", 4294967295: "last"}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 4096, b":" * FILE_LIMIT, b"\n" * FILE_LIMIT, os.urandom(65536), b"a" * FILE_LIMIT,
        b"a" * 1000 + b":x:7:", b"x:" * 1000,
    ],
)  # fmt: skip
def test_whatever_a_file_holds_it_is_read_to_its_end(data):
    began = time.monotonic()
    assert 7 not in parse(data)
    assert time.monotonic() - began < 2 * needs.PATIENCE


def test_names_that_are_no_text_are_kept_as_what_sinks_escape():
    assert parse(b"\x1b[2J\xff:x:5:")[5] == "\x1b[2J\udcff"


def test_so_many_users_are_kept_and_no_more():
    assert len(parse(b"".join(b"u%d:x:%d:\n" % (n, n) for n in range(2 * ENTRIES)))) == ENTRIES


def test_the_host_s_users_have_the_names_of_its_file():
    needs.root()
    names = {int(line.split(":")[2]): line.split(":")[0] for line in reversed(Path("/etc/passwd").read_text().splitlines())}
    users = Users()
    for uid in (0, 1, 65534):
        assert users.name(of(os.getpid(), uid)) == names[uid]
    assert users.name(of(os.getpid(), 424242)) == ""


def test_a_root_of_its_own_has_names_of_its_own(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"boss:x:0:\n")
    users = Users()
    with inside_of(tmp_path) as pid:
        process = of(pid, root=2)
        users.learn(process)
        assert users.name(of(os.getpid())) == "root"
    assert users.name(process) == "boss", "what was read before it ended"


def test_a_file_that_changes_is_read_again_but_not_for_each_process(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"old:x:0:\n")
    users = Users()
    with inside_of(tmp_path) as pid:
        assert users.name(of(pid)) == "old"
        (tmp_path / "etc/passwd").write_bytes(b"newer:x:0:\n")
        assert users.name(of(pid, since=CHECK_PAUSE)) == "old"
        assert users.name(of(pid, since=CHECK_PAUSE + 2)) == "newer"


@pytest.mark.parametrize("kind", ["none", "fifo", "directory", "link out", "loop", "large", "device"])
def test_an_invalid_file_has_no_names(tmp_path: Path, kind: str):
    root, etc = tmp_path / "root", tmp_path / "root/etc"
    etc.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret:x:0:\n")
    passwd = etc / "passwd"
    with inside_of(root) as pid:
        match kind:
            case "fifo":
                os.mkfifo(passwd)
            case "directory":
                passwd.mkdir()
            case "link out":
                passwd.symlink_to("../../secret")
            case "loop":
                passwd.symlink_to("passwd")
            case "large":
                passwd.write_bytes(b"root:x:0:\n" + b"#" * FILE_LIMIT)
            case "device":
                os.mknod(passwd, 0o20644, os.makedev(1, 5))
        began = time.monotonic()
        assert Users().name(of(pid)) == ""
        assert time.monotonic() - began < 1 * needs.PATIENCE


def test_an_absolute_link_stays_inside(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "real").write_bytes(b"inner:x:0:\n")
    (tmp_path / "etc/passwd").symlink_to("/real")
    with inside_of(tmp_path) as pid:
        assert Users().name(of(pid)) == "inner"


def test_an_ended_process_is_not_remembered_as_nameless(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"boss:x:0:\n")
    users = Users()
    with inside_of(tmp_path) as pid:
        late = of(pid)
        late.pid = 2**22 + 5  # of no process
        assert users.name(late) == ""
        assert users.name(of(pid)) == "boss"


def test_ids_are_those_inside_a_user_namespace():
    spans = spans_of(b"         0       1000          1\n         1     100000      65536\nbroken\n1 2 x\n")
    assert spans == ((0, 1000, 1), (1, 100000, 65536))
    assert [inside(uid, spans) for uid in (1000, 100000, 165535, 165536, 0)] == [0, 1, 65536, None, None]
    assert inside(0, None) is None


def test_root_of_a_user_namespace_is_root_whatever_the_host_calls_it():
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    script = "import os, time; os.write(1, b'x'); time.sleep(60)"
    child = subprocess.Popen([unshare, "-U", sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert child.stdout.read(1) == b"x"
        users = Users()
        assert users.name(of(child.pid, 70000)) == "", "it has no map yet"
        Path(f"/proc/{child.pid}/uid_map").write_text("0 70000 10")
        assert users.name(of(child.pid, 70000)) == "root"
        assert users.name(of(child.pid, 70001)) == "daemon"
        assert users.name(of(child.pid, 0)) == "", "it has no id there"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_memory_for_names_is_bounded(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"".join(b"u%d:x:%d:\n" % (n, n) for n in range(ENTRIES)))
    users = Users()
    with inside_of(tmp_path) as pid:
        for root in range(1, 2 * ALL_ENTRIES // ENTRIES):
            users.learn(of(pid, root=root))
    assert sum(len(file.names) for file in users._files.values()) <= ALL_ENTRIES
