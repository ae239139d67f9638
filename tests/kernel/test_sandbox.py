# SPDX-License-Identifier: BSD-2-Clause
"""A stranger's object is read by a process that can do nothing else, and whatever becomes of it is told."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests import needs
from tests.kernel import compiled

from eunomia.kernel.errors import BadObject, BadSetting, KernelError
from eunomia.kernel.foreign import confined, sandbox
from eunomia.kernel.libbpf import lib
from eunomia.kernel.spec import PRINTK

FOREIGN = Path(__file__).parents[1] / "foreign"
OURS = sorted((Path(__file__).parents[2] / "src").rglob("*.bpf.o"))
GOOD = Path(PRINTK).read_bytes()


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.fixture
def boot(monkeypatch):
    """Return a function that has the helper start anew, after some Python code of the test's own."""

    def start(code: str) -> None:
        sandbox.close()
        monkeypatch.setattr(sandbox, "_BOOT", plain.replace("confined.serve()", f"{code}\nconfined.serve()"))

    plain = sandbox._BOOT
    yield start
    sandbox.close()


@pytest.fixture
def reading(boot):
    """Return a function that has the process do something for the object b"bad" in place of reading it."""

    def start(code: str) -> None:
        boot(
            "import ctypes, mmap, os, socket\n"
            "def describe(data, name, events):\n"
            f"    if data == b'bad':\n        {code}\n"
            "    return confined.sandbox.Description((), (), (), ('fine',))\n"
            "confined.describe = describe"
        )

    return start


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_what_the_process_without_rights_says_of_our_objects_is_what_we_read(path):
    assert sandbox.inspect(path.read_bytes(), "x") == confined.describe(path.read_bytes(), "x", {})


@pytest.mark.parametrize("name", sorted(p.name for p in FOREIGN.glob("*.bpf.c") if "vmlinux.h" not in p.read_text()))
def test_what_it_says_of_others_objects_is_what_we_read(name):
    data = compiled.bpf((FOREIGN / name).read_text())
    found = sandbox.inspect(data, "x")
    assert found == confined.describe(data, "x", {})
    assert found.programs


def test_a_buffer_s_struct_can_be_named_and_a_wrong_one_is_told():
    data = compiled.bpf((FOREIGN / "several_rings.bpf.c").read_text())
    known = sandbox.inspect(data, "several")
    ring = next(s for s in known.streams if s.kind == "ring")
    with pytest.raises(BadSetting, match="nothing_like_it"):
        sandbox.inspect(data, "several", {ring.name: "nothing_like_it"})


def test_a_file_that_is_no_object_is_refused_with_the_reason_and_the_name():
    with pytest.raises(BadObject, match=r"^web: the file is empty"):
        sandbox.inspect(b"", "web")
    with pytest.raises(BadObject, match="web"):
        sandbox.inspect(b"#!/bin/sh\n" * 100, "web")
    with pytest.raises(BadObject, match="64 MiB"):
        sandbox.inspect(bytes(sandbox.LARGEST + 1), "web")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.abort()", r"web: it is broken: what reads it crashes \(SIGSEGV\)"),
        ("ctypes.string_at(8)", r"web: it is broken: what reads it crashes \(SIGSEGV\)"),
        ("while True: pass", r"web: reading it takes more than 1 s"),
        ("return bytes(1 << 40)", "web: reading it needs more than 512 MiB of memory"),
        ("os.fork()", "web: it makes the process that reads it call what reading does not need"),
        ("socket.socket()", "web: it makes the process that reads it call what reading does not need"),
        ("raise KeyError('x')", "web: reading it fails: KeyError: 'x'"),
        ("os.write(1, b'[]'); os._exit(0)", "web: it broke the process that read it, which answered nonsense"),
        ("os.write(1, b'{}'); os._exit(0)", "web: it cannot be read"),
        ("os._exit(0)", "web: it broke the process that read it, which answered nonsense"),
        ("while True: os.write(1, b'x' * 65536)", "web: its description has more than 1 MiB"),
        ("open('/etc/passwd')", "web: reading it fails: PermissionError"),
        ("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)", "it may be an attack"),
        (r"raise confined.BadObject('\x1b[2J\n')", r"^\\x1b\[2J\\n$"),
    ],
)
def test_whatever_becomes_of_the_process_is_told_and_the_next_object_is_read(reading, code, said):
    reading(code)
    with pytest.raises(BadObject, match=said):
        sandbox.inspect(b"bad", "web", seconds=1 if "while True: pass" in code else 10)
    assert sandbox.inspect(b"good", "web").settings == ("fine",)


def in_a_child(act) -> int:
    """Return how a child ends that may only compute, and acts."""
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            act() if lib.eu_only_compute() == 0 else os._exit(9)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


LIBC = ctypes.CDLL(None)


@pytest.mark.parametrize(
    "act",
    [
        os.fork, socket.socketpair, lambda: os.kill(os.getppid(), 0), lambda: LIBC.execv(b"/bin/true", None),
        lambda: os.unlink("/nowhere"), lambda: os.memfd_create("x"), lambda: os.pipe(), lambda: os.dup(0),
        lambda: LIBC.syscall(321, 0, 0, 0), lambda: LIBC.ptrace(16, os.getppid(), 0, 0), lambda: LIBC.syscall(0x40000000 + 1, 1, b"x", 1),
        lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC), lambda: LIBC.syscall(101, 0, 0, 0, 0),
        lambda: os.setuid(0), lambda: os.unshare(0) if hasattr(os, "unshare") else LIBC.unshare(0), lambda: os.listdir("/"),
    ],
)  # fmt: skip
def test_every_call_that_reading_does_not_need_ends_the_process(act):
    status = in_a_child(act)
    refused = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 1 and act().__class__ is list
    assert (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS) or refused


def test_the_helper_has_no_rights_no_network_and_nothing_of_ours_in_its_environment(monkeypatch):
    needs.root()
    sandbox.close()
    monkeypatch.setenv("EUNOMIA_TOKEN", "secret")
    before = children()
    words = sandbox.confinement()
    (helper,) = children() - before
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{helper}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert not status["Groups"].strip()
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert os.readlink(f"/proc/{helper}/ns/net") != os.readlink("/proc/self/ns/net")
    assert b"secret" not in Path(f"/proc/{helper}/environ").read_bytes()
    open_files = {os.readlink(f"/proc/{helper}/fd/{fd}") for fd in os.listdir(f"/proc/{helper}/fd")}
    assert all(name.startswith(("socket:", "/dev/null")) for name in open_files)
    assert "runs as user 65534" in words
    assert "has no network" in words


def test_without_root_an_object_is_read_too_without_capabilities_and_files():
    needs.root()
    path = next(p for p in OURS if p.name == "process.bpf.o")
    script = (
        "import sys; from eunomia.kernel.foreign import sandbox; data = open(sys.argv[1], 'rb').read();"
        "print(len(sandbox.inspect(data).programs), sandbox.confinement())"
    )
    needs.checkout_for_all(str(Path(sys.executable).with_name("eunomia")), user=65533)
    done = subprocess.run([sys.executable, "-c", script, path], user=65533, group=65533, extra_groups=[], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 ")
    assert "has no capabilities" in done.stdout
    assert "runs as user" not in done.stdout


def test_objects_are_read_by_many_threads_at_once_and_each_gets_its_own_answer():
    objects = {p.name: p.read_bytes() for p in OURS}
    alone = {name: sandbox.inspect(data) for name, data in objects.items()}
    with ThreadPoolExecutor(8) as pool:
        asked = [(name, pool.submit(sandbox.inspect, objects[name])) for _ in range(4) for name in objects]
        assert all(answer.result() == alone[name] for name, answer in asked)


def test_the_helper_is_started_again_after_it_ended_and_after_its_first_caller_s_thread_ended():
    sandbox.close()
    before = children()
    first = threading.Thread(target=sandbox.inspect, args=(GOOD,))
    first.start()
    first.join()
    (helper,) = children() - before
    assert sandbox.inspect(GOOD).programs
    assert children() - before == {helper}
    pidfd = os.pidfd_open(helper)
    os.kill(helper, signal.SIGKILL)
    assert sandbox.inspect(GOOD).programs
    os.close(pidfd)


def test_the_helper_ends_when_nobody_asks_and_when_its_parent_dies(boot):
    boot("confined.IDLE = 0")
    before = children()
    sandbox.confinement()
    for pid in children() - before:
        _wait_for_end(pid)
    assert sandbox.inspect(GOOD).programs  # by another one
    script = (
        "import os; from eunomia.kernel.foreign import sandbox; sandbox.confinement();"
        "print(*open(f'/proc/self/task/{os.getpid()}/children').read().split(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    for pid in done.stdout.split():
        _wait_for_end(int(pid))


def _wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    from select import POLLIN, poll

    waiting = poll()
    waiting.register(pidfd, POLLIN)
    waiting.poll()
    os.close(pidfd)


def test_a_machine_that_cannot_confine_a_process_reads_no_object(boot):
    boot("confined.lib = type('', (), {'eu_shrink_bounding_set': lambda _: -1})")
    with pytest.raises(KernelError, match=r"^a process cannot be confined here: .*shrink the bounding set"):
        sandbox.inspect(GOOD)
    boot("class Lib:\n    eu_only_compute = lambda self: -22\n    __getattr__ = lambda self, name, lib=confined.lib: getattr(lib, name)\nconfined.lib = Lib()")
    with pytest.raises(KernelError, match="the kernel refuses seccomp filters"):
        sandbox.inspect(GOOD)
    boot("raise SystemExit(1)")
    with pytest.raises(KernelError, match="cannot start"):
        sandbox.inspect(GOOD)


def test_objects_leave_no_descriptor_and_no_process_behind():
    sandbox.inspect(GOOD)
    before = os.listdir("/proc/self/fd"), children()
    for data in (GOOD, b"", GOOD[:500], GOOD[:-100]) * 10:
        try:
            sandbox.inspect(data)
        except BadObject:
            continue
    assert (os.listdir("/proc/self/fd"), children()) == before
