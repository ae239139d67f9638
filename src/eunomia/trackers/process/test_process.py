# SPDX-License-Identifier: BSD-2-Clause
"""What the process tracker says of processes that start, fork and end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import Row, batch_of, schema_of, tracked
from tests.runtimes.docker import Docker

UNKNOWN_PROCESS = 65534


def run(*words: str | bytes, **options) -> subprocess.CompletedProcess:
    return subprocess.run(words, capture_output=True, check=False, timeout=30, **options)


# Bytes to rows


def test_a_record_of_an_exec_reads_as_a_row():
    schema = schema_of("process", "exec")
    batch = batch_of(
        schema,
        {
            "pid": 7, "tid": 8, "ppid": 6, "uid": 1000, "comm": b"cat", "exe": b"/usr/bin/../bin/cat",
            "argv": b"cat\0\0a\xffb\n\0", "argv_cut": 1, "cwd": b"/", "errno": 2, "mnt_ns": 4026531841,
        },
    )  # fmt: skip
    row = next(iter(batch.rows()))
    assert (row.pid, row.tid, row.ppid, row.uid, row.comm) == (7, 8, 6, 1000, "cat")
    assert row.exe == "/usr/bin/cat"
    assert row.argv == ["cat", "", "a\udcffb\n"]
    assert row.argv_cut is True
    assert (row.cwd, row.errno, row.mnt_ns) == ("/", "ENOENT", 4026531841)


def test_a_record_of_an_exit_reads_as_a_row():
    batch = batch_of(schema_of("process", "exit"), {"exit_code": 3}, {"signal": 9, "duration_ns": 5 * 10**9})
    assert list(batch.values("exit_code")) == [3, 0]
    assert list(batch.values("signal")) == ["", "SIGKILL"]
    assert list(batch.values("duration_ns")) == [0, 5 * 10**9]


def test_the_fields_of_the_contract_are_there():
    common = {"pid", "tid", "ppid", "uid", "comm", "mnt_ns", "pid_ns", "net_ns"}
    assert set(schema_of("process", "exec").fields) >= common | {"exe", "argv", "argv_cut", "cwd", "errno"}
    assert set(schema_of("process", "fork").fields) >= common | {"child_pid"}
    assert set(schema_of("process", "exit").fields) >= common | {"exit_code", "signal", "duration_ns"}


def test_a_program_and_a_working_directory_outside_of_the_root_are_unreachable(tmp_path: Path):
    (tmp_path / "jail").mkdir()
    script = """
import os
true = os.open("/bin/true", os.O_PATH)
os.chroot("jail")
os.execve(true, ["outside"], {})
"""
    with tracked("process") as seen:
        child = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stderr=subprocess.DEVNULL)
        child.wait()
    row = [r for r in seen.rows("exec", pid=child.pid) if r["argv"] == ["outside"]][-1]
    assert row["cwd"] == f"(unreachable){tmp_path}"
    assert row["exe"] == f"(unreachable){os.path.realpath('/bin/true')}"


# A life


def test_a_life_is_a_fork_an_exec_and_an_exit(tmp_path: Path):
    with tracked("process") as seen:
        child = subprocess.Popen(["sleep", "0.05"], cwd=tmp_path)
        assert child.wait() == 0
    fork = seen.row("fork", child_pid=child.pid)
    execution = seen.row("exec", pid=child.pid, errno="")
    end = seen.row("exit", pid=child.pid)
    assert fork["pid"] == os.getpid()
    assert fork["ppid"] == os.getppid()
    assert execution["argv"] == ["sleep", "0.05"]
    assert execution["exe"] == os.path.realpath("/bin/sleep")
    assert execution["cwd"] == str(tmp_path)
    assert (execution["comm"], execution["ppid"], execution["uid"]) == ("sleep", os.getpid(), os.getuid())
    assert execution["tid"] == child.pid
    assert 50e6 < end["duration_ns"] < 5e9
    assert (end["exit_code"], end["signal"], end["comm"]) == (0, "", "sleep")
    assert [r["identity"] for r in (fork, execution, end)] == ["host"] * 3
    assert fork["time"] < execution["time"] < end["time"]
    assert fork["child_exec_id"] == execution["exec_id"] == end["exec_id"]
    assert fork["exec_id"] == execution["parent_exec_id"] == end["parent_exec_id"]
    node, start, pid = end["exec_id"].rsplit(":", 2)
    assert (node, int(pid)) == (os.uname().nodename, child.pid)
    assert 0 < time.monotonic_ns() - int(start) < 60e9
    for stream in ("exec", "fork", "exit"):
        account = seen.ledger(stream)
        assert account.balanced
        assert account.lost == 0


def test_threads_and_who_they_start_have_the_process_s_exec_id():
    with tracked("process") as seen:
        thread = threading.Thread(target=run, args=("true",))
        thread.start()
        thread.join()
        run("true")
    first, second = seen.rows("exec", comm="true", ppid=os.getpid())
    assert first["parent_exec_id"] == second["parent_exec_id"]
    assert {r["exec_id"] for r in seen.rows("fork", pid=os.getpid())} == {first["parent_exec_id"]}


def test_namespaces_are_those_of_proc():
    with tracked("process") as seen:
        run("true")
    row = seen.row("exec", comm="true", ppid=os.getpid())
    for field, link in (("mnt_ns", "mnt"), ("pid_ns", "pid"), ("net_ns", "net"), ("user_ns", "user"),
                        ("uts_ns", "uts"), ("ipc_ns", "ipc"), ("cgroup_ns", "cgroup")):  # fmt: skip
        assert os.readlink(f"/proc/self/ns/{link}") == f"{link}:[{row[field]}]"


def test_every_exit_code_is_told():
    script = 'for i in $(seq 0 255); do sh -c "exit $i" & done; wait'
    with tracked("process") as seen:
        shell = subprocess.Popen(["sh", "-c", script])
        shell.wait()
    assert sorted(r["exit_code"] for r in seen.rows("exit", comm="sh", ppid=shell.pid)) == list(range(256))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGRTMIN + 3])
def test_a_signal_that_kills_is_told(number: int):
    with tracked("process") as seen:
        child = subprocess.Popen(["sleep", "100"])
        seen.until(lambda s: s.rows("exec", pid=child.pid))
        child.send_signal(number)
        child.wait()
    end = seen.row("exit", pid=child.pid)
    expected = "SIGRTMIN+3" if number == signal.SIGRTMIN + 3 else signal.Signals(number).name
    assert (end["signal"], end["exit_code"]) == (expected, 0)


# Threads


def test_threads_are_neither_forks_nor_exits():
    with tracked("process") as seen:
        for _ in range(5):
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
    assert not seen.rows("fork", pid=os.getpid())
    assert not seen.rows("exit", pid=os.getpid())


def test_an_exec_by_a_thread_is_its_process_exec(acts: str):
    with tracked("process") as seen:
        child = subprocess.Popen([acts, "exec-from-thread", "/bin/true", "x"])
        child.wait()
    row = seen.row("exec", pid=child.pid, argv=["/bin/true", "x"])
    assert row["tid"] == child.pid, "the thread has become the leader"
    assert seen.row("exit", pid=child.pid)["exit_code"] == 0


def test_an_exec_by_a_thread_that_fails_names_the_thread(acts: str):
    with tracked("process") as seen:
        child = subprocess.Popen([acts, "exec-from-thread", "/nonexistent"])
        child.wait()
    row = seen.row("exec", pid=child.pid, errno="ENOENT")
    assert row["tid"] != child.pid


@pytest.mark.parametrize("word", ["exit-group-from-thread", "leader-ends-first"])
def test_the_exit_code_of_threads_is_what_wait_says(word: str, acts: str):
    with tracked("process") as seen:
        child = subprocess.Popen([acts, word])
        code = child.wait()
    # of threads that end one by one, kernels before 6.0 report the leader's, later ones the last one's
    assert code in {"exit-group-from-thread": {7}, "leader-ends-first": {3, 5}}[word]
    assert seen.row("exit", pid=child.pid)["exit_code"] == code


def test_threads_that_end_together_are_one_exit(acts: str):
    with tracked("process") as seen:
        children = [subprocess.Popen([acts, "threads-end-together"]) for _ in range(60)]
        for child in children:
            child.wait()
    for child in children:
        assert seen.row("exit", pid=child.pid)["exit_code"] == 0


# Ways to start


@pytest.mark.parametrize("word", ["vfork", "posix-spawn"])
def test_children_by_vfork_and_posix_spawn_are_seen(word: str, acts: str):
    with tracked("process") as seen:
        parent = subprocess.Popen([acts, word, "/bin/true", "x"])
        parent.wait()
    fork = seen.row("fork", pid=parent.pid)
    row = seen.row("exec", pid=fork["child_pid"])
    assert (row["ppid"], row["argv"]) == (parent.pid, ["/bin/true", "x"])
    assert seen.row("exit", pid=fork["child_pid"])["ppid"] == parent.pid


def test_a_program_that_has_no_file_names_its_memory(acts: str):
    with tracked("process") as seen:
        child = subprocess.Popen([acts, "memfd", "/bin/true", "x"])
        child.wait()
    row = seen.row("exec", pid=child.pid, argv=["/bin/true", "x"])
    assert row["exe"] == "memfd:nowhere"


def test_a_script_names_its_interpreter_and_itself(tmp_path: Path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\ntrue\n")
    script.chmod(0o755)
    with tracked("process") as seen:
        child = subprocess.Popen([str(script), "x"])
        child.wait()
    row = seen.row("exec", pid=child.pid)
    assert row["exe"] == os.path.realpath("/bin/sh")
    assert row["argv"] == ["/bin/sh", "-e", str(script), "x"]
    assert row["comm"] == "script"


def test_a_program_of_another_user_has_the_user_who_runs_it(tmp_path: Path):
    program = tmp_path / "true"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o4755)
    for directory in tmp_path.parents[:3]:
        directory.chmod(0o755)
    tmp_path.chmod(0o755)
    with tracked("process") as seen:
        assert run(program, user=UNKNOWN_PROCESS).returncode == 0
    assert seen.row("exec", exe=str(program))["uid"] == UNKNOWN_PROCESS


def test_a_working_directory_that_is_gone_has_still_its_name_and_says_that_it_is_gone(tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    with tracked("process") as seen:
        run("sh", "-c", "rmdir $PWD && exec /bin/true 'gone by now'", cwd=gone)
    assert seen.row("exec", argv=["/bin/true", "gone by now"])["cwd"] == f"{gone} (deleted)"


def test_paths_are_those_inside_a_chroot(tmp_path: Path):
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("needs busybox: apt install busybox-static")
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "bin/busybox").write_bytes(busybox.read_bytes())
    (tmp_path / "bin/busybox").chmod(0o755)
    with tracked("process") as seen:
        done = run("chroot", tmp_path, "/bin/busybox", "sh", "-c", "cd /home; exec /bin/busybox true inside")
    assert done.returncode == 0, done.stderr
    row = seen.row("exec", argv=["/bin/busybox", "true", "inside"])
    assert (row["exe"], row["cwd"]) == ("/bin/busybox", "/home")


def deep(root: Path, name: str, count: int) -> Iterator[int]:
    """Make directories one below the other, longer than any path may be; yield the descriptor of the last."""
    fd = os.open(root, os.O_DIRECTORY)
    for _ in range(count):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    yield fd
    os.close(fd)
    subprocess.run(["rm", "-rf", root / name], check=True)


def test_a_directory_of_many_short_names_is_whole(tmp_path: Path):
    count = (4000 - len(str(tmp_path))) // 2
    for fd in deep(tmp_path, "d", count):
        with tracked("process") as seen:
            run("/bin/true", "deep", preexec_fn=lambda fd=fd: os.fchdir(fd))
    row = seen.row("exec", argv=["/bin/true", "deep"])
    assert row["cwd"] == str(tmp_path) + "/d" * count
    assert (row["exe"], row["errno"]) == (os.path.realpath("/bin/true"), ""), "it has room of its own"


def test_a_directory_deeper_than_any_path_shows_its_end_and_says_so(tmp_path: Path):
    name = "n" * 255
    for fd in deep(tmp_path, name, 30):
        with tracked("process") as seen:
            run("/bin/true", "deepest", preexec_fn=lambda fd=fd: os.fchdir(fd))
    row = seen.row("exec", argv=["/bin/true", "deepest"])
    assert row["cwd"].startswith(f".../{name}/")
    assert len(row["cwd"]) >= 4096
    assert (row["exe"], row["errno"]) == (os.path.realpath("/bin/true"), "")


# Arguments


@pytest.mark.parametrize(
    "arguments",
    [
        [""], ["", "", ""], ["x"], ["\x1b[31m\n\t"], ["ü", "日本"], ["a" * 4000], ["b"] * 2000, ["c" * 255] * 30,
    ],
    ids=["an empty one", "empty ones", "a byte", "control", "utf-8", "a long one", "many", "8 KiB"],
)  # fmt: skip
def test_arguments_are_whole(arguments: list[str]):
    with tracked("process") as seen:
        run("true", *arguments)
    row = seen.row("exec", comm="true", ppid=os.getpid())
    assert row["argv"] == ["true", *arguments]
    assert row["argv_cut"] is False


def test_arguments_that_are_no_text_are_escaped():
    with tracked("process") as seen:
        run(b"true", b"\xff\xfe")
    assert seen.row("exec", comm="true", ppid=os.getpid())["argv"] == ["true", "\udcff\udcfe"]


@pytest.mark.parametrize("arguments", [["x" * 100_000], ["y" * 100] * 1000])
def test_arguments_beyond_8_kib_are_cut_and_it_is_said(arguments: list[str]):
    with tracked("process") as seen:
        run("true", *arguments)
    row = seen.row("exec", comm="true", ppid=os.getpid())
    assert row["argv_cut"] is True
    joined = "\0".join(["true", *arguments])
    assert "\0".join(row["argv"]) == joined[: 8192 - 1] or "\0".join(row["argv"]) == joined[:8192]


def test_a_program_without_arguments_is_seen(acts: str):
    with tracked("process") as seen:
        child = subprocess.Popen([acts, "no-argv", "/bin/true"])
        child.wait()
    assert seen.rows("exec", pid=child.pid, exe=os.path.realpath("/bin/true"))[0]["argv"] in ([], [""])


# Execs that fail


def failed(program: str, *arguments: str, **options) -> Row:
    with tracked("process") as seen:
        with pytest.raises(OSError) as error:
            subprocess.run([program, *arguments], check=False, **options)
        number = error.value.errno
    row = next(r for r in seen.rows("exec", exe=program) if r["errno"])
    assert row["errno"] == os.strerror(number) or getattr(__import__("errno"), row["errno"]) == number
    return row


def test_an_exec_of_nothing_says_enoent():
    with tracked("process") as seen, pytest.raises(FileNotFoundError):
        subprocess.run(["/nonexistent/program", "a", "b"], cwd="/usr", check=False)
    row = seen.row("exec", exe="/nonexistent/program")
    assert row["errno"] == "ENOENT"
    assert row["argv"] == ["/nonexistent/program", "a", "b"]
    assert (row["cwd"], row["argv_cut"]) == ("/usr", False)


def test_the_error_of_an_exec_is_the_one_its_caller_gets(tmp_path: Path):
    text = tmp_path / "text"
    text.write_bytes(b"\0no program")
    assert failed(str(text))["errno"] == "EACCES"
    text.chmod(0o755)
    assert failed(str(text))["errno"] == "ENOEXEC"
    assert failed(str(tmp_path))["errno"] == "EACCES"
    assert failed(str(text / "below"))["errno"] == "ENOTDIR"
    row = failed("/bin/true", "z" * 200_000)
    assert (row["errno"], row["argv_cut"]) == ("E2BIG", True)


@pytest.mark.parametrize("arguments", [["a"] * 1900, ["b" * 4000], ["c" * 1000] * 4, [""] * 3000])
def test_arguments_of_an_exec_that_failed_are_whole_up_to_4_kib(arguments: list[str]):
    row = failed("/nonexistent/p", *arguments)
    assert row["argv"] == ["/nonexistent/p", *arguments]
    assert row["argv_cut"] is False


def test_arguments_of_an_exec_that_failed_are_cut_where_there_are_too_many():
    row = failed("/nonexistent/p", *["a"] * 20_000)
    assert row["argv_cut"] is True
    assert row["argv"] == ["/nonexistent/p", *["a"] * (len(row["argv"]) - 1)]
    assert sum(len(a) + 1 for a in row["argv"]) >= 4096


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86_64 alone has this ABI")
def test_an_exec_by_the_32_bit_abi_that_fails_has_its_arguments(acts: str):
    with tracked("process") as seen:
        child = subprocess.Popen([acts, "ia32-exec", "/no/such"])
        assert child.wait() == 0
    row = seen.row("exec", pid=child.pid, errno="ENOENT")
    assert (row["exe"], list(row["argv"])) == ("/no/such", ["one", "two"])


def test_an_exec_by_descriptor_that_fails_names_its_file(acts: str, tmp_path: Path):
    text = tmp_path / "text"
    text.write_text("no program")
    with tracked("process") as seen:
        run(acts, "fexecve", text)
        run(acts, "execveat", tmp_path, "missing", "a", "b")
        run(acts, "bad-pointers")
    assert seen.row("exec", exe=str(text))["errno"] == "EACCES"
    row = seen.row("exec", exe="missing")
    assert (row["errno"], row["argv"]) == ("ENOENT", ["a", "b"])
    assert seen.row("exec", errno="EFAULT")["exe"] == ""


# Containers


def test_a_container_that_lives_50_ms_has_its_identity_on_every_row(docker: Docker):
    with tracked("process") as seen:
        docker.run("run", "--name", "brief", docker.image, "sh", "-c", "/bin/sleep 0.05; exit 3", check=False)
        container = docker.run("inspect", "-f", "{{.Id}}", "brief").stdout.strip()
        docker.run("rm", "brief")
    ours = {"container.id": container}
    shell = seen.row("exec", argv=["sh", "-c", "/bin/sleep 0.05; exit 3"], **ours)
    sleep = seen.row("exec", argv=["/bin/sleep", "0.05"], **ours)
    fork = seen.row("fork", child_pid=sleep["pid"])
    end = seen.row("exit", pid=shell["pid"])
    for row in (shell, sleep, fork, end):
        assert row["identity"] == "resolved"
        assert (row["container.id"], row["container.name"]) == (container, "brief"), row
        assert (row["container.image"], row["container.runtime"]) == (docker.image, "docker")
    assert end["exit_code"] == 3
    assert sleep["ppid"] == shell["pid"]
    assert sleep["exe"] == "/bin/busybox", "as the container sees it"
    assert sleep["pid_ns"] != int(os.readlink("/proc/self/ns/pid")[5:-1])


def test_a_container_that_ran_before_is_known(docker: Docker):
    container = docker.run("run", "-d", "--name", "early", docker.image, "sleep", "1000").stdout.strip()
    try:
        with tracked("process") as seen:
            docker.run("exec", "early", "/bin/true", "in early")
            run("/bin/true", "on the host")
    finally:
        docker.run("rm", "-f", "early")
    inside = seen.row("exec", argv=["/bin/true", "in early"], **{"container.id": container})
    assert (inside["identity"], inside["container.name"]) == ("resolved", "early")
    assert seen.row("exec", argv=["/bin/true", "on the host"], ppid=os.getpid())["identity"] == "host"
