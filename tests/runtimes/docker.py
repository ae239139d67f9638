# SPDX-License-Identifier: BSD-2-Clause
"""A Docker of the tests' own: its data, socket and bridge are private, and nothing is left of it."""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import needs

IMAGE = "bb:latest"
READY_WITHIN = 30  # seconds
_PR_SET_PDEATHSIG = 1


class Docker:
    """A running dockerd; ``data_root`` is its --data-root, ``socket`` its API's path, ``pid`` its own."""

    image = IMAGE

    def __init__(self, root: Path, pid: int) -> None:
        self.socket = root / "docker.sock"
        self.data_root = root / "data"
        self.exec_root = root / "exec"
        self.pid = pid

    def run(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run docker as in ``run("ps", "-q")``; a failure fails the test unless ``check=False``."""
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout * needs.PATIENCE, check=False)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}: {err.strip()}")
        return subprocess.CompletedProcess(command, done.returncode, out, err)


def busybox_root(busybox: str) -> bytes:
    """Return a tar of a root file system: busybox, a link per applet, the files that programs expect."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def add(name: str, data: bytes = b"", mode: int = 0o755, kind: bytes = tarfile.REGTYPE) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size = kind, mode, len(data)
            info.linkname = "/bin/busybox" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info, io.BytesIO(data))

        for directory in ("bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/bin", "var", "www"):
            add(directory, kind=tarfile.DIRTYPE)
        add("tmp", kind=tarfile.DIRTYPE, mode=0o1777)
        add("bin/busybox", Path(busybox).read_bytes())
        for applet in subprocess.check_output([busybox, "--list"], text=True).split():
            if applet != "busybox":
                add(f"bin/{applet}", kind=tarfile.SYMTYPE)
        add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", 0o644)
        add("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        add("www/index.html", b"hello\n", 0o644)
    return out.getvalue()


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def _bridge(name: str) -> Iterator[str]:
    """Make a bridge for a while; its subnet is one of those kept for benchmarks, which nobody routes."""
    taken = _ip("-4", "-o", "address")
    subnet = next(f"198.18.{n}" for n in range(os.getpid() % 200, 256) if f" 198.18.{n}." not in taken)
    _ip("link", "add", name, "type", "bridge")
    # Another dockerd has FORWARD drop bridged frames too; this rule is for ours alone.
    rule = ["FORWARD", "-i", name, "-o", name, "-j", "ACCEPT"]
    try:
        _ip("address", "add", f"{subnet}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        subprocess.run(["iptables", "-w", "-I", *rule], capture_output=True, check=False)
        yield name
    finally:
        subprocess.run(["iptables", "-w", "-D", *rule], capture_output=True, check=False)
        _ip("link", "del", name)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _daemon(root: Path, bridge: str, options: Sequence[str] = ()) -> Iterator[Docker]:
    """Start dockerd, wait until it answers, and end it; a Ctrl-C for pytest does not reach it first."""
    config, log = root / "daemon.json", root / "dockerd.log"
    config.write_text("{}")  # not the machine's own
    command = ["dockerd", "--config-file", str(config), "-p", f"{root}/pid", "-H", f"unix://{root}/docker.sock"]
    command += ["--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "--bridge", bridge]
    command += ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
    docker = Docker(root, process.pid)
    try:
        deadline = time.monotonic() + READY_WITHIN * needs.PATIENCE
        while docker.run("info", check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield docker
    finally:
        containers = docker.run("ps", "-aq", check=False).stdout.split()
        docker.run("rm", "-fv", *containers, check=False)  # by itself it would wait ten seconds for each
        process.terminate()
        try:
            process.wait(15 * needs.PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _cgroups() -> set[Path]:
    """Return Docker's parent cgroups, one a hierarchy, that exist now."""
    base = Path("/sys/fs/cgroup")
    return {*base.glob("docker"), *base.glob("*/docker")}


@contextmanager
def private_docker(*options: str) -> Iterator[Docker]:
    """Yield a Docker that has the image ``bb:latest``; leaves no process, mount, cgroup, bridge or file.

    A test may kill it and leave containers that run.
    """
    cgroups = _cgroups()
    with ExitStack() as cleanup:
        root = Path(tempfile.mkdtemp(prefix="eu-", dir="/tmp"))  # short, for socket paths are bounded
        root.chmod(0o711)  # for users that are mapped
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        cleanup.callback(_unmount_below, root)
        cleanup.callback(_remove_cgroups, cgroups)
        bridge = cleanup.enter_context(_bridge(root.name))
        docker = cleanup.enter_context(_daemon(root, bridge, options))
        changes = ["--change", 'CMD ["/bin/sh"]', "--change", "ENV PATH=/bin:/usr/bin"]
        image = busybox_root(needs.program("busybox", "busybox-static"))
        docker.run("import", *changes, "-", IMAGE, stdin=image)
        yield docker
        if not Path(f"/proc/{docker.pid}/exe").exists():
            _end_survivors(root)


def _end_survivors(root: Path) -> None:
    """End containers that outlive their daemon, each with the shim that looks after it."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"-id" not in words or not any(word.startswith(f"{root}/exec/".encode()) for word in words):
                continue
            container_id = words[words.index(b"-id") + 1].decode()
            for child in (place / "task" / place.name / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            os.kill(int(place.name), signal.SIGKILL)
            cgroups = [parent / container_id for parent in _cgroups()]
            deadline = time.monotonic() + READY_WITHIN * needs.PATIENCE
            while any(map(Path.exists, cgroups)) and time.monotonic() < deadline:
                for cgroup in cgroups:
                    with suppress(OSError):
                        cgroup.rmdir()
                time.sleep(0.02)


def _unmount_below(root: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{root}/"):
            subprocess.run(["umount", "-l", mount], check=False)


def _remove_cgroups(before: set[Path]) -> None:
    """Remove the parents that came with us; one that another dockerd has come to use is busy and stays."""
    for cgroup in _cgroups() - before:
        with suppress(OSError):
            cgroup.rmdir()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A private Docker for the whole session; the test is skipped where there can be none."""
    needs.root()
    for program, package in (("dockerd", "docker.io"), ("docker", "docker.io"), ("ip", "iproute2")):
        needs.program(program, package)
    with private_docker() as running:
        yield running
