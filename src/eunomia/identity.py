# SPDX-License-Identifier: BSD-2-Clause
"""Whose row it is: the nouns that enrichers fill and sinks print.

They are as immutable as texts, so that one stands for all rows of its cgroup. Texts come from strangers: their
lengths are bounded where they are read (:mod:`eunomia.metadata_limits`), and sinks escape them.
"""

from __future__ import annotations

from eunomia.typing import NamedTuple

# How far the join got; every row says one of these, never a silent blank.
HOST = "host"  # not in a container
RESOLVED = "resolved"  # the runtime's own metadata was read
PENDING = "pending"  # a container by its cgroup, metadata not there yet
UNKNOWN = "unknown"  # nothing tells whose it is

Texts = tuple[tuple[str, str], ...]  # labels and annotations, sorted by their keys

# What a container's `state` may say, in Docker's words.
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
EXITED = "exited"


class Mount(NamedTuple):
    """What a container sees at ``destination``: a host's path, a volume, a file system's name."""

    source: str
    destination: str
    type: str = ""
    writable: bool = True


class Container(NamedTuple):
    """A container; texts are empty, and the rest None, 0 or (), where the runtime has not said.

    ``id`` is whole, as the runtime writes it. ``image`` is as its user wrote it, ``image_id`` the digest of the
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

    The owner is what made it: a Deployment rather than its ReplicaSet, a CronJob rather than its Job.
    ``node``, the owner and ``services``, which select it, only the Kubernetes API tells.
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
    """What a cgroup stands for; ``parents`` are the ids of the containers around, the outermost first."""

    state: str
    container: Container | None = None
    pod: Pod | None = None
    parents: tuple[str, ...] = ()


ON_HOST = Identity(HOST)
NOBODY_KNOWS = Identity(UNKNOWN)
