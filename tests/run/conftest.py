# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia run`` as a stranger starts it: another process, its output, its exit code."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests import needs

EUNOMIA = [sys.executable, "-c", "import sys; from eunomia.cli import main; sys.exit(main())"]
IDS = re.compile(rb"^(prog|map|link)_id:\s*(\d+)$", re.M)
HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
"""


def kernel_ids(pid: int) -> set[tuple[str, int]]:
    """The BPF programs, maps and links that a process holds, by their ids."""
    held = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            held |= {(kind.decode(), int(number)) for kind, number in IDS.findall(info.read_bytes())}
    return held


def alive(ids: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the ids that the kernel still knows, after a while: it frees maps when it finds the time."""
    until = time.monotonic() + 10 * needs.PATIENCE
    while (left := _known(ids)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def _known(ids: set[tuple[str, int]]) -> set[tuple[str, int]]:
    bpftool = needs.program("bpftool", "bpftool")
    known = set()
    for kind in {kind for kind, _ in ids}:
        said = subprocess.run([bpftool, "-j", kind, "show"], capture_output=True, check=True).stdout
        known |= {(kind, thing["id"]) for thing in json.loads(said)}
    return ids & known


class Running:
    """An eunomia that runs; it says on ``$NOTIFY_SOCKET`` when it has attached everything."""

    def __init__(self, *arguments: str, stdout=subprocess.PIPE, wrap=(), env=None, **options) -> None:
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.notified.bind("")  # the kernel chooses an abstract name
        self.notified.settimeout(0.1)
        name = "@" + self.notified.getsockname()[1:].decode()
        self.process = subprocess.Popen(
            [*wrap, *EUNOMIA, "run", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**(os.environ if env is None else env), "NOTIFY_SOCKET": name},
            **options,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def attached(self) -> Running:
        """Wait until everything is attached."""
        deadline = time.monotonic() + 60 * needs.PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.stderr.read().decode()
            with suppress(TimeoutError):
                assert self.notified.recv(64) == b"READY=1"
                return self
        raise AssertionError(f"it did not attach: {kernel_ids(self.pid)}")

    def end(self, sign: int = signal.SIGINT, timeout: float = 60) -> Ended:
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> Ended:
        try:
            out, err = self.process.communicate(timeout=timeout * needs.PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return Ended(self.process.returncode, out or b"", err.decode())


class Ended:
    """What an eunomia left: ``code``, ``out`` (bytes), ``err`` (text)."""

    def __init__(self, code: int, out: bytes, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def ledger(self) -> dict[str, dict]:
        """The ledger's lines by stream, as ``-o json`` prints them."""
        lines = [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]
        return {line["ledger"]: line for line in lines if "ledger" in line}

    def refused(self, code: int, words: str) -> None:
        """One sentence, the right code, nothing shown."""
        assert "Traceback" not in self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("eunomia: ")
        assert words in self.err
        assert "[Errno" not in self.err
        assert (self.code, self.out) == (code, b"")


@pytest.fixture
def start():
    """start(*arguments) -> a running eunomia, ended with the test."""
    needs.root()
    begun: list[Running] = []

    def start_(*arguments: str, **options) -> Running:
        begun.append(Running(*arguments, **options))
        return begun[-1]

    yield start_
    for running in begun:
        running.notified.close()
        if running.process.poll() is None:
            running.process.kill()
            running.process.send_signal(signal.SIGCONT)
            running.process.communicate()


@pytest.fixture
def run(start):
    """run(*arguments) -> what it left when it ended by itself."""

    def run_(*arguments: str, **options) -> Ended:
        return start(*arguments, **options).wait()

    return run_


@pytest.fixture
def compiled(tmp_path):
    """compiled(name, source, target="bpf") -> path of the object."""
    if shutil.which("clang") is None:
        pytest.skip("no clang to compile BPF with")

    def compile_(name: str, source: str, target: str = "bpf", flags=("-g",)) -> str:
        path = tmp_path / f"{name}.bpf.c"
        path.write_text(HEAD + source)
        command = ["clang", "-O2", f"-I/usr/include/{platform.machine()}-linux-gnu", *flags]
        command += ["-target", target] if target else []
        subprocess.run([*command, "-c", path, "-o", path.with_suffix(".o")], check=True)
        return str(path.with_suffix(".o"))

    return compile_


def forking(calls: str) -> subprocess.Popen:
    """A process that waits for a line on its standard input, runs ``calls``, and writes its pid's work's end."""
    code = f"import os, sys\nsys.stdin.readline()\n{calls}\nprint('done', flush=True)\nsys.stdin.readline()"
    return subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def worker():
    """worker("os.getppid()") -> a process; call ``go()`` on it to let it do so."""
    begun = []

    class Worker:
        def __init__(self, calls: str) -> None:
            self.process = forking(calls)
            self.pid = self.process.pid
            begun.append(self)

        def go(self) -> None:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n"

        def end(self) -> None:
            self.process.communicate("\n")

    yield Worker
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def write_to(directory: Path, name: bytes) -> bytes:
    """Make a file of a hostile name; return its path."""
    path = os.fsencode(directory) + b"/" + name
    with open(path, "wb"):
        pass
    return path
