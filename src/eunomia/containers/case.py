# SPDX-License-Identifier: BSD-2-Clause
"""What may be a container, as the registry keeps it, and what can be news of one."""

from __future__ import annotations

from typing import NamedTuple

from eunomia.containers.kubepods import pod_uid
from eunomia.containers.paths import Candidate
from eunomia.containers.runtime import Found
from eunomia.identity import Identity

# What news can be of.
THERE = "there"  # its cgroup was there before anybody listened
MADE = "made"  # its own cgroup was made
REMOVED = "removed"  # its own cgroup was removed
CHANGED = "changed"  # what the runtime says of it
RECORDED = "recorded"  # its runtime keeps a record of it
ERASED = "erased"  # the record is gone


class News(NamedTuple):
    """Something that happened to a container, for those who :meth:`eunomia.containers.registry.Registry.listen`.

    ``time`` is the kernel's, monotonic nanoseconds, or else when it was noticed. ``cgroup_id`` is that of the
    container's own cgroup where the news is about that, else 0. ``before`` and ``after`` are the identities, of
    CHANGED; the case's own may be a later one by now.
    """

    what: str
    case: Case
    time: int
    cgroup_id: int = 0
    before: Identity | None = None
    after: Identity | None = None


class Case:
    """What may be a container: a cgroup of its own, what the runtimes say, and the cgroups it holds.

    ``identity`` is None as long as the name's shape alone makes it a container. ``recorded`` says that a runtime
    keeps a record of it, which may outlast its cgroup; one that never had a cgroup has an empty path.
    """

    __slots__ = ("around", "candidate", "cgroups", "found", "identity", "recorded", "since", "uid", "waits")

    def __init__(self, candidate: Candidate, around: tuple[Case, ...], since: int) -> None:
        self.candidate = candidate
        self.around = around  # outermost first
        self.since = since
        self.waits = False
        self.recorded = False
        self.cgroups: set[int] = set()
        self.uid = pod_uid(candidate.path)
        self.found: Found | None = None  # what the runtimes said last
        self.identity: Identity | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the containers around it, outermost first."""
        return tuple(c.candidate.id for c in self.around if c.identity is not None)
