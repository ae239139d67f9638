# SPDX-License-Identifier: BSD-2-Clause
"""List of running containers, with first process and state as the kernel reports them."""

from __future__ import annotations

import os
import time

from eunomia.containers.entry import ContainerEntry
from eunomia.containers.registry import Registry
from eunomia.identity import PAUSED, PENDING, RUNNING, Identity
from eunomia.kernel_clock import monotonic_ns

PATIENCE = 1_000_000_000  # ns to wait for runtimes to name the containers
_PAUSE = 0.02  # s between two checks


def running(registry: Registry, patience: int = PATIENCE) -> list[Identity]:
    """Return the identities of running containers, sorted by name; wait up to ``patience`` ns for missing names.

    ``pid``, ``state`` and ``started`` are filled in if the runtime does not say.
    """
    end = monotonic_ns() + patience
    while any(_is_pending(registry, entry) for entry in registry.entries()) and (now := monotonic_ns()) < end:
        registry.tick(now)
        time.sleep(_PAUSE)
    found = [_completed(registry, entry) for entry in registry.entries() if registry.is_populated(entry)]
    return sorted(
        (i for i in found if i.container is not None),
        key=lambda i: (i.container.name or "\uffff", i.container.id) if i.container else ("", ""),
    )


def _is_pending(registry: Registry, entry: ContainerEntry) -> bool:
    return entry.identity is not None and entry.identity.state == PENDING and registry.is_populated(entry)


def _completed(registry: Registry, entry: ContainerEntry) -> Identity:
    identity = entry.identity
    assert identity is not None
    container = identity.container
    if container is None:
        return identity
    pid = registry.first_process(entry)
    return identity._replace(
        container=container._replace(
            pid=pid,
            state=PAUSED if registry.is_frozen(entry, pid) else RUNNING,
            started=container.started or _started(pid),
        )
    )


def _started(pid: int) -> int:
    """Return when a process was started, in nanoseconds since the epoch; 0 if it has ended."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if not pid or len(fields) < 20:
        return 0
    since = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")
    return time.time_ns() - since


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4096).strip()
    except OSError:
        return b""
