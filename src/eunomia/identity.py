# SPDX-License-Identifier: BSD-2-Clause
"""Identity of a row: the container and pod that it belongs to.

Identities are immutable, and all rows of a cgroup share one. Texts are untrusted: their lengths are limited where they
are read (:mod:`eunomia.metadata_limits`), and sinks escape them.
"""

from __future__ import annotations

from eunomia.typing import NamedTuple

# How far the identity is known; every row has one of these.
HOST = "host"  # not in a container
RESOLVED = "resolved"  # the runtime's own metadata was read
PENDING = "pending"  # a container by its cgroup, metadata not known yet
UNKNOWN = "unknown"  # cannot be found out

Texts = tuple[tuple[str, str], ...]  # labels and annotations, sorted by key

# Values of a container's `state`, as Docker calls them.
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
EXITED = "exited"


class Mount(NamedTuple):
    """A mount of a container at ``destination``; ``source`` is a host's path, a volume, a file system's name."""

    source: str
    destination: str
    type: str = ""
    writable: bool = True


class Container(NamedTuple):
    """A container; unknown texts are empty, and other unknown values None, 0 or ().

    ``id`` is the runtime's full id. ``image`` is as its user wrote it, ``image_id`` the digest of the
    image's configuration, ``image_digest`` that of its manifest (both ``sha256:...``). ``capabilities`` are the
    bounding set, as ``CAP_...``. ``seccomp`` and ``apparmor`` name the profiles (``unconfined`` for none,
    ``default`` for the runtime's). ``network`` is the mode (``bridge``, ``host``, ``none``, a network's name).
    ``pid`` is the first process's, as the host sees it. ``created`` and ``started`` are nanoseconds since the
    epoch. ``sandbox`` marks a pod's own container (pause).
    """

    id: str
    name: str = ""
    image: str = ""
    runtime: str = ""
    image_id: str = ""
    image_digest: str = ""
    labels: Texts = ()
    annotations: Texts = ()
    command: tuple[str, ...] = ()
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    privileged: bool | None = None
    capabilities: tuple[str, ...] | None = None
    seccomp: str = ""
    apparmor: str = ""
    network: str = ""
    addresses: tuple[str, ...] = ()
    pid: int = 0
    state: str = ""
    created: int = 0
    started: int = 0
    restarts: int | None = None
    sandbox: bool = False


class Pod(NamedTuple):
    """A Kubernetes pod. ``sandbox`` is the id of its own container.

    The owner is the top one: a Deployment rather than its ReplicaSet, a CronJob rather than its Job.
    ``node``, the owner and ``services``, which select it, come from the Kubernetes API only.
    """

    name: str
    namespace: str
    uid: str
    labels: Texts = ()
    annotations: Texts = ()
    sandbox: str = ""
    addresses: tuple[str, ...] = ()
    node: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    services: tuple[str, ...] = ()
    qos: str = ""


class Identity(NamedTuple):
    """The container and pod of a cgroup; ``parents`` are the ids of the containers around it, outermost first."""

    state: str
    container: Container | None = None
    pod: Pod | None = None
    parents: tuple[str, ...] = ()


ON_HOST = Identity(HOST)
UNKNOWN_IDENTITY = Identity(UNKNOWN)
