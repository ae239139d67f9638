# SPDX-License-Identifier: BSD-2-Clause
"""Docker: what dockerd wrote to ``<data root>/containers/<id>/config.v2.json`` before it made the cgroup.

Data roots are those of every running dockerd, and the default one even when none runs (containers may
outlive their daemon).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from eunomia.containers.inside import open_file, open_own, read
from eunomia.containers.paths import candidates, is_below, is_id
from eunomia.containers.runtime import Found, bounded
from eunomia.containers.tree import path_of
from eunomia.identity import CREATED, EXITED, PAUSED, RUNNING, Container

CONFIG_LIMIT = 4 << 20  # bytes; real ones have a few thousand
SEARCH_PAUSE = 200_000_000  # ns between two looks for new daemons
DEFAULT_ROOT = "/var/lib/docker"
DEFAULT_CONFIG = "/etc/docker/daemon.json"
_CAP_SYS_ADMIN = 1 << 21
_INITIAL_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO, include/linux/proc_ns.h
_STAMPS = 4096  # containers whose file's time is remembered


class DataRoot(NamedTuple):
    """Where a dockerd keeps its containers.

    ``base`` is its root directory as seen from here, ``path`` the data root as the daemon sees it. A daemon
    that must not be trusted with everything speaks only for cgroups below ``below``. ``pid`` and ``birth``
    tell whether ``base`` still is that daemon's; 0 where ``base`` outlives it.
    """

    base: str
    path: str
    below: str = "/"
    pid: int = 0
    birth: bytes = b""

    def open(self, path: str) -> int:
        """Open a file of the daemon's; raises :class:`OSError`, and :class:`ValueError` for a NUL in it."""
        if (self.base, self.below) == ("/", "/"):
            return open_own(path)
        return open_file(self.base, path)


    def shown(self, path: str) -> str:
        """Return a path of the daemon's as it is seen from here."""
        return path if self.base == "/" else self.base + path


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
        # Daemons that may speak for everything come first.
        self._roots = sorted(
            dict.fromkeys(_data_roots()), key=lambda r: (r.below != "/", r.base != "/", r.pid)
        )

    def _look_again(self) -> bool:
        if not self._search:
            return False
        if self._searched is not None and self._clock() - self._searched < SEARCH_PAUSE:
            return False
        before = self._roots
        self.search()
        return self._roots != before

    def _heard(self, path: str) -> list[DataRoot]:
        return [
            root
            for root in self._roots
            if (is_below(path, root.below) if path else root.below == "/")
            and (not root.pid or _birth(root.pid) == root.birth)
        ]

    def _read(self, container_id: str, path: str) -> Container | None:
        known = None
        for root in self._heard(path):
            try:
                data, written = read(root.open(_config(root, container_id)), CONFIG_LIMIT)
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


def _data_roots() -> Iterable[DataRoot]:
    for base in _host_bases():
        yield DataRoot(base, _configured(base, DEFAULT_CONFIG) or DEFAULT_ROOT)
        yield DataRoot(base, DEFAULT_ROOT)
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    for pid in processes:
        try:
            with open(f"/proc/{pid}/comm", "rb") as comm:
                if comm.read() != b"dockerd\n":
                    continue
            root = _root_of(pid)
        except OSError:
            continue
        if root is not None:
            yield root


def _host_bases() -> list[str]:
    """Return our own root, and the host's where we run in a container that sees its processes."""
    try:
        if os.readlink("/proc/1/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            return ["/", "/proc/1/root"]
    except OSError:
        pass
    return ["/"]


def _root_of(pid: str) -> DataRoot | None:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        arguments = [os.fsdecode(a) for a in file.read(1 << 16).split(b"\0")]
    birth = _birth(int(pid))
    shared = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    base = "/" if shared and os.readlink(f"/proc/{pid}/root") == "/" else f"/proc/{pid}/root"
    path = (
        option(arguments, "--data-root", "--graph", "-g")
        or _configured(base, option(arguments, "--config-file") or DEFAULT_CONFIG)
        or DEFAULT_ROOT
    )
    if not path.startswith("/"):
        path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), path)
    below = _below(pid)
    if below is None:
        return None
    return DataRoot(base, path, below) if base == "/" else DataRoot(base, path, below, int(pid), birth)


def _below(pid: str) -> str | None:
    """Return the cgroup below which a daemon may speak; ``None`` when nowhere.

    Whoever can start a process can call it dockerd. One that rules the machine anyway speaks for all of it,
    one in a container for what is nested in that, an ordinary user's for that user's slice.
    """
    if _rules(pid):
        return "/"
    path, uid = path_of(pid) or "/", os.stat(f"/proc/{pid}").st_uid
    inside = candidates(path, [Docker([])])
    if inside:
        return inside[-1].path
    if uid == 0:
        return "/"
    head, found, _ = path.partition(f"/user-{uid}.slice")
    return head + found if found else None


def _rules(pid: str) -> bool:
    """Whether a process has CAP_SYS_ADMIN over the machine, as a privileged container's has."""
    if os.readlink(f"/proc/{pid}/ns/user") != _INITIAL_USER_NAMESPACE:
        return False
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) & _CAP_SYS_ADMIN)
    return False


def option(arguments: Sequence[str], *names: str) -> str:
    """Return the last value given to one of the option's names; empty when it was not given."""
    value = ""
    for i, argument in enumerate(arguments):
        for name in names:
            if argument == name and i + 1 < len(arguments):
                value = arguments[i + 1]
            elif argument.startswith(name + "="):
                value = argument[len(name) + 1 :]
    return value


def _configured(base: str, config: str) -> str:
    """Return the data root that a daemon.json names; empty when it names none."""
    try:
        data, _ = read(open_file(base, config), CONFIG_LIMIT)
        settings = msgspec.json.decode(data)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return ""
    if not isinstance(settings, dict):
        return ""
    return bounded(settings.get("data-root")) or bounded(settings.get("graph"))


def _birth(pid: int) -> bytes:
    """Return a process's start time, in the kernel's own writing; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return b""


RUNTIME = Docker
