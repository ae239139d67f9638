# SPDX-License-Identifier: BSD-2-Clause
"""Container entry: what the registry keeps of a container, and the identity that follows from it."""

from __future__ import annotations

from eunomia.containers.kubepods import pod_uid, qos
from eunomia.containers.paths import Candidate
from eunomia.containers.runtime import Metadata
from eunomia.identity import PENDING, RESOLVED, UNKNOWN, Container, Identity, Pod


class ContainerEntry:
    """A possible container: its own cgroup, its runtime's metadata, and the cgroups in it.

    ``identity`` is None while only the shape of the cgroup's name suggests a container. ``recorded`` says that a
    runtime keeps a record of it, which may outlast its cgroup; one that never had a cgroup has an empty path.
    """

    __slots__ = (
        "candidate",
        "cgroups",
        "identity",
        "metadata",
        "outer",
        "recorded",
        "since",
        "uid",
        "waits",
        "watched",
    )  # fmt: skip

    def __init__(self, candidate: Candidate, outer: tuple[ContainerEntry, ...], since: int) -> None:
        self.candidate = candidate
        self.outer = outer  # outermost first
        self.since = since
        self.waits = False  # whether runtimes will be asked again
        self.recorded = False
        self.cgroups: set[int] = set()
        self.uid = pod_uid(candidate.path)
        self.metadata: Metadata | None = None  # the runtimes' last answer
        self.watched: tuple[str, ...] = ()  # files to watch, as a slow runtime named them
        self.identity: Identity | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the containers around it, outermost first."""
        return tuple(e.candidate.id for e in self.outer if e.identity is not None)

    @property
    def named(self) -> bool:
        """Whether its name is known."""
        return self.metadata is not None and bool(self.metadata.container.name)

    @property
    def container(self) -> Container:
        """What is known of the container."""
        if self.identity is not None and self.identity.container is not None:
            return self.identity.container
        if self.metadata is not None:
            return self.metadata.container
        return Container(self.candidate.id, runtime=self.candidate.runtime)

    @property
    def is_in_use(self) -> bool:
        """Whether it has a cgroup or a record; otherwise it is forgotten."""
        return bool(self.cgroups) or self.recorded

    def take(self, metadata: Metadata | None) -> None:
        """Take the runtimes' answer; earlier metadata stays if its file is gone or being rewritten."""
        if not self.named or (metadata is not None and metadata.container.name):
            self.metadata = metadata

    def make_identity(self, container: Container, pod: Pod | None, is_asked: bool, timed_out: bool) -> Identity | None:
        """Return the identity that follows from this; ``self.identity`` if it stays the same.

        ``is_asked`` says that an answer of a runtime is pending, ``timed_out`` that the time for answers is over.
        """
        if container.name:
            return Identity(RESOLVED, container, pod, self.parents)
        before = self.identity
        if before is not None and before.state == RESOLVED:
            return before
        unconfirmed = self.metadata is None and not self.candidate.runtime and pod is None
        if unconfirmed and (timed_out or not is_asked) and not self._may_be_alone():
            return None
        if pod is None and self.uid:
            pod = Pod("", "", self.uid, qos=qos(self.candidate.path))  # all that the path says
        return Identity(UNKNOWN if timed_out else PENDING, container, pod, self.parents)

    def _may_be_alone(self) -> bool:
        """Whether a cgroup that is only named like a container counts as one, although no runtime knows it.

        Directly in a pod it does. Elsewhere inside a container it may be a cgroup of that container's own.
        """
        parent = next((e for e in reversed(self.outer) if e.identity is not None), None)
        return parent is None or (bool(self.uid) and self.uid != parent.uid)
