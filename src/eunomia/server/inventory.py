# SPDX-License-Identifier: BSD-2-Clause
"""What runs on this machine: containers and processes."""

from __future__ import annotations

from typing import Any

from eunomia.columns.joined import OWNER, members, nouns
from eunomia.containers.running import running
from eunomia.identity import Identity
from eunomia.server.hub import Hub
from eunomia.server.models import Containers, Processes


def containers(hub: Hub) -> Containers:
    """Return the containers that run, of all runtimes."""
    found = hub.do(lambda: running(hub.engine.registry, 0) if hub.engine.registry is not None else [])
    return Containers([owner(identity) for identity in found])


def owner(identity: Identity) -> dict[str, Any]:
    """Return an identity as rows show it, with all columns."""
    shown: dict[str, Any] = {}
    for noun in nouns(OWNER):
        if getattr(identity, noun) is not None:
            shown[noun] = {column.member: column.take(identity) for column in members(f"{noun}.*")}
    shown["identity"] = identity.state
    return shown


def processes(hub: Hub) -> Processes:
    """Return the processes that run, each before its children."""
    from eunomia.engine.process_tree import placed, snapshot
    from eunomia.processes.users import Users

    table = snapshot(Users(hub.faults))

    def join() -> list[tuple[Any, Identity]]:
        registry = hub.engine.registry
        assert registry is not None
        return [(p, registry[p.cgroup_id] if p.cgroup_id else registry.by_pid(p.pid)) for p in table]

    rows = []
    for entry in placed(hub.do(join)):
        process = entry.process
        rows.append(
            {
                "pid": process.pid, "ppid": process.ppid, "comm": process.comm, "exe": process.exe,
                "argv": list(process.argv), "user": process.user, "depth": entry.depth, **owner(entry.identity),
            }
        )  # fmt: skip
    return Processes(rows)
