# SPDX-License-Identifier: BSD-2-Clause
"""What is not needed is given up, and what is kept suffices: for root, and for a user with ambient capabilities."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from eunomia.server import privileges
from tests import needs
from tests.kernel import compiled
from tests.server.conftest import Server

EUNOMIA = str(Path(sys.executable).with_name("eunomia"))
FOREIGN = Path(__file__).parents[1] / "foreign"
USER = 65533


def status_of(process: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def bits(*names: str) -> int:
    return sum(1 << privileges.number(name) for name in names)


def after_drop(code: str, *, keep: str, setpriv: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that gave up all but some capabilities."""
    script = f"import os, sys\nfrom eunomia.server import privileges\nprivileges.drop({keep})\n{code}"
    return subprocess.run([*setpriv, sys.executable, "-c", script], cwd="/", capture_output=True, text=True, check=False)


def as_user(*capabilities: str) -> tuple[str, ...]:
    """Return the beginning of a command that another user runs with ambient capabilities."""
    needs.checkout_for_all(EUNOMIA, user=USER)
    given = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    setpriv = needs.program("setpriv", "util-linux")
    return (setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups", f"--inh-caps={given}", f"--ambient-caps={given}")


PRINT = "print(open('/proc/self/status').read())"
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def test_only_what_is_named_is_kept_and_nothing_can_come_back():
    needs.root()
    done = after_drop(f"{PRINT}\nos.execvp('cat', ['cat', '/proc/self/status'])", keep="['CAP_BPF', 'perfmon']")
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split("\n\n", 1)
    for text in (before, after):  # of the process, and of a program that it starts
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert [int(status[name], 16) for name in SETS] == [0, *[bits("BPF", "PERFMON")] * 3, 0]
        assert status["NoNewPrivs"] == "1"


def test_a_user_with_ambient_capabilities_keeps_them_and_gives_them_to_nobody():
    needs.root()
    code = f"{PRINT}\nos.execvp('cat', ['cat', '/proc/self/status'])"
    done = after_drop(code, keep="['BPF', 'PERFMON', 'NET_ADMIN']", setpriv=as_user("BPF", "PERFMON", "SYS_ADMIN"))
    assert done.returncode == 0, done.stderr
    mine, started = [
        dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line) for text in done.stdout.split("\n\n", 1)
    ]
    assert int(mine["CapEff"], 16) == int(mine["CapPrm"], 16) == bits("BPF", "PERFMON")
    assert int(started["CapEff"], 16) == int(started["CapPrm"], 16) == int(started["CapAmb"], 16) == 0


def test_a_name_that_there_is_not_and_other_threads_are_refused():
    with pytest.raises(ValueError, match="no capability 'CAP_FLY'"):
        privileges.drop(["CAP_FLY"])
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        with pytest.raises(RuntimeError, match="while other threads run"):
            privileges.drop(["BPF"])
    finally:
        stop.set()
        other.join()


def test_the_names_are_the_kernel_s():
    capsh = needs.program("capsh", "libcap2-bin")
    for bit, name in enumerate(privileges._NAMES):
        said = subprocess.run([capsh, f"--decode={1 << bit:x}"], capture_output=True, text=True, check=True).stdout
        assert said.strip().endswith(f"=cap_{name.lower()}")
    assert not Path("/proc/sys/kernel/cap_last_cap").read_text().strip() > str(len(privileges._NAMES) - 1)


RUN = "from eunomia.cli import main\nsys.exit(main(['run', {tracker!r}, '--count', '1', '-o', 'json', *{more!r}]))"


def run_until_a_row(command: list[str]) -> tuple[int, str, str]:
    """Run a tracker until it has shown a row, of programs that are started meanwhile."""
    process = subprocess.Popen(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        subprocess.run(["true"], check=True)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("tracker", ["process", "opensnoop", "syscall"])
@pytest.mark.parametrize("who", ["root", "user"])
def test_trackers_run_after_the_drop(tracker, who):
    needs.root()
    more = ["--interval", "100ms"] if tracker == "syscall" else []
    script = f"import sys\nfrom eunomia.server import privileges\nprivileges.drop(privileges.TRACKERS)\n{RUN.format(tracker=tracker, more=more)}"
    before = as_user(*privileges.TRACKERS) if who == "user" else ()
    code, out, err = run_until_a_row([*before, sys.executable, "-c", script])
    assert code == 0, err
    assert f'"tracker":"{tracker}"' in out


@pytest.mark.parametrize("who", ["root", "user"])
def test_containers_are_named_after_the_drop(docker, who):
    code = "from eunomia.cli import main\nsys.exit(main(['containers', '-o', 'json']))"
    docker.run("run", "-d", "--name", "dropped", docker.image, "sleep", "1000")
    try:
        before = as_user(*privileges.TRACKERS) if who == "user" else ()
        done = after_drop(code, keep="privileges.TRACKERS", setpriv=before)
        assert '"name":"dropped"' in done.stdout, done.stderr
        lacking = after_drop(code, keep="privileges.TRACKERS - {'SYS_PTRACE'}", setpriv=before)
        assert '"name":"dropped"' not in lacking.stdout, "SYS_PTRACE is not needed any more: say so in docs/privileges.md"
    finally:
        docker.run("rm", "-f", "dropped")


def test_the_server_gives_up_what_it_does_not_need_in_all_of_its_threads(server):
    allowed = bits(*privileges.SERVER)
    threads = os.listdir(f"/proc/{server.process.pid}/task")
    assert len(threads) > 1
    for thread in threads:
        status = status_of(f"{server.process.pid}/task/{thread}")
        assert int(status["CapEff"], 16) & ~allowed == int(status["CapPrm"], 16) & ~allowed == 0
        assert int(status["CapBnd"], 16) & ~allowed == 0
        assert status["NoNewPrivs"] == "1"


def children(process: int) -> set[int]:
    tasks = Path(f"/proc/{process}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def test_what_is_uploaded_is_read_by_a_process_without_rights(server):
    assert not children(server.process.pid)
    assert server.ask("POST", "/v1/objects", b"\x7fELF" + b"?" * 100).status == 422
    (helper,) = children(server.process.pid)
    status = status_of(helper)
    assert status["Uid"].split() == ["65534"] * 4
    assert int(status["CapPrm"], 16) == 0
    uploaded = server.ask("POST", "/v1/objects", compiled.bpf((FOREIGN / "minimal.bpf.c").read_text()))
    assert uploaded.status == 201, uploaded.body
    assert uploaded.body["programs"] == ["handle_tp"]


def test_a_user_with_ambient_capabilities_serves_trackers_and_uploads():
    needs.root()
    before = as_user(*privileges.TRACKERS)
    folder = Path(tempfile.mkdtemp(prefix="eunomia-user-"))
    os.chown(folder, USER, USER)
    try:
        server = Server(folder, before=before)
        try:
            assert status_of(server.process.pid)["Uid"].split() == [str(USER)] * 4
            for kind in ("process", "opensnoop", "syscall", "container"):
                answer = server.ask("POST", "/v1/trackers", {"kind": kind})
                assert answer.status == 201, answer.body
            uploaded = server.ask("POST", "/v1/objects", compiled.bpf((FOREIGN / "minimal.bpf.c").read_text()))
            assert uploaded.status == 201, uploaded.body
            answer = server.ask("POST", "/v1/trackers", {"object": uploaded.body["object"]})
            assert answer.status == 201, answer.body
        finally:
            assert server.stop() == 0, server.errors.read_text()
    finally:
        shutil.rmtree(folder)


def test_a_capability_that_there_is_not_is_a_usage_error(tmp_path):
    command = [EUNOMIA, "server", "--socket", tmp_path / "s", "--state", tmp_path, "--keep-capability", "FLY"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--keep-capability: there is no capability 'FLY'" in done.stderr
