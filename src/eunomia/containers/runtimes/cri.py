# SPDX-License-Identifier: BSD-2-Clause
"""Any runtime of Kubernetes, by its CRI socket, for containers whose files cannot be read.

That is the case in a pod with only the socket mounted. A thread asks (:mod:`..cri_client`); until it has the answer,
the container is not known, and the registry asks again for some seconds. It is asked last, and only for cgroups in
pods, so that gRPC (15 MB of resident memory) is imported only if it is needed and there is a socket.
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
    from eunomia.containers.cri_client import CriClient, Service

LAST = True  # after all that read files

SOCKETS = ("/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/k3s/containerd/containerd.sock")
ENDPOINT = "CONTAINER_RUNTIME_ENDPOINT"  # as crictl and kubelet call it
SEARCH_PAUSE = 1_000_000_000  # ns between two searches for sockets


class Cri:
    """Asks the runtimes' sockets, in a thread that the first question starts."""

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
        self._client: CriClient | None = None
        self._notify: Callable[[str], None] = _ignore

    def notify_with(self, notify: Callable[[str], None]) -> None:
        """Call ``notify`` with the id of each container that a runtime has answered for; see :class:`Wakes`."""
        self._notify = notify

    def recognises(self, parent: str, name: str) -> str:
        """Return nothing: names alone don't say that a container is CRI's."""
        return ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return the runtime's answer, or ``None`` until it comes; see :class:`Runtime`."""
        if not is_id(container_id) or not pod_uid(path):
            return None
        self._search()
        if self._client is None:
            if not self._there:
                return None
            from eunomia.containers.cri_client import CriClient

            self._client = CriClient(self._dial, self._clock, self._notify)
        found = self._client.answer(container_id, self._there)
        if found is None or found.pod is None:
            return found
        return found._replace(pod=found.pod._replace(qos=qos(path)))

    def watches(self, container: Container, path: str) -> Sequence[str]:
        """Return nothing: a socket's answers cannot be watched."""
        return ()

    def changed(self, container: Container, path: str) -> bool:
        """Return False: a container's metadata in CRI does not change."""
        return False

    def _search(self) -> None:
        now = self._clock()
        if self._searched is None or now - self._searched >= SEARCH_PAUSE:
            self._searched = now
            self._there = [s for s in self._sockets if os.path.exists(s)]


def _ignore(_: str) -> None:
    """Do nothing."""


def _usual() -> tuple[str, ...]:
    given = os.environ.get(ENDPOINT, "").removeprefix("unix://")
    return (given,) if given.startswith("/") else SOCKETS


RUNTIME = Cri
