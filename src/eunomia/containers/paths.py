# SPDX-License-Identifier: BSD-2-Clause
"""Candidates for containers among the components of a cgroup path."""

from __future__ import annotations

from collections.abc import Iterable

from eunomia.typing import NamedTuple, Protocol

_DIGITS = "0123456789abcdef"


class Candidate(NamedTuple):
    """A cgroup that may be a container's own.

    ``runtime`` is empty if only the shape of the name suggests a container: such a name counts as one, because runtimes
    may have forgotten it before they are asked. Inside a container it counts only once a runtime knows it.
    """

    id: str
    path: str
    runtime: str


class Recogniser(Protocol):
    """A runtime that recognises its containers by the names of their cgroups."""

    @property
    def name(self) -> str:
        """Return what ``container.runtime`` shows."""

    def recognises(self, parent: str, name: str) -> str:
        """Return the container's id; see :meth:`eunomia.containers.runtime.Runtime.recognises`."""


def is_id(name: str) -> bool:
    """Whether a name has the shape of a full container id (64 hex digits)."""
    return len(name) == 64 and not name.strip(_DIGITS)


def id_in(name: str) -> str:
    """Return the container id at the end of a cgroup's name, as in ``ID``, ``docker-ID.scope``, ``POD:RUNTIME:ID``.

    Empty if there is none, and for conmon's own cgroup, which has the id of the container that it monitors.
    """
    name = name.removesuffix(".scope")
    container_id, before = name[-64:], name[:-64]
    if not is_id(container_id) or (before and before[-1] not in "-:"):
        return ""
    return "" if before.endswith("conmon-") else container_id


def candidates(path: str, runtimes: Iterable[Recogniser]) -> tuple[Candidate, ...]:
    """Return the candidates along a cgroup path, outermost first."""
    found = []
    parent, at = "", 0
    for name in path.split("/"):
        at += len(name) + 1
        if not name:
            continue
        for runtime in runtimes:
            if claimed := runtime.recognises(parent, name):
                found.append(Candidate(claimed, path[: at - 1], runtime.name))
                break
        else:
            if container_id := id_in(name):
                found.append(Candidate(container_id, path[: at - 1], ""))
        parent = name
    return tuple(found)


def printable(path: str) -> str:
    r"""Return a file system path as batches show it: bytes that are not UTF-8 as ``\xNN``."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_below(path: str, top: str) -> bool:
    """Whether ``path`` lies below ``top`` in the cgroup tree (a path is not below itself)."""
    return path.startswith(top.rstrip("/") + "/") and path != top
