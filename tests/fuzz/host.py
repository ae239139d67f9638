# SPDX-License-Identifier: BSD-2-Clause
"""What the host says: ``/proc``, cgroups, users, and the kubeconfig. A container's processes have their say in it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tests.fuzz.target import FOLDER, Target, put


@contextmanager
def _instead(data: bytes, *modules: ModuleType) -> Iterator[None]:
    """Have modules that open a file, whichever, read these bytes."""
    path = put("instead", data)

    def opened(_: object, *args: Any, **keywords: Any) -> Any:
        return builtins.open(path, *args, **keywords)

    for module in modules:
        module.__dict__["open"] = opened
    try:
        yield
    finally:
        for module in modules:
            del module.__dict__["open"]


def _hierarchy(data: bytes) -> None:
    from eunomia import cgroup_hierarchy
    from eunomia.containers import cgroup_files

    with _instead(data, cgroup_hierarchy):
        cgroup_files.choose(cgroup_hierarchy.unified(), cgroup_hierarchy.of_first_version()[:1])


def _tree(data: bytes) -> None:
    from eunomia.containers import cgroup_files, daemons
    from eunomia.processes import running_processes

    below = FOLDER / "tree" / "docker-x.scope"
    below.mkdir(parents=True, exist_ok=True)
    with _instead(data, cgroup_files, daemons, running_processes):
        cgroup_files.path_of(1)
        cgroup_files.is_populated(str(below.parent))
        cgroup_files.first_process(str(below.parent), "")
        daemons.birth(1)
        daemons._comm("1")
        daemons.daemon_of("1")
        running_processes.process_of(1)


def _users(data: bytes) -> None:
    from eunomia.processes.users import inside, parse, spans_of

    names = parse(data)
    assert all(0 <= uid < 1 << 32 for uid in names)
    inside(0, spans_of(data))


def _environment(data: bytes) -> None:
    """Arguments of a process that calls itself a daemon."""
    from eunomia.containers.daemons import Daemon, option
    from eunomia.containers.runtimes.containerd import _daemons_places, _shims_places
    from eunomia.containers.storage import _account

    words = tuple(data.decode("utf-8", "surrogateescape").split("\0"))
    option(words, "--root", "-r")
    for daemon in (Daemon("/", arguments=words), Daemon("/", cwd=words[0] or "/", arguments=words)):
        _daemons_places(daemon)
        _shims_places(daemon)
    put("home/etc/passwd", data)
    _account(str(FOLDER / "home"), 1000)


def _kubeconfig(data: bytes) -> None:
    from eunomia.kubernetes.access import Access

    Access(put("kubeconfig", data))


_MOUNTS = rb"""26 24 0:24 / /sys/fs/cgroup\040x rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
30 26 0:28 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,pids
6:memory,pids:/docker
0::/x
"""
_PROCESS = b"""Name:\tsh
Tgid:\t7
NSpid:\t7\t1
CapEff:\t000001ffffffffff
1 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 4096 1
0::/docker/x (deleted)
populated 1
"""
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n         0     100000      65536\n"
_KUBECONFIG = b"""apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}}]
contexts: [{name: a, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: x, client-certificate-data: QQ==, client-key-data: QQ==}}]
"""


def _kubeconfig_error() -> type[Exception]:
    from eunomia.kubernetes.access import Unusable

    return Unusable


TARGETS = {
    "hierarchy": Target(lambda: [_MOUNTS], _hierarchy),
    "proc": Target(lambda: [_PROCESS, b"1\n2\n3\n"], _tree),
    "users": Target(lambda: [_PASSWD], _users),
    "arguments": Target(lambda: [b"containerd\0--config\0/etc/x\0--root=/a\0-c", _PASSWD], _environment, (), 2),
    "kubeconfig": Target(lambda: [_KUBECONFIG, _KUBECONFIG.replace(b", client-certificate-data: QQ==, client-key-data: QQ==", b"")],
                         _kubeconfig, (_kubeconfig_error(),), 4),
}  # fmt: skip
