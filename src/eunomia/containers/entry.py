# SPDX-License-Identifier: BSD-2-Clause
"""What may be a container, as the registry keeps it, and which identity that makes."""

from __future__ import annotations

from eunomia.containers.kubepods import pod_uid, qos
from eunomia.containers.paths import Candidate
from eunomia.containers.runtime import Metadata
from eunomia.identity import PENDING, RESOLVED, UNKNOWN, Container, Identity, Pod


class ContainerEntry:
    """What may be a container: a cgroup of its own, what the runtimes say, and the cgroups it holds.

    ``identity`` is None as long as the name's shape alone makes it a container. ``recorded`` says that a runtime
    keeps a record of it, which may outlast its cgroup; one that never had a cgroup has an empty path.
    """

    __slots__ = (
        "around", "candidate", "cgroups", "identity", "metadata", "recorded", "since", "uid", "waits", "watched",
    )  # fmt: skip

    def __init__(self, candidate: Candidate, around: tuple[ContainerEntry, ...], since: int) -> None:
        self.candidate = candidate
        self.around = around  # outermost first
        self.since = since
        self.waits = False  # to be asked for again
        self.recorded = False
        self.cgroups: set[int] = set()
        self.uid = pod_uid(candidate.path)
        self.metadata: Metadata | None = None  # what the runtimes said last
        self.watched: tuple[str, ...] = ()  # what a slow runtime wants to have watched for it
        self.identity: Identity | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the containers around it, outermost first."""
        return tuple(e.candidate.id for e in self.around if e.identity is not None)

    @property
    def named(self) -> bool:
        """Whether a runtime has said what it is called."""
        return self.metadata is not None and bool(self.metadata.container.name)

    @property
    def container(self) -> Container:
        """The container as far as it is known."""
        if self.identity is not None and self.identity.container is not None:
            return self.identity.container
        if self.metadata is not None:
            return self.metadata.container
        return Container(self.candidate.id, runtime=self.candidate.runtime)

    @property
    def is_held(self) -> bool:
        """Whether it has a cgroup, or a record: else it is forgotten."""
        return bool(self.cgroups) or self.recorded

    def take(self, metadata: Metadata | None) -> None:
        """Take what the runtimes say now; what was once read stays true while its file is gone or being rewritten."""
        if not self.named or (metadata is not None and metadata.container.name):
            self.metadata = metadata

    def identified(self, container: Container, pod: Pod | None, asked: bool, over: bool) -> Identity | None:
        """Return the identity that this makes of it; ``self.identity`` where that stays.

        ``asked`` says that a runtime has yet to answer, ``over`` that the time for answers is over.
        """
        if container.name:
            return Identity(RESOLVED, container, pod, self.parents)
        before = self.identity
        if before is not None and before.state == RESOLVED:
            return before
        unheard = self.metadata is None and not self.candidate.runtime and pod is None
        if unheard and (over or not asked) and not self._may_be_alone():
            return None
        if pod is None and self.uid:
            pod = Pod("", "", self.uid, qos=qos(self.candidate.path))  # as far as the path tells
        return Identity(UNKNOWN if over else PENDING, container, pod, self.parents)

    def _may_be_alone(self) -> bool:
        """Whether a name that only looks like a container's may be one's although no runtime knows it (any more).

        Directly in a pod it is one. Elsewhere in a container it may be a cgroup of that container's own.
        """
        around = next((e for e in reversed(self.around) if e.identity is not None), None)
        return around is None or (bool(self.uid) and self.uid != around.uid)
