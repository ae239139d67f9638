# SPDX-License-Identifier: BSD-2-Clause
"""Real processes, and the process columns of rows."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eunomia.columns.joined import members
from eunomia.engine import joins
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.spec import Spec
from eunomia.processes import OBJECT
from eunomia.processes.process_table import GRACE, ProcessTable
from eunomia.processes.running_processes import batch_of
from eunomia.source import Options
from tests import needs
from tests.harness import Seen, tracked
from tests.runtimes.docker import Docker

COLUMNS = tuple(column.name for column in members("process"))
LIFE = "import os, sys\nfor _ in range(int(sys.argv[1])):\n  p = os.fork()\n  p or os._exit(0)\n  os.waitpid(p, 0)"


def process(row) -> dict:
    return {name.partition(".")[2]: row[name] for name in COLUMNS}


def until(happened: Callable[[], object], within: float = 10) -> None:
    deadline = time.monotonic() + within * needs.PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)


@contextmanager
def echo(*words: str) -> Iterator[subprocess.Popen]:
    """A process that has answered, so that its exec is over, and waits."""
    child = subprocess.Popen(["cat", "-", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdin.write(b"there\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"there\n"
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def family() -> tuple[Seen, subprocess.Popen]:
    """A shell that starts another, which starts `true`; and what was seen of it."""
    script = "sh -c '/bin/true in; :'; :"
    with tracked("process", added=COLUMNS) as seen:
        shell = subprocess.Popen(["sh", "-c", script])
        shell.wait()
    return seen, shell


def test_rows_have_their_parents(family):
    seen, shell = family
    row = seen.row("exec", argv=["/bin/true", "in"], errno="")
    inner, outer, tests = row["process.ancestors"][:3]
    assert inner["argv"] == ["sh", "-c", "/bin/true in; :"]
    assert outer["argv"] == ["sh", "-c", "sh -c '/bin/true in; :'; :"]
    assert (outer["pid"], tests["pid"]) == (shell.pid, os.getpid())
    assert tests["argv"] == Path("/proc/self/cmdline").read_bytes()[:1024].decode().removesuffix("\0").split("\0")
    assert row["process.parent_exec_id"] == inner["exec_id"]


def test_the_exec_id_is_the_tracker_s_own_through_all_of_a_life(family):
    seen, shell = family
    rows = [r for r in seen.all if r["pid"] == shell.pid]
    assert {r["stream"] for r in rows} == {"exec", "fork", "exit"}
    assert {r["process.exec_id"] for r in rows} == {r["exec_id"] for r in rows}
    assert len({r["exec_id"] for r in rows}) == 1
    assert {r["process.parent_exec_id"] for r in rows} == {r["parent_exec_id"] for r in rows}


def test_an_exec_s_own_row_has_what_it_started(family):
    seen, _ = family
    rows = [r for r in seen.rows("exec", errno="") if "/bin/true in" in " ".join(r["argv"])]
    assert len(rows) >= 3
    for row in rows:
        assert (row["process.exe"], row["process.argv"]) == (row["exe"], row["argv"])
        assert row["process.user"] == "root"


def test_the_iterator_and_the_tracepoints_agree_with_proc():
    needs.root()
    with Loaded.attached(Spec.open(OBJECT, quick=True)) as live:
        table = ProcessTable()
        with echo() as early:
            there = {int(name) for name in os.listdir("/proc") if name.isdigit()}
            table.fill(batch_of(live.readers["life"].schema, live.iterate("found")))
            known = {p.pid for p in table}
            with echo("-") as late:
                table.feed(live.readers["life"].drain())
                for child in (early, late):
                    found = table.at(child.pid)
                    assert found.argv == Path(f"/proc/{child.pid}/cmdline").read_text().removesuffix("\0").split("\0")
                    assert found.exe == os.readlink(f"/proc/{child.pid}/exe")
                    assert found.session == os.getsid(child.pid)
                    assert found.parent.pid == os.getpid()
        table.feed(live.readers["life"].drain())
        assert table.at(late.pid).ended
        assert table.at(early.pid).ended
    gone = {pid for pid in there - known if not os.path.exists(f"/proc/{pid}")}
    states = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in there - known - gone}
    assert {pid for pid, state in states.items() if state != "Z"} == set()


def test_a_process_that_runs_already_without_its_main_thread_has_its_program(tmp_path):
    """The main thread is a zombie, which has neither program nor arguments."""
    source = tmp_path / "leaderless.c"
    source.write_text(LEADERLESS)
    subprocess.run([needs.program("gcc", "gcc"), "-pthread", "-o", tmp_path / "leaderless", source], check=True)
    child = subprocess.Popen([tmp_path / "leaderless", "rose"], stdin=subprocess.PIPE)
    status = Path(f"/proc/{child.pid}/stat")
    until(lambda: ") Z " in status.read_text())
    with tracked("process", added=COLUMNS) as seen:
        child.communicate(b"go")
    row = seen.row("exec", argv=["/bin/true", "thorn"])
    above = row["process.ancestors"][1]  # beyond system()'s shell
    assert (above["pid"], above["comm"], above["argv"]) == (child.pid, "leaderless", [f"{tmp_path}/leaderless", "rose"])
    fork = seen.row("fork", pid=child.pid)
    assert fork["process.exe"] == f"{tmp_path}/leaderless"
    assert fork["process.argv"] == [f"{tmp_path}/leaderless", "rose"]
    assert fork["process.state"] == "known"


LEADERLESS = """
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static void *live(void *unused)
{
    char go;
    if (read(0, &go, 1) == 1)
        exit(system("/bin/true thorn; :"));
    return unused;
}
int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, live, 0);
    pthread_exit(0);
}
"""


def test_an_exec_in_a_thread_keeps_the_process():
    script = "import os, threading; threading.Thread(target=os.execv, args=('/bin/sleep', ['sleep', '0.1'])).start()"
    with tracked("process", added=COLUMNS) as seen:
        child = subprocess.Popen([sys.executable, "-c", script])
        child.wait()
    rows = [r for r in seen.all if r["pid"] == child.pid]
    assert len({r["process.exec_id"] for r in rows} | {r["exec_id"] for r in rows}) == 1
    end = seen.row("exit", pid=child.pid)
    assert end["process.argv"] == ["sleep", "0.1"]


def test_rows_of_other_trackers_have_their_process_too(tmp_path):
    (tmp_path / "mine").write_text("here")
    with tracked("opensnoop", added=COLUMNS) as seen:
        subprocess.run(["sh", "-c", f"cat {tmp_path}/mine; :"], check=True, capture_output=True)
    rows = [r for r in seen.all if r["path"] == f"{tmp_path}/mine" and r["comm"] == "cat"]
    assert [r["process.argv"] for r in rows] == [["cat", f"{tmp_path}/mine"]]
    assert rows[0]["process.exec_id"].endswith(f":{rows[0]['pid']}")
    assert rows[0]["process.ancestors"][1]["pid"] == os.getpid()


def test_a_terminal_and_the_session_s_leader_are_shown():
    with tracked("process", added=COLUMNS) as seen:
        master, terminal = os.openpty()
        leader = subprocess.Popen(
            ["sh", "-c", "/bin/true there; :"], stdin=terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        leader.wait()
        name = os.ttyname(terminal)
        os.close(terminal)
        os.close(master)
        subprocess.run(["/bin/true", "without"], start_new_session=True, check=True)
    row = seen.row("exec", argv=["/bin/true", "there"])
    assert row["process.tty"] == name.removeprefix("/dev/")
    assert row["process.session"] == leader.pid
    without = seen.row("exec", argv=["/bin/true", "without"])
    assert (without["process.tty"], without["process.session"]) == ("", without["pid"])


def test_in_a_container_ancestors_have_their_command_lines_and_users_their_names(docker: Docker):
    inner = f"sleep {0.2 * needs.PATIENCE}; /bin/true rose"
    script = f"echo 'gardener:x:4711:4711::/:/bin/sh' >> /etc/passwd; sleep 1.2; su gardener -c '{inner}'; :"
    with tracked("process", added=COLUMNS) as seen:
        docker.run("run", "--rm", "--name", "garden", docker.image, "sh", "-c", script)
    row = seen.row("exec", argv=["/bin/true", "rose"], **{"container.name": "garden"})
    assert row["process.exe"] == "/bin/busybox"
    lines = [above["argv"] for above in row["process.ancestors"]]
    assert ["sh", "-c", script] in lines[:3]
    assert any("containerd-shim" in above["comm"] for above in row["process.ancestors"])
    first = seen.row("exec", argv=["sh", "-c", script])
    assert first["process.user"] == "root"
    assert row["process.user"] == "gardener", "he came after the file was first read"


def test_a_container_s_own_passwd_names_its_users(docker: Docker, tmp_path: Path):
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/:/bin/sh\nrose:x:4711:0::/:/bin/sh\n")
    mount = f"{passwd}:/etc/passwd:ro"
    with tracked("process", added=COLUMNS) as seen:
        docker.run("run", "-d", "--name", "house", "-v", mount, docker.image, "sleep", "1000")
        # its file is read while it runs: of a container that is gone before that, nothing tells the names
        seen.until(lambda s: s.rows("exec", argv=["sleep", "1000"], **{"container.name": "house"}))
        docker.run("exec", "-u", "4711", "house", "true", "me")
        docker.run("exec", "-u", "4712", "house", "true", "unknown")
        docker.run("rm", "-f", "house")
    assert seen.row("exec", argv=["true", "me"])["process.user"] == "rose"
    row = seen.row("exec", argv=["true", "unknown"])
    assert (row["uid"], row["process.user"]) == (4712, "")


def test_thousands_of_short_lives_leave_the_table_as_it_was_and_each_row_its_own():
    count, mark = 1500, f"mark-{os.getpid()}"
    script = f"i=0; while [ $i -lt {count} ]; do /bin/true {mark} $i; i=$((i+1)); done"
    with tracked("process", added=COLUMNS) as seen:
        table = seen._engine._joins.processes

        def remembered() -> list:
            with seen._lock:
                return [p for known in (table, table._kept, (p for _, p in table._ended)) for p in known if mark in p.argv]

        subprocess.run([sys.executable, "-c", LIFE, str(count), mark], check=True)
        subprocess.run(["sh", "-c", script], check=True)
        seen.until(lambda s: len([r for r in s.rows("exit", comm="true") if mark in r["process.argv"]]) >= count)
        until(lambda: not remembered())
    execs = [r for r in seen.rows("exec", comm="true") if mark in r["argv"]]
    assert [r["argv"][2] for r in execs] == [str(n) for n in range(count)]
    wrong = [r for r in seen.all if r["pid"] and r["process.exec_id"] != r["exec_id"]]
    assert not wrong, f"{len(wrong)} of {len(seen.all)} rows have another process: {wrong[:3]}"
    ends = {r["exec_id"]: r["process.argv"] for r in seen.rows("exit", comm="true")}
    assert all(ends[r["exec_id"]] == r["argv"] for r in execs)
    assert (table.cut, table.refused) == (0, 0)


def test_a_table_whose_ring_overflowed_is_set_right_by_the_iterator():
    needs.root()
    with Loaded.attached(Spec.open(OBJECT, quick=True), ring_size=4096) as live:
        schema = live.readers["life"].schema
        table = ProcessTable()
        table.fill(batch_of(schema, live.iterate("found")))
        for _ in range(50):
            subprocess.run(["/bin/true"], check=True)
        with echo() as late:
            table.feed(live.readers["life"].drain())
            assert live.count("life").lost > 0
            assert table.at(late.pid) is None, "who is not known is not guessed"
            table.refill(batch_of(schema, live.iterate("found")))
            assert table.at(late.pid).argv == ["cat", "-"]
            assert not [p for p in table if p.comm == "true" and p.parent is not None and p.parent.pid == os.getpid()]


def test_no_process_is_blank_without_a_warning_when_the_tables_ring_overflowed(monkeypatch):
    monkeypatch.setattr(joins, "lives_ring", lambda rows: 1 << 16)
    with tracked("process", added=COLUMNS, options=Options(ring_size=1 << 23)) as seen:
        with seen._lock:  # as if it had no processor
            for _ in range(300):
                subprocess.run(["/bin/true", "storm"], check=True)
            late = subprocess.Popen(["/bin/sleep", "60"])
        seen.until(lambda s: s.rows("exec", pid=late.pid))
        after = subprocess.Popen(["/bin/true", "calm"])
        after.wait()
        late.kill()
        late.wait()
    rows = [r for r in seen.all if r["pid"]]
    assert len(seen.rows("exec", argv=["/bin/true", "storm"])) == 300
    states = Counter(r["process.state"] for r in rows)
    assert states["lost"] > 100
    assert states["unsure"] > 0
    assert not [r for r in rows if r["process.state"] == "known" and r["process.exec_id"] != r["exec_id"]]
    assert not [r for r in rows if r["process.state"] in {"lost", "unknown"} and r["process.exec_id"]]
    assert not [r for r in rows if r["process.state"] == "unknown"]
    assert seen.row("exec", pid=late.pid)["process.state"] == "unsure", "it runs, so the iterator has reported it"
    assert seen.row("exec", pid=after.pid)["process.state"] == "known"
    said = next(r for r in seen.remarks if r.subject == "processes")
    assert said.counts["blank"] == sum(r["process.state"] == "lost" for r in seen.all)
    assert said.counts["unsure"] == states["unsure"]
    assert said.counts["lost"] > 0


def test_a_row_of_an_ended_process_still_finds_it():
    with tracked("process", added=COLUMNS) as seen:
        child = subprocess.Popen(["sleep", "100"])
        seen.until(lambda s: s.rows("exec", pid=child.pid))
        child.send_signal(signal.SIGKILL)
        child.wait()
    end = seen.row("exit", pid=child.pid)
    assert end["process.argv"] == ["sleep", "100"]
    assert process(end)["exec_id"] == end["exec_id"]


def test_rows_that_waited_longer_than_ended_processes_are_remembered_find_theirs():
    """As after Ctrl-Z and fg, or on a machine that has more to do than it can."""
    with tracked("process", added=COLUMNS) as seen, seen._lock:
        for n in range(20):
            subprocess.run(["/bin/true", "waited", str(n)], check=True)
        time.sleep(GRACE / 1e9 + 0.3)
    rows = [r for r in seen.all if r["comm"] == "true" and r["ppid"] == os.getpid()]
    assert len([r for r in rows if r["stream"] == "exec"]) == 20
    assert [r["process.exec_id"] for r in rows] == [r["exec_id"] for r in rows]


def test_without_such_columns_there_is_no_table():
    with tracked("process") as seen:
        assert seen._engine._joins.processes is None
