# SPDX-License-Identifier: BSD-2-Clause
"""Watcher of the API for one node: its pods, the services that select them, and their owners.

Services are watched for the whole cluster, as kube-proxy does on each node: one watch instead of one for each
namespace. Only names and selectors are kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Set
from threading import Event, Thread

from eunomia.identity import Container, Pod
from eunomia.kubernetes import objects
from eunomia.kubernetes.access import Api, Refused, TooLong, Unreachable
from eunomia.kubernetes.facts import Facts
from eunomia.kubernetes.follower import PAUSE, PAUSE_LIMIT, Follower
from eunomia.kubernetes.owners import Owners
from eunomia.meaning import node_given

PODS = "/api/v1/pods"
SERVICES = "/api/v1/services"
NODES = "/api/v1/nodes"
PODS_LIMIT = 4096  # of one node; kubelet's default limit is 110
SERVICES_LIMIT = 20_000
_JOIN = 0.5  # seconds for all threads to end
_NODES_NAMED = 5
_PAUSE = 0.01  # seconds
_FAULTS = 8  # unexpected errors that are reported


class Watcher:
    """Threads that follow the API, and their facts, for the registry.

    :meth:`start` them, call :meth:`enrich` at any time and :meth:`news` when :attr:`descriptor` is readable, then
    :meth:`close`.
    """

    def __init__(
        self,
        api: Api,
        node: str,
        say: Callable[[str], None],
        *,
        pause: float = PAUSE,
        pause_limit: float = PAUSE_LIMIT,
    ) -> None:
        """``say`` gets sentences for the user, from any thread; pauses are seconds, see :class:`Follower`."""
        self._api = api
        self._node = node
        self._say = say
        self._pause_limit = pause_limit
        self._stopping = Event()
        self._facts = Facts()
        self._owners = Owners(api, self._facts.learned, say, 4 * pause, pause_limit)
        self._facts.owner_of = self._owners.of
        self._pods = Follower(
            api, "pods", PODS, {"fieldSelector": f"spec.nodeName={node}"}, objects.pod,
            put=self._facts.put, drop=self._facts.drop, say=say, listed=self._check_node,
            pause=pause, pause_limit=pause_limit, limit=PODS_LIMIT,
        )  # fmt: skip
        self._services = Follower(
            api, "services", SERVICES, {}, objects.service,
            put=self._facts.put_service, drop=self._facts.drop_service, say=say,
            pause=pause, pause_limit=pause_limit, limit=SERVICES_LIMIT,
        )  # fmt: skip
        self._node_is_checked = False
        self._threads: list[Thread] = []

    @property
    def descriptor(self) -> int:
        """Readable when there are :meth:`news`."""
        return self._facts.descriptor

    @property
    def pods(self) -> dict[str, Pod]:
        """The known pods by uid."""
        return self._facts.pods

    def start(self) -> None:
        """Start the threads."""
        for run in (self._pods.run, self._services.run, self._owners.run):
            thread = Thread(target=self._guard, args=(run,), name="kubernetes", daemon=True)
            thread.start()
            self._threads.append(thread)

    def settle(self, seconds: float) -> None:
        """Wait for the first answers, at most so long."""
        end = time.monotonic() + seconds
        for follower in (self._pods, self._services):
            follower.tried.wait(max(0.0, end - time.monotonic()))
        while self._owners.is_asking and time.monotonic() < end:
            time.sleep(_PAUSE)

    def close(self) -> None:
        """End the threads; one that waits for the network ends with the process."""
        self._stopping.set()
        for part in (self._pods, self._services, self._owners):
            part.stop()
        end = time.monotonic() + _JOIN
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._facts.close()

    def enrich(self, container: Container, pod: Pod | None, uid: str) -> tuple[Container, Pod | None]:
        """Return a container and its pod with the API's facts; never blocks."""
        return self._facts.enrich(container, pod, uid)

    def news(self) -> Set[str]:
        """Return the pods' uids and container ids that have changed since the last call."""
        return self._facts.news()

    def _guard(self, run: Callable[[], None]) -> None:
        """Run until stopped; after an unexpected error, report it and run again after a pause."""
        said: set[str] = set()
        while not self._stopping.is_set():
            try:
                run()
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                if len(said) < _FAULTS and what not in said and not self._stopping.is_set():
                    said.add(what)
                    self._say(f"following Kubernetes failed and is started again: {what}")
                self._stopping.wait(self._pause_limit)

    def _check_node(self, pods: int) -> None:
        """Warn if a node without pods does not exist; the list of pods has reported other errors."""
        if self._node_is_checked or pods:
            return
        self._node_is_checked = True
        if unlike_a_name(self._node):
            self._say(f"{self._node!r} cannot be a node's name: give it with --node, or in $NODE_NAME")
            return
        try:
            self._api.get(f"{NODES}/{self._node}", {"resourceVersion": "0"}, 10.0).close()
        except Unreachable:
            self._node_is_checked = False  # try again with the next list
        except Refused as error:
            if error.status == 404:
                self._say(
                    f"Kubernetes has no node {self._node}: no pod will be known until it has. "
                    f"Give the node's name with --node, or in $NODE_NAME{self._others()}"
                )

    def _others(self) -> str:
        try:
            answer = self._api.get(NODES, {"limit": str(_NODES_NAMED), "resourceVersion": "0"}, 10.0)
            try:
                found = objects.page(answer.read())
            finally:
                answer.close()
            names = [objects.name(item) for item in found.items[:_NODES_NAMED]]
        except (Refused, Unreachable, TooLong, objects.Malformed):
            return ""
        more = ", ..." if found.rest or len(found.items) > _NODES_NAMED else ""
        return f" (there are {', '.join(names)}{more})" if names else ""


def node_name(given: str = "") -> str:
    """Return this node's name: as given, from $EUNOMIA_NODE or $NODE_NAME, or the host's in lower case."""
    return given or node_given() or os.uname().nodename.lower()


def unlike_a_name(name: str) -> bool:
    """Whether a name cannot be a node's (a DNS subdomain, RFC 1123)."""
    return len(name) > 253 or not name or bool(name.strip("abcdefghijklmnopqrstuvwxyz0123456789-."))
