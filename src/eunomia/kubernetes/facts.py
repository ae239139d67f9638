# SPDX-License-Identifier: BSD-2-Clause
"""Facts about this node's pods: written by threads that follow the API, read by the engine, which never waits.

Readers use dictionaries whose values are never changed, only replaced.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from eunomia.identity import Container, Pod
from eunomia.kubernetes.objects import Owner, PodContainer, PodObject, ServiceObject
from eunomia.typing import NamedTuple

LEAVING = 60.0  # seconds for which a deleted pod is remembered: its containers end later
SERVICES_SHOWN = 64  # of one pod

OwnerOf = Callable[[str, Owner], Owner | None]


class _Kept(NamedTuple):
    """A pod, and what is needed to update it."""

    pod: Pod
    namespace: str
    labels: frozenset[tuple[str, str]]
    owner: Owner
    names: tuple[str, ...]  # its uids and its containers' ids, by which it is found


class Facts:
    """Pods by uid and by container id, and changes of them.

    :attr:`descriptor` becomes readable when there are :meth:`news`.
    """

    def __init__(self, owner_of: OwnerOf | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """``owner_of`` must not block; ``clock`` gives seconds."""
        self.owner_of: OwnerOf = owner_of or (lambda _, owner: owner)
        self._clock = clock
        self._lock = Lock()
        self._pods: dict[str, _Kept] = {}  # by uid, static pods also by their uid on the node
        self._containers: dict[str, tuple[str, PodContainer]] = {}  # by container id: the pod's uid
        self._owned: dict[str, set[str]] = {}  # by the direct owner's uid
        self._neighbours: dict[str, set[str]] = {}  # by namespace: the uids of its pods
        self._services: dict[str, ServiceObject] = {}  # by uid
        # By namespace and the first label of their selectors, so that a pod's services are found by its labels.
        self._selectors: dict[str, dict[tuple[str, str], dict[str, ServiceObject]]] = {}
        self._leaving: dict[str, float] = {}  # when to forget deleted pods, by uid, in that order
        self._news: set[str] = set()
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor; nothing may be written afterwards."""
        with self._lock:
            descriptor, self.descriptor = self.descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    # For the engine

    def enrich(self, container: Container, pod: Pod | None, uid: str) -> tuple[Container, Pod | None]:
        """Return a container and its pod with the API's facts; ``uid`` is the pod's uid in the cgroup's path."""
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
        """Return the pods' uids and container ids that have changed since the last call."""
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
        """A copy of the pods by uid, also those that have just been deleted."""
        with self._lock:
            return {kept.pod.uid: kept.pod for kept in self._pods.values()}

    # For the threads

    def put(self, pod: PodObject) -> None:
        """Add or update a pod."""
        with self._lock:
            self._purge()
            self._leaving.pop(pod.uid, None)
            before = self._own(pod.uid)
            owner = self.owner_of(pod.namespace, pod.owner) if pod.owner.kind else Owner()
            if owner is None:  # not answered yet
                owner = Owner(before.pod.owner_kind, before.pod.owner_name) if before else Owner()
            labels = frozenset(pod.labels)
            facts = Pod(
                pod.name, pod.namespace, pod.uid, pod.labels, pod.annotations, "", pod.addresses, pod.node,
                owner.kind, owner.name, self._selecting(pod.namespace, labels), pod.qos,
            )  # fmt: skip
            names = tuple(dict.fromkeys(n for n in (pod.uid, pod.hash, *(c.id for c in pod.containers)) if n))
            kept = _Kept(facts, pod.namespace, labels, pod.owner, names)
            if before is not None and before.owner.uid != pod.owner.uid:
                self._disown(before)
            if pod.owner.uid:
                self._owned.setdefault(pod.owner.uid, set()).add(pod.uid)
            self._neighbours.setdefault(pod.namespace, set()).add(pod.uid)
            changed = before is None or before.pod != facts
            self._pods[pod.uid] = kept
            if pod.hash and self._own(pod.hash) is None:  # any pod may claim another's uid here
                self._pods[pod.hash] = kept
            for container in pod.containers:
                value = (pod.uid, container)
                if self._containers.get(container.id) != value:
                    self._containers[container.id] = value
                    self._announce((container.id,))
            for old in set(before.names if before else ()) - set(names):
                self._forget_name(old, pod.uid)
            if changed:
                self._announce(names)

    def drop(self, uid: str) -> None:
        """Note that a pod was deleted; it is remembered for :data:`LEAVING`."""
        with self._lock:
            self._leaving.pop(uid, None)
            self._leaving[uid] = self._clock() + LEAVING
            self._purge()

    def put_service(self, service: ServiceObject) -> None:
        """Add or update a service."""
        with self._lock:
            before = self._services.get(service.uid)
            if before is not None:
                if before._replace(version=service.version) == service:
                    return
                self._forget_service(before)
            if service.selector:  # without a selector it selects nothing
                self._services[service.uid] = service
                first = self._selectors.setdefault(service.namespace, {}).setdefault(service.selector[0], {})
                first[service.uid] = service
                self._select(service)

    def drop_service(self, uid: str) -> None:
        """Remove a service."""
        with self._lock:
            service = self._services.get(uid)
            if service is not None:
                self._forget_service(service)

    def learned(self, owner_uid: str) -> None:
        """Update the pods with this direct owner: ``owner_of`` has a new answer."""
        with self._lock:
            for uid in self._owned.get(owner_uid, ()):
                kept = self._pods[uid]
                owner = self.owner_of(kept.namespace, kept.owner)
                if owner is not None:
                    self._replace(kept, kept.pod._replace(owner_kind=owner.kind, owner_name=owner.name))

    # Under the lock

    def _announce(self, names: tuple[str, ...]) -> None:
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
        self._announce(kept.names)

    def _selecting(self, namespace: str, labels: frozenset[tuple[str, str]]) -> tuple[str, ...]:
        of_namespace = self._selectors.get(namespace, {})
        found = {
            s.name for label in labels for s in of_namespace.get(label, {}).values() if labels.issuperset(s.selector)
        }
        return tuple(sorted(found)[:SERVICES_SHOWN])

    def _selected(self, service: ServiceObject) -> list[_Kept]:
        """Return the pods that a service selects."""
        pods = (self._pods[uid] for uid in self._neighbours.get(service.namespace, ()))
        return [kept for kept in pods if kept.labels.issuperset(service.selector)]

    def _select(self, service: ServiceObject) -> None:
        """Add a new service to its pods, without searching all services: there may be thousands."""
        for kept in self._selected(service):
            names = {*kept.pod.services, service.name}
            self._replace(kept, kept.pod._replace(services=tuple(sorted(names)[:SERVICES_SHOWN])))

    def _forget_service(self, service: ServiceObject) -> None:
        del self._services[service.uid]
        of_namespace = self._selectors[service.namespace]
        first = of_namespace[service.selector[0]]
        del first[service.uid]
        if not first:
            del of_namespace[service.selector[0]]
        if not of_namespace:
            del self._selectors[service.namespace]
        for kept in self._selected(service):
            if service.name in kept.pod.services:  # else it is beyond SERVICES_SHOWN
                services = self._selecting(kept.namespace, kept.labels)
                self._replace(kept, kept.pod._replace(services=services))

    def _own(self, uid: str) -> _Kept | None:
        """Return the pod with this uid; not a static pod by its uid on the node."""
        kept = self._pods.get(uid)
        return kept if kept is not None and kept.pod.uid == uid else None

    def _purge(self) -> None:
        now = self._clock()
        while self._leaving and next(iter(self._leaving.values())) <= now:
            uid = next(iter(self._leaving))
            del self._leaving[uid]
            kept = self._own(uid)
            if kept is not None:
                self._disown(kept)
                _discard(self._neighbours, kept.namespace, kept.pod.uid)
                for name in kept.names:
                    self._forget_name(name, kept.pod.uid)

    def _forget_name(self, name: str, uid: str) -> None:
        """Forget a key of a pod, unless another pod has it now (a static pod that was made again)."""
        if name in self._pods and self._pods[name].pod.uid == uid:
            del self._pods[name]
        if name in self._containers and self._containers[name][0] == uid:
            del self._containers[name]

    def _disown(self, kept: _Kept) -> None:
        _discard(self._owned, kept.owner.uid, kept.pod.uid)


def _discard(sets: dict[str, set[str]], key: str, value: str) -> None:
    """Remove a value from one of several sets, and the set if it becomes empty."""
    if key in sets:
        sets[key].discard(value)
        if not sets[key]:
            del sets[key]
