# SPDX-License-Identifier: BSD-2-Clause
"""What is known of this node's pods: written by threads that follow the API, read by the loop, which never waits.

Readers look into dictionaries whose values are never changed, only replaced.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from eunomia.identity import Container, Pod, Texts
from eunomia.kubernetes.objects import Owner, PodContainer, PodObject, ServiceObject

LEAVING = 60.0  # seconds for which a deleted pod is remembered: its containers end after it
SERVICES_SHOWN = 64  # of one pod

OwnerOf = Callable[[str, Owner], Owner | None]


class _Kept(NamedTuple):
    """A pod and what to compute its facts from again."""

    pod: Pod
    namespace: str
    labels: Texts
    owner: Owner
    names: tuple[str, ...]  # its uids and its containers' ids: what it may be found by


class Facts:
    """Pods by uid and by container id, and the news of them.

    :attr:`descriptor` becomes readable when there are :meth:`news`.
    """

    def __init__(self, owner_of: OwnerOf | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``owner_of`` answers at once; ``clock`` gives seconds."""
        self.owner_of: OwnerOf = owner_of or (lambda _, owner: owner)
        self._clock = clock
        self._lock = Lock()
        self._pods: dict[str, _Kept] = {}  # by uid, of static pods by that on the node too
        self._containers: dict[str, tuple[str, PodContainer]] = {}  # by container id: the pod's uid
        self._owned: dict[str, set[str]] = {}  # by the direct owner's uid
        self._services: dict[str, dict[str, ServiceObject]] = {}  # by namespace and uid
        self._service_namespaces: dict[str, str] = {}
        self._leaving: deque[tuple[float, str]] = deque()
        self._news: set[str] = set()
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self) -> None:
        """Let go of the descriptor; nothing may be written afterwards."""
        with self._lock:
            descriptor, self.descriptor = self.descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    # The loop's side

    def enrich(self, container: Container, pod: Pod | None, uid: str) -> tuple[Container, Pod | None]:
        """Return a container and its pod with what the API knows of them; ``uid`` is the pod's as its cgroup has it."""
        found = self._containers.get(container.id)
        kept = self._pods.get(found[0] if found else "") or self._pods.get(pod.uid if pod else uid)
        if kept is None:
            return container, pod
        if found is not None:
            about = found[1]
            container = container._replace(
                name=container.name or about.name,
                image=container.image or about.image,
                runtime=container.runtime or about.runtime,
                image_digest=container.image_digest or about.image_digest,
                restarts=about.restarts,
            )
        sandbox = pod.sandbox if pod else ""
        known = kept.pod
        if not known.addresses and pod is not None and pod.addresses:
            known = known._replace(addresses=pod.addresses)
        return container, known._replace(sandbox=sandbox) if sandbox else known

    def news(self) -> frozenset[str]:
        """Return the pods' uids and the container ids that there is something new to know of, once."""
        if not self._news:
            return frozenset()
        with self._lock:
            news, self._news = frozenset(self._news), set()
            if self.descriptor >= 0:
                with suppress(BlockingIOError):
                    os.eventfd_read(self.descriptor)
        return news

    @property
    def pods(self) -> dict[str, Pod]:
        """A copy: the pods by their uids, those that have just been deleted too."""
        with self._lock:
            return {kept.pod.uid: kept.pod for kept in self._pods.values()}

    # The threads' side

    def put(self, pod: PodObject) -> None:
        """Take in a pod that is new or changed."""
        with self._lock:
            self._purge()
            before = self._pods.get(pod.uid)
            owner = self.owner_of(pod.namespace, pod.owner) if pod.owner.kind else Owner()
            if owner is None:  # being asked for, perhaps once more
                owner = Owner(before.pod.owner_kind, before.pod.owner_name) if before else Owner()
            facts = Pod(
                pod.name, pod.namespace, pod.uid, pod.labels, pod.annotations, "", pod.addresses, pod.node,
                owner.kind, owner.name, self._selecting(pod.namespace, pod.labels), pod.qos,
            )  # fmt: skip
            names = tuple(dict.fromkeys(n for n in (pod.uid, pod.hash, *(c.id for c in pod.containers)) if n))
            kept = _Kept(facts, pod.namespace, pod.labels, pod.owner, names)
            if before is not None and before.owner.uid != pod.owner.uid:
                self._disown(before)
            if pod.owner.uid:
                self._owned.setdefault(pod.owner.uid, set()).add(pod.uid)
            changed = before is None or before.pod != facts
            self._pods[pod.uid] = kept
            if pod.hash:
                self._pods[pod.hash] = kept
            for container in pod.containers:
                value = (pod.uid, container)
                if self._containers.get(container.id) != value:
                    self._containers[container.id] = value
                    self._tell((container.id,))
            for old in set(before.names if before else ()) - set(names):
                self._forget_name(old, pod.uid)
            if changed:
                self._tell(names)

    def drop(self, uid: str) -> None:
        """Take in that a pod was deleted; it is known for :data:`LEAVING` yet."""
        with self._lock:
            self._leaving.append((self._clock() + LEAVING, uid))
            self._purge()

    def put_service(self, service: ServiceObject) -> None:
        """Take in a service that is new or changed."""
        with self._lock:
            before = self._services.get(service.namespace, {}).get(service.uid)
            if service.selector:  # one without selects nothing
                self._services.setdefault(service.namespace, {})[service.uid] = service
                self._service_namespaces[service.uid] = service.namespace
            elif before is not None:
                self._forget_service(service.uid)
            if before is None or before.selector != service.selector:
                self._select_again(service.namespace)

    def drop_service(self, uid: str) -> None:
        """Take in that a service was deleted."""
        with self._lock:
            namespace = self._forget_service(uid)
            if namespace:
                self._select_again(namespace)

    def learned(self, owner_uid: str) -> None:
        """Take in that ``owner_of`` has more to say of pods with this direct owner."""
        with self._lock:
            for uid in self._owned.get(owner_uid, ()):
                kept = self._pods[uid]
                owner = self.owner_of(kept.namespace, kept.owner)
                if owner is not None:
                    self._replace(kept, kept.pod._replace(owner_kind=owner.kind, owner_name=owner.name))

    # Under the lock

    def _tell(self, names: tuple[str, ...]) -> None:
        if not self._news and self.descriptor >= 0:
            os.eventfd_write(self.descriptor, 1)
        self._news.update(names)

    def _replace(self, kept: _Kept, pod: Pod) -> None:
        if kept.pod == pod:
            return
        after = kept._replace(pod=pod)
        for name in kept.names:
            if self._pods.get(name) is kept:
                self._pods[name] = after
        self._tell(kept.names)

    def _selecting(self, namespace: str, labels: Texts) -> tuple[str, ...]:
        has = set(labels)
        found = [s.name for s in self._services.get(namespace, {}).values() if has.issuperset(s.selector)]
        return tuple(sorted(found)[:SERVICES_SHOWN])

    def _select_again(self, namespace: str) -> None:
        for kept in {id(k): k for k in self._pods.values() if k.namespace == namespace}.values():
            self._replace(kept, kept.pod._replace(services=self._selecting(namespace, kept.labels)))

    def _forget_service(self, uid: str) -> str:
        namespace = self._service_namespaces.pop(uid, "")
        of_namespace = self._services.get(namespace, {})
        of_namespace.pop(uid, None)
        if not of_namespace:
            self._services.pop(namespace, None)
        return namespace

    def _purge(self) -> None:
        now = self._clock()
        while self._leaving and self._leaving[0][0] <= now:
            kept = self._pods.get(self._leaving.popleft()[1])
            if kept is not None:
                self._disown(kept)
                for name in kept.names:
                    self._forget_name(name, kept.pod.uid)

    def _forget_name(self, name: str, uid: str) -> None:
        """Forget what a pod was found by, unless that is another's by now (a static pod's, made anew)."""
        if name in self._pods and self._pods[name].pod.uid == uid:
            del self._pods[name]
        if name in self._containers and self._containers[name][0] == uid:
            del self._containers[name]

    def _disown(self, kept: _Kept) -> None:
        owned = self._owned.get(kept.owner.uid)
        if owned is not None:
            owned.discard(kept.pod.uid)
            if not owned:
                del self._owned[kept.owner.uid]
