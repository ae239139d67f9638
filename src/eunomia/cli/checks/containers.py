# SPDX-License-Identifier: BSD-2-Clause
"""Checks of what identities of rows depend on: cgroups, namespaces, runtimes, running containers."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from eunomia.cli.checks import OK, UNKNOWN, WARN, Finding
from eunomia.containers import cgroup_files
from eunomia.containers.daemons import DataRoot
from eunomia.containers.registry import Registry
from eunomia.containers.running import running
from eunomia.containers.runtimes.containerd import Containerd
from eunomia.containers.runtimes.crio import Crio
from eunomia.containers.runtimes.docker import Docker
from eunomia.containers.storage import Store
from eunomia.faults import Faults
from eunomia.identity import RESOLVED
from eunomia.kernel.own_pid import FIRST_NAMESPACE

# the latter is PROC_CGROUP_INIT_INO, include/linux/proc_ns.h
_FIRST = {"pid": FIRST_NAMESPACE, "cgroup": "cgroup:[4026531835]"}

_NAMED = 3  # containers without a name that are listed


def findings() -> Iterator[Finding]:
    """Yield the findings about containers."""
    yield _cgroups()
    yield _pid_namespace()
    yield _cgroup_namespace()
    faults = Faults()
    docker = Docker()
    faults.call("the search for Docker", None, docker.search)
    daemons = [root for root in docker.roots if _is_used(root) is not False]
    yield _docker(daemons)
    yield _containerd(faults)
    yield _crio(faults)
    yield from _containers(faults)
    yield from _faults(faults)


def _cgroups() -> Finding:
    used = cgroup_files.current()
    why = f" ({used.why})" if used.why else ""
    if used.mount is None:
        return Finding(
            "cgroups", WARN, f"the containers of rows cannot be found{why}",
            "mount -t cgroup2 none /sys/fs/cgroup, before containers are started",
        )  # fmt: skip
    if used.version == 2:
        return Finding("cgroups", OK, f"version 2 at {used.mount} is used{why}")
    found = f"version 1, {used.controller} at {used.mount}, is used{why}"
    try:
        used.constants()
    except OSError as error:
        return Finding("cgroups", WARN, f"{found}; {error}", "run a kernel with BTF that names its controllers")
    # bpf_get_current_cgroup_id() only knows v2
    return Finding(
        "cgroups", OK, f"{found}; cgroup ids in foreign objects are version 2's: their rows are "
        "joined by process id, if they have one",
    )  # fmt: skip


def _namespace(kind: str) -> bool | None:
    try:
        return os.readlink(f"/proc/self/ns/{kind}") == _FIRST[kind]
    except OSError:
        return None


def _pid_namespace() -> Finding:
    first = _namespace("pid")
    if first is None:
        return Finding("PID namespace", UNKNOWN, "/proc/self/ns/pid cannot be read")
    if first:
        return Finding("PID namespace", OK, "the host's")
    return Finding(
        "PID namespace", WARN, "not the host's: --pid takes the host's numbers, and rows with only these are unknown",
        "start Eunomia's container with --pid=host",
    )  # fmt: skip


def _cgroup_namespace() -> Finding:
    first = _namespace("cgroup")
    if first is None:
        return Finding("cgroup namespace", UNKNOWN, "/proc/self/ns/cgroup cannot be read")
    if first:
        return Finding("cgroup namespace", OK, "the host's")
    return Finding(
        "cgroup namespace", WARN, "not the host's: containers beside this one stay unknown",
        "start Eunomia's container with --cgroupns=host",
    )  # fmt: skip


def _is_used(root: DataRoot) -> bool | None:
    """Return whether a data root holds containers' metadata; None if it cannot be read."""
    try:
        return stat.S_ISDIR(os.stat(f"{root.base.rstrip('/')}{root.path}/containers").st_mode)
    except PermissionError:
        return None
    except (OSError, ValueError):
        return False


def _docker(roots: list[DataRoot]) -> Finding:
    if not roots:
        return Finding("Docker", OK, "none found")
    shown = ", ".join(dict.fromkeys(root.path + (f" (process {root.pid})" if root.pid else "") for root in roots))
    if any(_is_used(root) is None for root in roots):
        return Finding("Docker", UNKNOWN, f"data at {shown}, which only root can read", "sudo eunomia doctor")
    return Finding("Docker", OK, f"data at {shown}")


def _containerd(faults: Faults) -> Finding:
    runtime = Containerd()
    faults.call("the search for containerd", None, runtime.search)
    if not runtime.states:
        return Finding("containerd", OK, "none found")
    shown = dict.fromkeys(s.path + (f" (process {s.pid})" if s.pid else "") for s in runtime.states)
    found = f"bundles at {', '.join(shown)}"
    if not all(os.access(s.shown(s.path), os.R_OK | os.X_OK) for s in runtime.states):
        return Finding("containerd", UNKNOWN, f"{found}, which only root can read", "sudo eunomia doctor")
    return Finding("containerd", OK, found)


def _faults(faults: Faults) -> Iterator[Finding]:
    for (reader, kind), count in sorted(faults.counts.items()):
        yield Finding(
            "readers", WARN, f"{reader} failed {count} times ({kind}): its data is missing",
            "please report it, with what EUNOMIA_DEBUG=1 eunomia containers shows",
        )  # fmt: skip


def _crio(faults: Faults) -> Finding:
    stores = faults.call("the search for CRI-O", list[Store](), Crio().search)
    if not stores:
        return Finding("CRI-O", OK, "none found")
    shown = [path for store in stores for path in (store.root.path, store.run) if path]
    found = f"containers at {', '.join(dict.fromkeys(shown))}"
    if not all(os.access(store.root.shown(store.root.path), os.R_OK | os.X_OK) for store in stores):
        return Finding("CRI-O", UNKNOWN, f"{found}, which only root can read", "sudo eunomia doctor")
    return Finding("CRI-O", OK, found)


def _containers(faults: Faults) -> Iterator[Finding]:
    registry = Registry(faults=faults)
    registry.start()
    registry.watcher.watch("doctor", ["/proc"])  # in case no container runs
    yield _inotify(bool(registry.watcher.unwatched))
    yield _named(registry)


def _inotify(unwatched: bool) -> Finding:
    """Return whether changes of runtimes' files are reported by the kernel."""
    if unwatched:
        return Finding(
            "inotify", WARN, "the kernel watches no more files for this user: containers are checked every few "
            "seconds for a new name or state",
            "raise fs.inotify.max_user_watches, or fs.inotify.max_user_instances, by sysctl",
        )  # fmt: skip
    return Finding("inotify", OK, "changes of runtimes' files are reported immediately")


def _named(registry: Registry) -> Finding:
    states = {i.container: i.state for i in running(registry) if i.container is not None}
    unnamed = [c.id[:12] for c, state in states.items() if state != RESOLVED]
    runtimes = sorted({c.runtime for c in states if c.runtime})
    of = f" ({', '.join(runtimes)})" if runtimes else ""
    found = f"{len(states)} running{of}, {len(states) - len(unnamed)} with name and image"
    if not unnamed:
        return Finding("containers", OK, found if states else "none running")
    some = ", ".join(unnamed[:_NAMED]) + (", ..." if len(unnamed) > _NAMED else "")
    do = "check which runtime made them, and whether its files can be read"
    if os.geteuid():
        return Finding("containers", UNKNOWN, f"{found}; not: {some}", "sudo eunomia doctor")
    return Finding("containers", WARN, f"{found}; not: {some}", do)
