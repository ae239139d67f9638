# SPDX-License-Identifier: BSD-2-Clause
"""A Podman of the tests' own: its storage, state, network and configuration are private, and nothing is left."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.runtimes.docker import _unmount_below, busybox_root

IMAGE = "localhost/bb:latest"

# runc, for crun refuses hybrid cgroups. The limits: where CAP_SYS_RESOURCE is missing none can be raised.
_CONFIG = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
netns = "none"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/usr/lib/cni"]
network_config_dir = "{root}/cni"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class Podman:
    """A Podman whose ``storage`` and ``run_root`` are its own; ``network`` is one for ``--network``.

    ``archive`` is the root file system that its image was made of.
    """

    image = IMAGE

    def __init__(self, root: Path, account: pwd.struct_passwd | None = None) -> None:
        self.root = root
        self.account = account
        self.storage = root / "storage"
        self.run_root = root / "run"
        self.archive = root / "image.tar"
        self.network = root.name

    @property
    def command(self) -> list[str]:
        """What to start Podman with; a user's keeps everything where it usually is."""
        if self.account:
            return ["podman", "--storage-driver", "vfs"]
        places = ["--root", self.storage, "--runroot", self.run_root, "--tmpdir", self.root / "tmp"]
        return ["podman", *map(str, places)]

    @property
    def environment(self) -> dict[str, str]:
        """What to start it in; no configuration but its own is read."""
        places = {"HOME": f"{self.root}/home", "XDG_RUNTIME_DIR": f"{self.root}/run"} if self.account else {}
        return {**os.environ, **places, "CONTAINERS_CONF": f"{self.root}/containers.conf"}

    def run(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run podman as in ``run("ps", "-q")``; a failure fails the test unless ``check=False``."""
        command = [*self.command, *arguments]
        who: dict[str, Any] = {}
        if self.account:
            who = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": [], "cwd": "/"}
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, timeout=timeout * needs.PATIENCE,
            check=False, **who,
        )  # fmt: skip
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode:
            raise AssertionError(f"podman {' '.join(arguments)}: {err.strip()}")
        return subprocess.CompletedProcess(command, done.returncode, out, err)


def _network(name: str, root: Path) -> str:
    """Return a bridge's CNI configuration: no firewall's rules, and no state outside of ``root``."""
    subnet = f"198.18.{100 + os.getpid() % 100}.0/24"  # one kept for benchmarks, which nobody routes
    ipam = {"type": "host-local", "dataDir": f"{root}/ipam", "ranges": [[{"subnet": subnet}]]}
    plugin = {"type": "bridge", "bridge": name, "ipam": ipam}
    return json.dumps({"cniVersion": "0.4.0", "name": name, "plugins": [plugin]})


def _cgroups() -> set[Path]:
    """Return Podman's parent cgroups, one a hierarchy, that exist now."""
    base = Path("/sys/fs/cgroup")
    return {*base.glob("libpod_parent"), *base.glob("*/libpod_parent")}


def _remove_cgroups(before: set[Path]) -> None:
    """Remove the parents that came with us; one that another Podman has come to use is busy and stays."""
    for cgroup in _cgroups() - before:
        for below in (*cgroup.glob("*/"), cgroup):
            with suppress(OSError):
                below.rmdir()


def _remove_containers(podman: Podman) -> None:
    podman.run("pod", "rm", "-fa", "-t", "0", check=False)
    podman.run("rm", "-fa", "-t", "0", check=False)


def _configure(podman: Podman) -> None:
    (podman.root / "cni").mkdir()
    (podman.root / "cni" / f"{podman.network}.conflist").write_text(_network(podman.network, podman.root))
    (podman.root / "containers.conf").write_text(_CONFIG.format(root=podman.root))


def _import(podman: Podman) -> None:
    podman.archive.write_bytes(busybox_root(needs.program("busybox", "busybox-static")))
    podman.run("import", "-c", 'CMD ["/bin/sh"]', "-c", "ENV PATH=/bin:/usr/bin", str(podman.archive), IMAGE)


@contextmanager
def private_podman() -> Iterator[Podman]:
    """Yield a Podman that has the image ``localhost/bb:latest``; leaves no process, mount, cgroup, link or file."""
    cgroups = _cgroups()
    with ExitStack() as cleanup:
        root = Path(tempfile.mkdtemp(prefix="eu-", dir="/tmp"))  # Podman wants a run root of less than 50 characters
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        cleanup.callback(_unmount_below, root)
        cleanup.callback(_remove_cgroups, cgroups)
        podman = Podman(root)
        _configure(podman)
        cleanup.callback(subprocess.run, ["ip", "link", "del", podman.network], capture_output=True, check=False)
        cleanup.callback(_remove_containers, podman)
        _import(podman)
        yield podman


@contextmanager
def _account(root: Path) -> Iterator[pwd.struct_passwd]:
    """Make a user with ids to give to containers; nothing is left of them, nor do they leave a process."""
    name, ids = f"eu{os.getpid()}", "1879048192-1879113727"
    subprocess.run(["useradd", "--system", "--no-create-home", "--home-dir", root / "home", name], check=True)
    try:
        account = pwd.getpwnam(name)
        subprocess.run(["usermod", "--add-subuids", ids, "--add-subgids", ids, name], check=True)
        yield account
    finally:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if os.stat(f"/proc/{pid}").st_uid == account.pw_uid:
                    os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["userdel", name], capture_output=True, check=False)


@contextmanager
def users_podman() -> Iterator[Podman]:
    """Yield a Podman of an ordinary user's, who is made for it; leaves no user, process or file."""
    with ExitStack() as cleanup:
        root = Path(tempfile.mkdtemp(prefix="eu-", dir="/tmp"))
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        cleanup.callback(_unmount_below, root)
        account = cleanup.enter_context(_account(root))
        podman = Podman(root, account)
        podman.storage = root / "home/.local/share/containers/storage"
        _configure(podman)
        for directory in ("home", "run"):
            (root / directory).mkdir(mode=0o700)
        for path in (root, *root.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
        cleanup.callback(_remove_containers, podman)
        _import(podman)
        yield podman


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A private Podman for the whole session; the test is skipped where there can be none."""
    needs.root()
    for program, package in (("podman", "podman"), ("runc", "runc"), ("ip", "iproute2")):
        needs.program(program, package)
    with private_podman() as running:
        yield running
