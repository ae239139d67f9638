# SPDX-License-Identifier: BSD-2-Clause
"""Decoder of the API's objects: the few fields that are used; msgspec skips the others.

Field names are those of the API reference (core/v1, meta/v1).
"""

from __future__ import annotations

import msgspec

from eunomia.identity import Texts
from eunomia.metadata_limits import TEXTS_LIMIT, bounded, texts
from eunomia.typing import NamedTuple, TypeVar

CONTAINERS_LIMIT = 256  # of one pod that are kept

# kubectl's copy of the whole object: long, and may contain secrets of the pod's environment
_NOT_KEPT = "kubectl.kubernetes.io/last-applied-configuration"
_CONFIG_HASH = "kubernetes.io/config.hash"
_CONFIG_MIRROR = "kubernetes.io/config.mirror"  # kubelet deletes other pods with this annotation
_FINISHED = {"Succeeded", "Failed"}

_T = TypeVar("_T")


class Malformed(Exception):
    """The answer is not valid."""


class Owner(NamedTuple):
    """The controller of an object; empty for none."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    group: str = ""


class PodContainer(NamedTuple):
    """A container in a pod's status."""

    id: str
    runtime: str
    name: str
    image: str
    image_digest: str
    restarts: int


class PodObject(NamedTuple):
    """A pod in the API. ``hash`` is a static pod's uid on its node, as in its cgroups' paths."""

    uid: str
    name: str
    namespace: str
    version: str
    labels: Texts
    annotations: Texts
    node: str
    owner: Owner
    addresses: tuple[str, ...]
    qos: str
    hash: str
    containers: tuple[PodContainer, ...]
    is_finished: bool = False  # all of its containers have ended for good


class ServiceObject(NamedTuple):
    """A service and the labels that it selects by."""

    uid: str
    name: str
    namespace: str
    version: str
    selector: Texts
    is_finished: bool = False  # never


class Page(NamedTuple):
    """A page of a list; ``rest`` is the token of the next page, empty at the end."""

    version: str
    rest: str
    items: list[msgspec.Raw]


class Event(NamedTuple):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _Reference(msgspec.Struct, rename="camel"):
    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool | None = None


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Reference] | None = None


class _Address(msgspec.Struct):
    ip: str = ""


class _Ended(msgspec.Struct):
    container_id: str = msgspec.field(default="", name="containerID")


class _State(msgspec.Struct):
    terminated: _Ended | None = None


class _ContainerStatus(msgspec.Struct, rename="camel"):
    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
    restart_count: int = 0
    last_state: _State | None = None


class _PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[_Address] | None = msgspec.field(default=None, name="podIPs")
    qos_class: str = ""
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _ServiceSpec(msgspec.Struct):
    selector: dict[str, str] | None = None


class _Service(msgspec.Struct):
    metadata: _Meta
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)


class _Bare(msgspec.Struct):
    metadata: _Meta


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    rest: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)
_pod = msgspec.json.Decoder(_Pod)
_service = msgspec.json.Decoder(_Service)
_bare = msgspec.json.Decoder(_Bare)
_list = msgspec.json.Decoder(_List)
_event = msgspec.json.Decoder(_Event)
_status = msgspec.json.Decoder(_Status)


def pod(data: bytes | msgspec.Raw) -> PodObject:
    """Read a pod; raises :class:`Malformed`."""
    found = _decoded(_pod, data)
    meta, status = found.metadata, found.status
    if not meta.uid:
        raise Malformed("a pod without a uid")
    annotations = meta.annotations or {}
    annotations.pop(_NOT_KEPT, None)
    # podIPs repeats podIP first
    addresses = [a.ip for a in status.pod_ips or ()] or [status.pod_ip]
    return PodObject(
        bounded(meta.uid),
        bounded(meta.name),
        bounded(meta.namespace),
        bounded(meta.resource_version),
        texts(meta.labels),
        texts(annotations),
        bounded(found.spec.node_name),
        _controller(meta),
        tuple(bounded(a) for a in addresses[:TEXTS_LIMIT] if a),
        bounded(status.qos_class),
        bounded(annotations.get(_CONFIG_HASH)) if _CONFIG_MIRROR in annotations else "",
        _containers(status),
        status.phase in _FINISHED,
    )


def service(data: bytes | msgspec.Raw) -> ServiceObject:
    """Read a service; raises :class:`Malformed`."""
    found = _decoded(_service, data)
    meta = found.metadata
    if not meta.uid:
        raise Malformed("a service without a uid")
    name, namespace = bounded(meta.name), bounded(meta.namespace)
    return ServiceObject(bounded(meta.uid), name, namespace, bounded(meta.resource_version), texts(found.spec.selector))


def owner(data: bytes | bytearray | msgspec.Raw) -> tuple[str, Owner]:
    """Return the uid of an object of any kind, and its controller; raises :class:`Malformed`."""
    meta = _decoded(_bare, data).metadata
    return bounded(meta.uid), _controller(meta)


def page(data: bytes | bytearray) -> Page:
    """Read a page of a list; raises :class:`Malformed`."""
    found = _decoded(_list, data)
    return Page(found.metadata.resource_version, found.metadata.rest, found.items or [])


def event(line: bytes | bytearray) -> Event:
    """Read a line of a watch; raises :class:`Malformed`."""
    found = _decoded(_event, line)
    return Event(found.type, found.object)


def version(data: bytes | msgspec.Raw) -> str:
    """Return an object's resourceVersion; raises :class:`Malformed`."""
    return bounded(_decoded(_bare, data).metadata.resource_version)


def name(data: bytes | msgspec.Raw) -> str:
    """Return an object's name; raises :class:`Malformed`."""
    return bounded(_decoded(_bare, data).metadata.name)


def code(data: bytes | bytearray | msgspec.Raw) -> tuple[int, str]:
    """Return the code and message of a Status, which ends a watch; raises :class:`Malformed`."""
    found = _decoded(_status, data)
    return found.code, bounded(found.message)


def message_of(data: bytes | bytearray) -> str:
    """Return the message in an error's body; empty if there is none."""
    try:
        return code(data)[1]
    except Malformed:
        return ""


def _decoded(decoder: msgspec.json.Decoder[_T], data: bytes | bytearray | msgspec.Raw) -> _T:
    try:
        return decoder.decode(data)
    except _ERRORS as error:
        raise Malformed(" ".join(str(error).split())[:200]) from None


def _controller(meta: _Meta) -> Owner:
    for one in meta.owner_references or ():
        if one.controller:
            group = one.api_version.rpartition("/")[0]
            return Owner(bounded(one.kind), bounded(one.name), bounded(one.uid), bounded(group))
    return Owner()


def _containers(status: _PodStatus) -> tuple[PodContainer, ...]:
    found: list[PodContainer] = []
    for one in (
        *(status.container_statuses or ()),
        *(status.init_container_statuses or ()),
        *(status.ephemeral_container_statuses or ()),
    ):
        last = one.last_state.terminated if one.last_state else None
        digest = one.image_id.rpartition("@")[2] if "@sha256:" in one.image_id else ""
        for at, restarts in ((one.container_id, one.restart_count), (last.container_id if last else "", None)):
            runtime, sign, container_id = at.partition("://")
            if not sign or not container_id or len(found) == CONTAINERS_LIMIT:
                continue
            count = one.restart_count - 1 if restarts is None else restarts
            found.append(
                PodContainer(
                    bounded(container_id), bounded(runtime), bounded(one.name), bounded(one.image),
                    bounded(digest), max(0, count),
                )
            )  # fmt: skip
    return tuple(found)
