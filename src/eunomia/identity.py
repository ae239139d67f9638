# SPDX-License-Identifier: BSD-2-Clause
"""Whose row it is: the nouns that enrichers fill and sinks print."""

from __future__ import annotations

from typing import NamedTuple

# How far the join got; every row says one of these, never a silent blank.
HOST = "host"  # not in a container
RESOLVED = "resolved"  # the runtime's own metadata was read
PENDING = "pending"  # a container by its cgroup, metadata not there yet
UNKNOWN = "unknown"  # nothing tells whose it is


class Container(NamedTuple):
    """A container; texts are empty where the runtime has not said."""

    id: str
    name: str = ""
    image: str = ""
    runtime: str = ""


class Pod(NamedTuple):
    """A Kubernetes pod."""

    name: str
    namespace: str
    uid: str


class Identity(NamedTuple):
    """What a cgroup stands for."""

    state: str
    container: Container | None = None
    pod: Pod | None = None


ON_HOST = Identity(HOST)
NOBODY_KNOWS = Identity(UNKNOWN)
