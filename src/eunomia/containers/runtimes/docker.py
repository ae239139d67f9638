# SPDX-License-Identifier: BSD-2-Clause
"""Docker: what dockerd wrote to ``<data root>/containers/<id>/config.v2.json`` before it made the cgroup.

Data roots are those of every running dockerd, and the default one even when none runs (containers may
outlive their daemon).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from eunomia.containers.daemons import (
    CONFIG_LIMIT,
    SEARCH_PAUSE,
    DataRoot,
    host_bases,
    object_of,
    option,
    running,
    trusted_first,
)  # fmt: skip
from eunomia.containers.inside import open_file, read
from eunomia.containers.paths import is_id
from eunomia.containers.runtime import Found, bounded
from eunomia.identity import CREATED, EXITED, PAUSED, RUNNING, Container

DEFAULT_ROOT = "/var/lib/docker"
DEFAULT_CONFIG = "/etc/docker/daemon.json"
_STAMPS = 4096  # containers whose file's time is remembered


class _Metadata(msgspec.Struct):
    ID: Any = None
    Name: Any = None
    Config: Any = None
    State: Any = None
    RestartCount: Any = None


class Docker:
    """Reads what every dockerd on the machine keeps about its containers."""

    name = "docker"

    def __init__(
        self, roots: Sequence[DataRoot] | None = None, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """``roots`` replaces the search for daemons; ``clock`` gives monotonic nanoseconds."""
        self._clock = clock
        self._search = roots is None
        self._searched: int | None = None
        self._roots = list(roots or ())
        self._stamps: dict[str, int] = {}

    def recognises(self, parent: str, name: str) -> str:
        """Return the id in ``docker/ID`` and ``docker-ID.scope``."""
        if parent == "docker" and is_id(name):
            return name
        container_id = name.removeprefix("docker-").removesuffix(".scope")
        return container_id if len(name) == 64 + 13 and is_id(container_id) else ""

    def lookup(self, container_id: str, path: str) -> Found | None:
        """Return the container's name and image as its user wrote it; see :class:`Runtime`."""
        found = self._read(container_id, path)
        if found is None and self._look_again():
            found = self._read(container_id, path)
        return None if found is None else Found(found)

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the directory in which dockerd writes the container's configuration anew."""
        return [root.shown(f"{root.path}/containers/{container.id}") for root in self._heard(path)]

    def changed(self, container: Container, path: str) -> bool:
        """Whether ``config.v2.json`` was rewritten (``docker rename`` does) since it was read."""
        for root in self._heard(path):
            try:
                descriptor = root.open(_config(root, container.id))
            except (OSError, ValueError):
                continue
            try:
                return os.fstat(descriptor).st_mtime_ns != self._stamps.get(container.id)
            finally:
                os.close(descriptor)
        return False

    def places(self) -> list[str]:
        """Return the directories in which the daemons that may speak for everything keep their containers."""
        if self._searched is None and self._search:
            self.search()
        return [root.shown(f"{root.path}/containers") for root in self._heard("")]

    def keeps(self, container: Container, path: str) -> bool:
        """Whether a daemon that may speak for it still has the container's ``config.v2.json``."""
        for root in self._heard(path):
            try:
                os.close(root.open(_config(root, container.id)))
            except (OSError, ValueError):
                continue
            return True
        return False

    @property
    def roots(self) -> Sequence[DataRoot]:
        """The data roots known so far, the trusted first."""
        return self._roots

    def search(self) -> None:
        """Look for daemons now."""
        self._searched = self._clock()
        self._roots = trusted_first(_data_roots())

    def _look_again(self) -> bool:
        if not self._search:
            return False
        if self._searched is not None and self._clock() - self._searched < SEARCH_PAUSE:
            return False
        before = self._roots
        self.search()
        return self._roots != before

    def _heard(self, path: str) -> list[DataRoot]:
        return [root for root in self._roots if root.speaks_for(path)]

    def _read(self, container_id: str, path: str) -> Container | None:
        known = None
        for root in self._heard(path):
            try:
                data, written = root.read(_config(root, container_id))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):  # ValueError: a NUL in a data root
                known = known or Container(container_id, runtime=self.name)
                continue
            container = _container(container_id, data)
            if container.name:
                if len(self._stamps) >= _STAMPS:
                    self._stamps.clear()
                self._stamps[container_id] = written
                return container
            known = container
        return known


def _config(root: DataRoot, container_id: str) -> str:
    return f"{root.path}/containers/{container_id}/config.v2.json"


def _container(container_id: str, data: bytes) -> Container:
    nothing = Container(container_id, runtime=Docker.name)
    metadata = _decode(data)
    if metadata is None or container_id != metadata.ID:
        return nothing
    config = metadata.Config if isinstance(metadata.Config, dict) else {}
    name = bounded(metadata.Name).removeprefix("/")
    known = nothing._replace(name=name, image=bounded(config.get("Image")))
    return _with_state(known, metadata.State, metadata.RestartCount)


def _with_state(container: Container, state: object, restarts: object) -> Container:
    """Add what ``State`` says: Docker's own words are flags, the first of which that is set counts."""
    if not isinstance(state, dict):
        return container
    pid = state.get("Pid")
    if state.get("Paused") is True:
        now = PAUSED
    elif state.get("Running") is True:
        now = RUNNING
    else:
        never = bounded(state.get("StartedAt")) in {"", "0001-01-01T00:00:00Z"}
        now = CREATED if never else EXITED
    return container._replace(
        state=now,
        pid=pid if isinstance(pid, int) and 0 < pid < 1 << 22 else 0,
        restarts=restarts if isinstance(restarts, int) and 0 <= restarts < 1 << 63 else None,
    )


def _decode(data: bytes) -> _Metadata | None:
    for attempt in (data, data.decode("utf-8", "replace").encode()):
        try:
            return msgspec.json.decode(attempt, type=_Metadata)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
            continue
    return None


# Where daemons keep their data


def _data_roots() -> Iterator[DataRoot]:
    for base in host_bases():
        yield DataRoot(base, _configured(base, DEFAULT_CONFIG) or DEFAULT_ROOT)
        yield DataRoot(base, DEFAULT_ROOT)
    for daemon in running(b"dockerd"):
        arguments = daemon.arguments
        yield daemon.keeps(
            option(arguments, "--data-root", "--graph", "-g")
            or _configured(daemon.base, option(arguments, "--config-file") or DEFAULT_CONFIG)
            or DEFAULT_ROOT
        )


def _configured(base: str, config: str) -> str:
    """Return the data root that a daemon.json names; empty when it names none."""
    try:
        settings = object_of(read(open_file(base, config), CONFIG_LIMIT)[0])
    except (OSError, ValueError):
        return ""
    return bounded(settings.get("data-root")) or bounded(settings.get("graph"))


RUNTIME = Docker
