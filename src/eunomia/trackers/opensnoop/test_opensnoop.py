# SPDX-License-Identifier: BSD-2-Clause
"""What opensnoop says of files that are opened, or cannot be."""

import ctypes
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.harness import Row, Seen, batch_of, schema_of, tracked
from tests.runtimes.docker import Docker

from eunomia.filters import Filters
from eunomia.kernel.hooks import functions

UNKNOWN_PROCESS = 65534
OPENAT2 = 437
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x08, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    how = struct.pack("QQQ", flags, 0, resolve)
    return _libc.syscall(OPENAT2, directory, path, how, len(how))


def opened(seen: Seen, path: str | Path) -> Row:
    """Return the one row of an open by this process of a path as asked."""
    return seen.row("open", path=str(path), pid=os.getpid())


# Bytes to rows


def test_a_record_reads_as_a_row():
    batch = batch_of(
        schema_of("opensnoop", "open"),
        {
            "pid": 7, "tid": 8, "uid": 33, "comm": b"nginx", "path": b"../x", "resolved": b"/srv/a/../x",
            "flags": os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, "errno": 13, "latency_ns": 1500, "fd": -1,
        },
    )  # fmt: skip
    row = next(iter(batch.rows()))
    assert (row.pid, row.tid, row.uid, row.comm) == (7, 8, 33, "nginx")
    assert (row.path, row.resolved) == ("../x", "/srv/x")
    assert row.flags == "O_WRONLY|O_CLOEXEC|O_CREAT"
    assert (row.errno, row.latency_ns, row.fd) == ("EACCES", 1500, -1)


def test_success_has_no_error():
    assert list(batch_of(schema_of("opensnoop", "open"), {"errno": 0}).values("errno")) == [""]


def test_the_fields_of_the_contract_are_there():
    fields = set(schema_of("opensnoop", "open").fields)
    assert fields >= {"pid", "tid", "uid", "comm", "path", "resolved", "flags", "errno", "latency_ns"}


# Opens that succeed


def test_every_way_to_open_is_seen(tmp_path: Path):
    name = str(tmp_path / "file").encode()
    flags = os.O_RDWR | os.O_CREAT
    with tracked("opensnoop") as seen:
        os.close(os.open(name + b"1", flags, 0o600))
        os.close(openat2(-100, name + b"1", os.O_RDONLY, 0))
        if os.uname().machine == "x86_64":
            os.close(_libc.syscall(2, name + b"2", flags, 0o600))
            os.close(_libc.syscall(85, name + b"3", 0o600))
    rows = [r for r in seen.rows(pid=os.getpid()) if r["path"].startswith(str(tmp_path))]
    assert all(r["resolved"] == r["path"] and r["errno"] == "" and r["fd"] >= 0 for r in rows)
    assert all(r["tid"] == os.getpid() and r["uid"] == os.getuid() for r in rows)
    assert all(0 < r["latency_ns"] < 1e9 for r in rows)
    names = [(r["path"][-1], r["flags"]) for r in rows]
    expected = [("1", "O_RDWR|O_CLOEXEC|O_CREAT"), ("1", "O_RDONLY")]
    if os.uname().machine == "x86_64":
        expected += [("2", "O_RDWR|O_CREAT"), ("3", "O_WRONLY|O_CREAT|O_TRUNC")]
    assert names == expected
    account = seen.ledger("open")
    assert account.balanced
    assert account.lost == 0


def test_relative_paths_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "link").symlink_to("a/file")
    monkeypatch.chdir(tmp_path / "a/b")
    directory = os.open(tmp_path / "a", os.O_PATH)
    with tracked("opensnoop") as seen:
        os.close(os.open("../file", os.O_RDONLY))
        os.close(os.open("file", os.O_RDONLY, dir_fd=directory))
        os.close(os.open("./../..//link", os.O_RDONLY))
        os.close(os.open(".", os.O_PATH))
        os.close(os.open("/..", os.O_RDONLY | os.O_DIRECTORY))  # "/" itself the registry opens, too
    os.close(directory)
    for path in ("../file", "file", "./../..//link"):
        assert opened(seen, path)["resolved"] == str(tmp_path / "a/file")
    here = opened(seen, ".")
    assert (here["resolved"], here["flags"]) == (str(tmp_path / "a/b"), "O_RDONLY|O_CLOEXEC|O_PATH")
    assert opened(seen, "/..")["resolved"] == "/"


def test_openat2_inside_a_root_is_resolved_from_there(tmp_path: Path):
    (tmp_path / "file").touch()
    directory = os.open(tmp_path, os.O_PATH)
    with tracked("opensnoop") as seen:
        os.close(openat2(directory, b"/file", os.O_RDONLY, RESOLVE_IN_ROOT))
        assert openat2(directory, b"/missing", os.O_RDONLY, RESOLVE_IN_ROOT) == -1
        assert openat2(directory, b"/etc/passwd", os.O_RDONLY, RESOLVE_BENEATH) == -1
    os.close(directory)
    assert opened(seen, "/file")["resolved"] == str(tmp_path / "file")
    assert opened(seen, "/missing")["resolved"] == str(tmp_path / "missing")
    assert opened(seen, "/etc/passwd")["errno"] == "EXDEV"


def test_what_has_no_name_is_named_by_what_it_is(tmp_path: Path):
    reader, writer = os.pipe()
    os.mkfifo(tmp_path / "fifo")
    memory = os.memfd_create("anonymous")
    with tracked("opensnoop") as seen:
        os.close(os.open(f"/proc/self/fd/{reader}", os.O_RDONLY | os.O_NONBLOCK))
        os.close(os.open(f"/proc/self/fd/{memory}", os.O_RDONLY))
        os.close(os.open("/proc/self/ns/mnt", os.O_RDONLY))
        os.close(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    assert opened(seen, f"/proc/self/fd/{reader}")["resolved"] == os.readlink(f"/proc/self/fd/{reader}")
    assert opened(seen, f"/proc/self/fd/{memory}")["resolved"] == "memfd:anonymous"
    inode = os.stat("/proc/self/ns/mnt").st_ino
    assert opened(seen, "/proc/self/ns/mnt")["resolved"] == f"ns:[{inode}]"
    assert opened(seen, tmp_path / "fifo")["resolved"] == str(tmp_path / "fifo")
    unnamed = opened(seen, tmp_path)
    assert unnamed["resolved"].startswith(f"{tmp_path}/#")
    assert "O_TMPFILE" in unnamed["flags"]
    for fd in (reader, writer, memory):
        os.close(fd)


def test_names_are_exact_however_odd(tmp_path: Path):
    names = [b"x" * 255, b"\xff\xfe", "日本".encode(), b"new\nline", b"\x1b[31m", b" ", b"-"]
    with tracked("opensnoop") as seen:
        for name in names:
            os.close(os.open(bytes(tmp_path) + b"/" + name, os.O_CREAT))
    rows = [r for r in seen.rows(pid=os.getpid()) if r["path"].startswith(f"{tmp_path}/")]
    assert [r["path"] for r in rows] == [f"{tmp_path}/{n.decode('utf-8', 'surrogateescape')}" for n in names]
    assert [r["resolved"] for r in rows] == [r["path"] for r in rows]


def test_paths_lead_through_mounts(tmp_path: Path):
    script = """
        mount -t tmpfs none inner && mkdir inner/deep && touch inner/deep/file &&
        mount --bind inner/deep bound && cat bound/file inner/deep/file &&
        mkdir inner/upper inner/work && layers=lowerdir=inner/deep,upperdir=inner/upper,workdir=inner/work &&
        mount -t overlay none -o $layers over &&
        cat over/file"""
    for name in ("inner", "bound", "over"):
        (tmp_path / name).mkdir()
    with tracked("opensnoop") as seen:
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    for path in ("bound/file", "inner/deep/file", "over/file"):
        assert seen.row("open", path=path, comm="cat")["resolved"] == str(tmp_path / path)


def test_an_open_by_a_thread_names_the_thread(tmp_path: Path):
    (tmp_path / "file").touch()
    told: list[int] = []

    def read() -> None:
        told.append(threading.get_native_id())
        os.close(os.open(tmp_path / "file", os.O_RDONLY))

    with tracked("opensnoop") as seen:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert opened(seen, tmp_path / "file")["tid"] == told[0] != os.getpid()


def test_none_of_many_is_lost(tmp_path: Path):
    (tmp_path / "file").touch()
    with tracked(
        "opensnoop", filters=Filters(pids=(os.getpid(),), traces_itself=True)
    ) as seen:  # others on the machine may flood
        for _ in range(20_000):
            os.close(os.open(tmp_path / "file", os.O_RDONLY))
    account = seen.ledger("open")
    assert len(seen.rows(path=str(tmp_path / "file"))) + (account.lost or 0) >= 20_000
    assert account.lost == 0
    assert account.balanced


# Opens that fail


def test_the_error_is_the_one_the_caller_gets(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    paths = {
        "ENOENT": tmp_path / "missing", "ELOOP": tmp_path / "loop", "ENOTDIR": tmp_path / "file/below",
        "ENAMETOOLONG": tmp_path / ("n" * 256), "ENXIO": "/dev/ptmx/none",
    }  # fmt: skip
    paths["ENOTDIR "] = paths.pop("ENXIO")
    with tracked("opensnoop") as seen:
        for path in paths.values():
            with pytest.raises(OSError):
                os.open(path, os.O_RDONLY)
    for name, path in paths.items():
        row = opened(seen, path)
        assert (row["errno"], row["resolved"], row["fd"]) == (name.strip(), str(path), -1)


def test_a_path_longer_than_any_may_be_is_cut():
    with tracked("opensnoop") as seen, pytest.raises(OSError):
        os.open("/" + "l/" * 3000, os.O_RDONLY)
    row = seen.row("open", pid=os.getpid(), errno="ENAMETOOLONG")
    assert row["path"] == ("/" + "l/" * 3000)[:4095]


def test_a_relative_path_that_fails_is_resolved_by_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    directory = os.open(tmp_path / "a", os.O_PATH)
    with tracked("opensnoop") as seen:
        for path, fd in (("../gone", None), ("gone", directory), ("nowhere", 9999), ("", None)):
            with pytest.raises(OSError):
                os.open(path, os.O_RDONLY, dir_fd=fd)
    os.close(directory)
    assert opened(seen, "../gone")["resolved"] == str(tmp_path / "a/gone")
    assert opened(seen, "gone")["resolved"] == str(tmp_path / "a/gone")
    assert (opened(seen, "nowhere")["errno"], opened(seen, "nowhere")["resolved"]) == ("EBADF", "")
    assert (opened(seen, "")["errno"], opened(seen, "")["resolved"]) == ("ENOENT", "")


def test_a_bad_pointer_has_no_path(acts: str):
    with tracked("opensnoop") as seen:
        subprocess.run([acts, "bad-pointers"], check=False)
    row = seen.row("open", comm="acts", errno="EFAULT")
    assert (row["path"], row["resolved"]) == ("", "")


def test_what_another_user_may_not_open_says_so(tmp_path: Path):
    for directory in tmp_path.parents[:3]:
        directory.chmod(0o755)
    secret = tmp_path / "secret"
    secret.touch(0o600)
    tmp_path.chmod(0o755)
    with tracked("opensnoop") as seen:
        subprocess.run(["cat", secret], user=UNKNOWN_PROCESS, stderr=subprocess.DEVNULL, check=False)
    row = seen.row("open", path=str(secret))
    assert (row["errno"], row["uid"], row["comm"]) == ("EACCES", UNKNOWN_PROCESS, "cat")


def test_too_many_open_files_are_seen():
    script = "import os, resource as r; r.setrlimit(r.RLIMIT_NOFILE, (3, 3)); os.open('/etc/passwd', 0)"
    with tracked("opensnoop") as seen:
        child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        child.wait()
    row = seen.row("open", pid=child.pid, path="/etc/passwd")
    assert (row["errno"], row["resolved"]) == ("EMFILE", "/etc/passwd")


def opened_by(acts: str, act: str, file: Path) -> tuple[int, Seen]:
    """Make a file, have a process open it in its own way; return its pid and what was seen."""
    file.touch()
    with tracked("opensnoop") as seen:
        child = subprocess.Popen([acts, act, str(file)])
        assert child.wait() == 0
    return child.pid, seen


on_x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86_64 alone has this ABI")


@on_x86_64
def test_opens_by_the_32_bit_abi_are_seen_like_any_other(acts: str, tmp_path: Path):
    file = tmp_path / "file"
    pid, seen = opened_by(acts, "ia32-opens", file)
    rows = seen.rows(pid=pid, path=str(file))
    assert [(r["flags"], r["errno"]) for r in rows] == [
        ("O_RDONLY", ""), ("O_WRONLY|O_CREAT|O_TRUNC", ""), ("O_RDWR|O_EXCL", ""), ("O_RDONLY|O_DIRECTORY", "ENOTDIR"),
    ]  # fmt: skip
    assert {r["resolved"] for r in rows} == {str(file)}
    assert functions.works() or {r["latency_ns"] for r in rows} == {None}  # its tracepoints leave these calls out
    below = seen.row(pid=pid, path="no/such")
    assert (below["resolved"], below["errno"], below["flags"]) == ("/no/such", "ENOENT", "O_WRONLY")


@on_x86_64
def test_other_calls_of_the_32_bit_abi_are_not_taken_for_opens(acts: str):
    """Its open with a bad pointer is one; getppid, and the fork whose number is that of the native open, are none."""
    with tracked("opensnoop") as seen:
        child = subprocess.Popen([acts, "ia32", "100"])
        assert child.wait() == 0
    rows = [r for r in seen.rows(pid=child.pid) if not r["path"].startswith(("/etc/ld.so", "/lib/"))]
    assert [(r["path"], r["errno"]) for r in rows] == [("", "EFAULT")] * 100


@on_x86_64
def test_opens_by_x32_are_seen_also_where_the_kernel_refuses_them(acts: str, tmp_path: Path):
    file = tmp_path / "file"
    pid, seen = opened_by(acts, "x32-opens", file)
    rows = seen.rows(pid=pid, path=str(file))
    if functions.works() and not rows:
        pytest.skip("not supported by this kernel: the x32 ABI")
    assert [r["flags"] for r in rows] == ["O_RDONLY|O_NOFOLLOW", "O_WRONLY"]
    assert {r["errno"] for r in rows} <= {"", "ENOSYS"}
    assert {r["resolved"] for r in rows} == {str(file)}


def test_opens_by_io_uring_are_seen_like_any_other(acts: str, tmp_path: Path):
    """Also by a thread of the kernel's, inside a directory that serves as the root, and without a descriptor."""
    file = tmp_path / "file"
    file.touch()
    with tracked("opensnoop") as seen:
        source = seen.source
        child = subprocess.Popen([acts, "ring-opens", str(file)], stderr=subprocess.PIPE)
        assert child.stderr is not None
        said = child.stderr.read()
    if child.wait() == 99 and b"io_uring_setup" in said:
        pytest.skip(f"not supported by this kernel: io_uring ({said.decode().strip()})")
    if source.variant != "io_uring":
        pytest.skip("not supported by this kernel: the tracepoint io_uring_submit_req")
    assert child.returncode == 0
    rows = seen.rows(pid=child.pid, path=str(file))
    assert [(r["flags"], r["errno"], r["fd"] >= 0) for r in rows] == [
        ("O_RDONLY", "", True), ("O_WRONLY|O_APPEND", "", True), ("O_RDONLY|O_NOFOLLOW", "", False),
        ("O_RDWR", "", True),
    ]  # fmt: skip
    assert {r["resolved"] for r in rows} == {str(file)}
    missing = seen.row(pid=child.pid, path="/no/such")
    assert (missing["resolved"], missing["errno"], missing["fd"]) == ("/no/such", "ENOENT", -1)
    assert all(0 < r["latency_ns"] < 1e9 for r in [*rows, missing])


def test_an_open_that_seccomp_refuses_is_seen_and_took_no_time(acts: str):
    with tracked("opensnoop") as seen:
        child = subprocess.Popen([acts, "refused-opens", "/etc/passwd"])
        assert child.wait() == 0
    rows = seen.rows(pid=child.pid, path="/etc/passwd")
    if functions.works():
        assert [r["errno"] for r in rows] == [""]  # handlers hang on the function, which is not called
        return
    assert [(r["errno"], r["latency_ns"]) for r in rows[1:]] == [("EPERM", None)] * 3
    assert rows[0]["latency_ns"] > 0


# Containers


def test_a_container_has_its_identity_and_its_own_view_of_paths(docker: Docker):
    script = "cd /tmp; echo x > made; cat ../tmp/made; cat /nonexistent; sleep 0.05"
    with tracked("opensnoop") as seen:
        docker.run("run", "--name", "opener", docker.image, "sh", "-c", script, check=False)
        container = docker.run("inspect", "-f", "{{.Id}}", "opener").stdout.strip()
        docker.run("rm", "opener")
    ours = {"container.id": container}
    made = seen.row("open", path="made", **ours)
    read = seen.row("open", path="../tmp/made", **ours)
    missing = seen.row("open", path="/nonexistent", errno="ENOENT", **ours)
    assert (made["resolved"], read["resolved"], missing["resolved"]) == ("/tmp/made", "/tmp/made", "/nonexistent")
    assert "O_CREAT" in made["flags"]
    for row in (made, read, missing):
        assert row["identity"] == "resolved"
        assert (row["container.name"], row["container.image"]) == ("opener", docker.image)


def test_a_container_that_ran_before_is_known_and_the_host_is_the_host(docker: Docker, tmp_path: Path):
    container = docker.run("run", "-d", "--name", "before", docker.image, "sleep", "1000").stdout.strip()
    (tmp_path / "here").touch()
    try:
        with tracked("opensnoop") as seen:
            docker.run("exec", "before", "cat", "/www/index.html")
            (tmp_path / "here").read_bytes()
    finally:
        docker.run("rm", "-f", "before")
    inside = seen.row("open", path="/www/index.html", **{"container.id": container})
    assert (inside["identity"], inside["container.name"]) == ("resolved", "before")
    assert opened(seen, tmp_path / "here")["identity"] == "host"
