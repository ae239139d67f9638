# SPDX-License-Identifier: BSD-2-Clause
"""A containerd of the tests' own, with CRI: its root, state, socket and bridge are private, and nothing is left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import needs
from tests.runtimes.cri import Cri
from tests.runtimes.docker import _end_with_parent, _unmount_below, busybox_root

IMAGE = "registry.example/team/bb:1.2"
PAUSE = "localhost/pause:1"
READY_WITHIN = 30  # seconds
_GONE_WITHIN = 10
_ANSWERS_WITHIN = 60

# restrict_oom_score_adj: where CAP_SYS_RESOURCE is missing no oom_score_adj can be lowered.
_CONFIG = """
version = 2
root = "{root}/data"
state = "{root}/run"
oom_score = 0
[grpc]
  address = "{root}/containerd.sock"
[ttrpc]
  address = "{root}/ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{root}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{root}/runc"
"""


class Containerd:
    """A running containerd; ``root`` and ``state`` are its own, ``socket`` its API's path, ``pid`` its own."""

    image = IMAGE
    # Copies the image for each container: it is small, and overlayfs is not to be had everywhere.
    snapshotter = "native"

    def __init__(self, directory: Path, pid: int, used: set[str]) -> None:
        """``used`` takes the namespaces in which there was anything."""
        self._used = used
        used.add(directory.name)  # its pods' cgroup
        self.directory = directory
        self.root = directory / "data"
        self.state = directory / "run"
        self.socket = directory / "containerd.sock"
        self.pid = pid
        # Names cgroups, which all containerds of a machine share.
        self.namespace = f"eu{os.getpid()}"
        self._cri: Cri | None = None

    @property
    def cri(self) -> Cri:
        """What the kubelet talks to."""
        if self._cri is None:
            self._cri = Cri(self.socket, f"/{self.directory.name}", _ANSWERS_WITHIN * needs.PATIENCE)
        return self._cri

    def ctr(
        self, *arguments: str, namespace: str = "", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run ctr as in ``ctr("task", "ls")``; a failure fails the test unless ``check=False``."""
        command = ["ctr", "-a", str(self.socket), "-n", namespace or self.namespace, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False,
            timeout=timeout * needs.PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    def start(self, container_id: str, *command: str, namespace: str = "", options: Sequence[str] = ()) -> str:
        """Start a container that stays; returns its id."""
        self.use(namespace)
        command = command or ("sleep", "1000")
        given = ("--snapshotter", self.snapshotter, "--runc-root", f"{self.directory}/runc", *options)
        self.ctr("run", "-d", *given, self.image, container_id, *command, namespace=namespace)
        return container_id

    def once(self, container_id: str, *command: str, namespace: str = "") -> str:
        """Run a container to its end, with nothing left of it; returns what it printed."""
        self.use(namespace)
        given = ("--snapshotter", self.snapshotter, "--runc-root", f"{self.directory}/runc")
        return self.ctr("run", "--rm", *given, self.image, container_id, *command, namespace=namespace).stdout

    def remove(self, *container_ids: str, namespace: str = "") -> None:
        """End containers and remove them."""
        for container_id in container_ids:
            self.ctr("task", "rm", "-f", container_id, namespace=namespace, check=False)
            self.ctr("container", "rm", container_id, namespace=namespace, check=False)

    def use(self, namespace: str) -> None:
        """Have the images in a namespace."""
        self._used.add(namespace or self.namespace)
        if self.image not in self.ctr("image", "ls", "-q", namespace=namespace).stdout:
            for name in self.directory.glob("*.tar"):
                given = ("--no-unpack", str(name))
                self.ctr("image", "import", *given, namespace=namespace)

    def clean(self) -> None:
        """End and remove all containers of all namespaces."""
        if self._cri is not None:
            with suppress(AssertionError):
                self._cri.clean()
            self._cri.close()
        for namespace in self.ctr("namespace", "ls", "-q", check=False).stdout.split():
            self.remove(*self.ctr("container", "ls", "-q", namespace=namespace).stdout.split(), namespace=namespace)


def archive(name: str, layer: bytes, command: Sequence[str]) -> bytes:
    """Return an image of one layer in the format of ``docker save``."""
    config = json.dumps(
        {
            "architecture": os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "config": {"Cmd": list(command), "Env": ["PATH=/bin:/usr/bin"], "Labels": {"maker": "eunomia"}},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member, data in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _network(directory: Path) -> dict[str, object]:
    """Return a network of pairs of interfaces, which needs no bridge; its subnet is one for benchmarks."""
    subnet = f"198.19.{os.getpid() % 250}.0/24"
    plugin = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {"type": "host-local", "dataDir": f"{directory}/ipam", "ranges": [[{"subnet": subnet}]]},
    }
    return {"cniVersion": "0.4.0", "name": directory.name, "plugins": [plugin]}


def _cgroups(names: Iterable[str]) -> set[Path]:
    """Return the cgroups of these names at the top, one a hierarchy, that exist now."""
    base = Path("/sys/fs/cgroup")
    return {p for name in names for p in (*base.glob(name), *base.glob(f"*/{name}"))}


def _remove_cgroups(namespaces: Iterable[str]) -> None:
    """Remove the empty parents that came with us; others' are busy and stay."""
    for cgroup in _cgroups(namespaces):
        for directory, _, _ in os.walk(cgroup, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)


@contextmanager
def private_containerd() -> Iterator[Containerd]:
    """Yield a containerd with CRI and images; leaves no process, mount, cgroup or file."""
    used: set[str] = set()
    with ExitStack() as cleanup:
        directory = Path(tempfile.mkdtemp(prefix="eu-", dir="/tmp"))  # short, for socket paths are bounded
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        cleanup.callback(_unmount_below, directory)
        cleanup.callback(_remove_cgroups, used)
        (directory / "cni").mkdir()
        (directory / "cni/10-eunomia.conflist").write_text(json.dumps(_network(directory)))
        config = directory / "config.toml"
        config.write_text(_CONFIG.format(root=directory, pause=PAUSE, snapshotter=Containerd.snapshotter))
        layer = busybox_root(needs.program("busybox", "busybox-static"))
        for file, name, command in (("bb", IMAGE, ["/bin/sh"]), ("pause", PAUSE, ["/bin/sleep", "100000"])):
            (directory / f"{file}.tar").write_bytes(archive(name, layer, command))
        yield cleanup.enter_context(_daemon(directory, config, used))


@contextmanager
def _daemon(directory: Path, config: Path, used: set[str]) -> Iterator[Containerd]:
    log = directory / "containerd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["containerd", "--config", str(config)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=_end_with_parent,
        )  # fmt: skip
    containerd = Containerd(directory, process.pid, used)
    try:
        deadline = time.monotonic() + READY_WITHIN * needs.PATIENCE
        while containerd.ctr("version", check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"containerd did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        containerd.use("k8s.io")
        yield containerd
    finally:
        containerd.clean()
        deadline = time.monotonic() + _GONE_WITHIN * needs.PATIENCE
        while _shims(directory) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in _shims(directory):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.terminate()
        try:
            process.wait(15 * needs.PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _shims(directory: Path) -> list[int]:
    """Return the processes that work in one of our bundles."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "cwd").startswith(f"{directory}/"):
                found.append(int(process.name))
    return found


@pytest.fixture(scope="session")
def containerd() -> Iterator[Containerd]:
    """A private containerd for the whole session; the test is skipped where there can be none."""
    needs.root()
    for program, package in (("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc")):
        needs.program(program, package)
    with private_containerd() as running:
        yield running
