# SPDX-License-Identifier: BSD-2-Clause
"""Kubernetes' Container Runtime Interface, by its socket: for hosts whose runtime's files cannot be read.

That is so in a pod with nothing but the socket mounted. A thread asks (:mod:`..cri_client`); the registry, which
asks again for some seconds, is told "not known" meanwhile. Asked last, and only for what is in a pod by its cgroup,
so that gRPC (15 MB of resident memory) is imported only where there is a need for it and a socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from eunomia.containers.kubepods import pod_uid, qos
from eunomia.containers.paths import is_id
from eunomia.containers.runtime import Metadata
from eunomia.identity import Container
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.containers.cri_client import Asker, Service

LAST = True  # after all that read the disk

SOCKETS = ("/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/k3s/containerd/containerd.sock")
ENDPOINT = "CONTAINER_RUNTIME_ENDPOINT"  # crictl's and kubelet's word for it
SEARCH_PAUSE = 1_000_000_000  # ns between two looks for sockets


class Cri:
    """Asks the runtimes' sockets, in a thread that is started with the first question."""

    name = "cri"
    quick = True

    def __init__(
        self,
        sockets: Sequence[str] | None = None,
        clock: Callable[[], int] = monotonic_ns,
        dial: Callable[[str], Service] | None = None,
    ) -> None:
        """``sockets`` replaces the usual ones, ``dial`` gRPC; ``clock`` gives monotonic nanoseconds."""
        self._sockets = tuple(sockets) if sockets is not None else _usual()
        self._clock = clock
        self._dial = dial
        self._searched: int | None = None
        self._there: list[str] = []
        self._asker: Asker | None = None
        self._told: Callable[[str], None] = _nobody

    def wake_with(self, told: Callable[[str], None]) -> None:
        """Call ``told`` with the id of each container that a runtime has answered about; see :class:`Wakes`."""
        self._told = told

    def recognises(self, parent: str, name: str) -> str:
        """Return nothing: names alone don't tell that it is CRI's."""
        return ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return what the runtime answered, or ``None`` while it is asked; see :class:`Runtime`."""
        if not is_id(container_id) or not pod_uid(path):
            return None
        self._search()
        if self._asker is None:
            if not self._there:
                return None
            from eunomia.containers.cri_client import Asker

            self._asker = Asker(self._dial, self._clock, self._told)
        found = self._asker.answer(container_id, self._there)
        if found is None or found.pod is None:
            return found
        return found._replace(pod=found.pod._replace(qos=qos(path)))

    def watches(self, container: Container, path: str) -> Sequence[str]:
        """Return nothing: a socket's answers cannot be watched."""
        return ()

    def changed(self, container: Container, path: str) -> bool:
        """Return False: what CRI tells of a container stays as it was made."""
        return False

    def _search(self) -> None:
        now = self._clock()
        if self._searched is None or now - self._searched >= SEARCH_PAUSE:
            self._searched = now
            self._there = [s for s in self._sockets if os.path.exists(s)]


def _nobody(_: str) -> None:
    """Wake nobody."""


def _usual() -> tuple[str, ...]:
    given = os.environ.get(ENDPOINT, "").removeprefix("unix://")
    return (given,) if given.startswith("/") else SOCKETS


RUNTIME = Cri
