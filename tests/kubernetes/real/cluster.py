# SPDX-License-Identifier: BSD-2-Clause
"""A Kubernetes of one node, of the tests' own: etcd, API server, controllers, scheduler, kubelet, on a private containerd.

The programs are taken from $KUBERNETES_BIN_DIR, for Debian has no kubelet. Data, sockets, ports and cgroups are
private; kubelet's fixed directories are removed when they were not there before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests import needs
from tests.runtimes.containerd import Containerd, private_containerd
from tests.runtimes.docker import _end_with_parent

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
NODE = "eunomia-test-node"
_READY_WITHIN = 120  # seconds
_FIXED = tuple(map(Path, ("/var/lib/kubelet", "/var/log/pods", "/var/log/containers")))
# What kubelet sets for the whole machine; it gets copies.
_SET_BY_KUBELET = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def programs() -> dict[str, str]:
    """Return the programs' paths; skip, and say which are missing, where there are not all."""
    directory = os.environ.get("KUBERNETES_BIN_DIR", "")
    if not directory:
        pytest.skip(f"needs $KUBERNETES_BIN_DIR, a directory with {', '.join(PROGRAMS)}")
    found = {name: shutil.which(name, path=f"{directory}:{os.environ.get('PATH', '')}") for name in PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"needs {', '.join(missing)} in $KUBERNETES_BIN_DIR ({directory})")
    return {name: str(path) for name, path in found.items()}


class Cluster:
    """A running cluster; ``kubeconfig`` is an administrator's, ``containerd`` runs its pods."""

    node = NODE

    def __init__(self, root: Path, containerd: Containerd) -> None:
        self.root = root
        self.containerd = containerd
        self.manifests = root / "manifests"  # of static pods
        self.port = _free_port()
        self.kubeconfig = root / "admin.kubeconfig"
        self.reader = root  # a kubeconfig of an account that may do nothing until it is allowed to
        self.cgroup_root = ""
        self.is_old = False  # no CronJob in batch/v1
        self.commands: dict[str, list[str]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.etcd = ""
        self._tokens: list[str] = []
        self._context = ssl._create_unverified_context()  # noqa: S323

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def account(self, file: str, user: str, group: str = "") -> Path:
        """Make a token before the API server starts, and return a kubeconfig with it."""
        token = os.urandom(16).hex()
        self._tokens.append(f'{token},{user},{file},"{group}"')
        (self.root / "tokens.csv").write_text("\n".join(self._tokens) + "\n")
        path = self.root / f"{file}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.server, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        path.write_text(json.dumps(config))
        self._admin = self._tokens[0].split(",")[0]
        return path

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API server, as the first account; raises :class:`OSError`."""
        headers = {"Authorization": f"Bearer {self._admin}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self._context)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise OSError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text.startswith(b"{") else text

    def apply(self, path: str, body: dict[str, Any]) -> None:
        """Make an object; asked again while its namespace has no service account yet."""
        self._until(lambda: self.request("POST", path, body) or True, 20, f"{path} {body['metadata'].get('name')}")

    def pid_of(self, program: str) -> int:
        return self.processes[program].pid

    def start(self, program: str) -> None:
        with (self.root / f"{program}.log").open("ab") as log:
            self.processes[program] = subprocess.Popen(
                self.commands[program], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip

    def end(self, program: str) -> None:
        process = self.processes[program]
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_for_server(self) -> None:
        self._until(lambda: self.request("GET", "/readyz") == b"ok", 60, "kube-apiserver")

    def replace_server(self) -> None:
        """Kill the API server, have etcd forget what was before, and start another."""
        self.apply("/api/v1/namespaces/default/configmaps", {"metadata": {"generateName": "newer-"}})
        server = self.processes["kube-apiserver"]
        server.kill()
        server.wait()
        revision = self._etcd("maintenance/status", {})["header"]["revision"]
        self._etcd("kv/compaction", {"revision": revision})
        self.start("kube-apiserver")
        self.wait_for_server()

    def _etcd(self, method: str, body: dict[str, Any]) -> Any:
        with urlopen(f"{self.etcd}/v3/{method}", json.dumps(body).encode(), timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def pods(self, namespace: str = "shop") -> list[dict[str, Any]]:
        return self.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]

    def _until(self, holds: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while True:
            why: object = ""
            try:
                if holds():
                    return
            except (HTTPException, OSError) as error:
                why = error
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s {why!r}; logs in {self.root}"
            time.sleep(0.3)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _running(kube: Cluster, name: str) -> Iterator[None]:
    kube.start(name)
    try:
        yield
    finally:
        kube.end(name)


def _minor(apiserver: str) -> int:
    text = subprocess.run([apiserver, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v1\.(\d+)", text)
    assert found, text
    return int(found[1])


@contextmanager
def _cgroup_root(name: str) -> Iterator[str]:
    """Make a cgroup in each hierarchy: kubelet removes pods that it doesn't know, and others' are elsewhere."""
    base = Path("/sys/fs/cgroup")
    tops = [base] if (base / "cgroup.controllers").exists() else [p for p in base.iterdir() if p.is_dir()]
    made = {top.resolve() / name for top in tops}
    for path in made:
        path.mkdir(exist_ok=True)
        cpus, mems = path / "cpuset.cpus", path / "cpuset.mems"
        for file in (cpus, mems):
            if file.exists() and path.parent != base:
                file.write_text((path.parent / file.name).read_text())
    try:
        yield name
    finally:
        for path in made:
            for directory, _, _ in os.walk(path, topdown=False):
                with suppress(OSError):
                    os.rmdir(directory)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a cluster whose node is ready; leaves no process, mount, cgroup or file."""
    at = programs()
    with ExitStack() as cleanup:
        containerd = cleanup.enter_context(private_containerd())
        root = containerd.directory / "k8s"  # removed with it
        for directory in (root, root / "manifests", root / "certs", root / "kubelet"):
            directory.mkdir()
        for fixed in _FIXED:
            if not fixed.exists():
                cleanup.callback(shutil.rmtree, fixed, ignore_errors=True)
        kube = Cluster(root, containerd)
        kube.account("admin", "admin", "system:masters")
        configs = {
            "kubelet": kube.account("kubelet", f"system:node:{NODE}", "system:nodes"),
            "kube-controller-manager": kube.account("controller", "system:kube-controller-manager"),
            "kube-scheduler": kube.account("scheduler", "system:kube-scheduler"),
        }
        kube.reader = kube.account("reader", "reader")
        kube.cgroup_root = cleanup.enter_context(_cgroup_root(f"{containerd.directory.name}-k8s"))
        containerd._used.add(kube.cgroup_root)  # removed once more when the last container has ended
        minor = _minor(at["kube-apiserver"])
        kube.is_old = minor < 21
        kube.commands = _commands(kube, at, configs, old=minor < 24)
        for name in ("etcd", "kube-apiserver"):
            cleanup.enter_context(_running(kube, name))
        kube.wait_for_server()
        for name in ("kube-controller-manager", "kube-scheduler", "kubelet"):
            cleanup.enter_context(_running(kube, name))
        kube._until(lambda: _ready(kube), _READY_WITHIN, "the node")
        try:
            yield kube
        finally:
            _end_pods(kube)


def _ready(kube: Cluster) -> bool:
    node = kube.request("GET", f"/api/v1/nodes/{NODE}")
    conditions = {c["type"]: c["status"] for c in node["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not node["spec"].get("taints")


def _end_pods(kube: Cluster) -> None:
    """Have kubelet end all pods, for it also unmounts what it has mounted."""
    with suppress(Exception):
        for file in kube.manifests.iterdir():
            file.unlink()
        cron = "batch/v1beta1/{}/cronjobs" if kube.is_old else "batch/v1/{}/cronjobs"  # first, for they make jobs
        apps = [f"apps/v1/{{}}/{kind}" for kind in ("deployments", "statefulsets", "daemonsets")]
        for kind in (cron, *apps, "batch/v1/{}/jobs"):
            kube.request("DELETE", f"/apis/{kind.format('namespaces/shop')}?propagationPolicy=Background")
        kube.request("DELETE", "/api/v1/namespaces/shop/pods?gracePeriodSeconds=0")
        kube._until(lambda: not kube.containerd.ctr("c", "ls", "-q", namespace="k8s.io").stdout.split(), 15, "the end")


def _commands(kube: Cluster, at: dict[str, str], configs: dict[str, Path], old: bool) -> dict[str, list[str]]:
    root = kube.root
    key = root / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], capture_output=True, check=True)
    client, peer = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    kube.etcd = client
    etcd = [at["etcd"], "--name=e", f"--data-dir={root}/etcd", f"--initial-cluster=e={peer}", "--unsafe-no-fsync"]
    etcd += [f"--{word}-client-urls={client}" for word in ("listen", "advertise")]
    etcd += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    apiserver = [
        at["kube-apiserver"], f"--etcd-servers={client}", "--bind-address=127.0.0.1",
        f"--secure-port={kube.port}", "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
        f"--cert-dir={root}/certs", f"--token-auth-file={root}/tokens.csv", "--authorization-mode=Node,RBAC",
        "--service-cluster-ip-range=198.18.240.0/24", "--allow-privileged=true", "--anonymous-auth=false",
        "--service-account-issuer=https://test.local", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
    ]  # fmt: skip
    commands = {"etcd": etcd, "kube-apiserver": apiserver}
    for name, more in (
        (
            "kube-controller-manager",
            [
                f"--service-account-private-key-file={key}",
                "--controllers=*,-nodeipam,-route",
                "--use-service-account-credentials=true",
                f"--flex-volume-plugin-dir={root}/plugins",
            ],
        ),
        ("kube-scheduler", []),
    ):
        commands[name] = [
            at[name], f"--kubeconfig={configs[name]}", f"--authentication-kubeconfig={configs[name]}",
            f"--authorization-kubeconfig={configs[name]}", "--bind-address=127.0.0.1",
            f"--secure-port={_free_port()}", f"--cert-dir={root}/certs", "--leader-elect=false", *more,
            *(["--port=0"] if old else []),
        ]  # fmt: skip
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": _free_port(),
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{kube.cgroup_root}",
        "staticPodPath": str(kube.manifests),
        "volumePluginDir": f"{root}/plugins",
        "fileCheckFrequency": "1s",
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "makeIPTablesUtilChains": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "resolvConf": "/dev/null",
    }
    (root / "kubelet.yaml").write_text(json.dumps(config))
    kubelet = [
        at["kubelet"], f"--config={root}/kubelet.yaml", f"--kubeconfig={configs['kubelet']}",
        f"--root-dir={root}/kubelet", f"--cert-dir={root}/certs", f"--hostname-override={NODE}",
        f"--container-runtime-endpoint=unix://{kube.containerd.socket}",
        *(["--container-runtime=remote"] if old else []),
    ]  # fmt: skip
    binds = ""
    for file in _SET_BY_KUBELET:
        copy = root / file.replace("/", "_")
        copy.write_text(Path("/proc/sys", file).read_text())
        binds += f"mount --bind {copy} /proc/sys/{file} && "
    commands["kubelet"] = ["unshare", "-m", "--propagation", "slave", "sh", "-c", binds + 'exec "$@"', "sh", *kubelet]
    return commands


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Cluster]:
    """A cluster for the whole session; the test is skipped where there can be none."""
    needs.root()
    needs.module("kubernetes", "eunomia[kubernetes]")
    for program, package in (("containerd", "containerd"), ("runc", "runc"), ("openssl", "openssl")):
        needs.program(program, package)
    with cluster() as running:
        yield running
