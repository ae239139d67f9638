# SPDX-License-Identifier: BSD-2-Clause
"""Docker: reads ``<data root>/containers/<id>/config.v2.json``, which dockerd writes before it makes the cgroup.

Data roots are those of every running dockerd, the default one also if none runs, and those that the bundles of running
containers name, which may outlive their daemon (``--live-restore``). With ``--userns-remap`` containers are in
``<data root>/<uid>.<gid>``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from eunomia.containers import blocking, oci
from eunomia.containers.daemons import (
    CONFIG_LIMIT,
    SEARCH_PAUSE,
    DataRoot,
    birth,
    daemon_of,
    host_bases,
    option,
    pids,
    running,
    trusted_first,
)  # fmt: skip
from eunomia.containers.paths import is_id
from eunomia.containers.runtime import Metadata, bounded, texts, words
from eunomia.containers.timestamps import nanoseconds
from eunomia.containers.tolerant_json import object_of
from eunomia.identity import CREATED, EXITED, PAUSED, RUNNING, Container, Mount
from eunomia.kernel_clock import monotonic_ns
from eunomia.meaning import capability_name
from eunomia.resolve_in_root import open_file, read

DEFAULT_ROOT = "/var/lib/docker"
DEFAULT_CONFIG = "/etc/docker/daemon.json"
# The bundles of Docker's containers, below containerd's state directory.
TASKS, NAMESPACE = "io.containerd.runtime.v2.task", "moby"
_ENTRIES = 1024  # of a data root that are read
_STAMPS = 4096  # containers whose file's time is remembered
_MOUNTS = 64
_NETWORKS = 16
_ADDRESS_LIMIT = 64  # characters
_ALL = "ALL"
_CAPABILITIES = 64  # as many as the kernel has room for

# Docker's default capabilities (moby: oci/caps/defaults.go), by number.
_DEFAULT_CAPABILITIES = tuple(map(capability_name, (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)))


class Docker:
    """Reads the files of every dockerd on the machine."""

    name = "docker"
    quick = True

    def __init__(self, roots: Sequence[DataRoot] | None = None, clock: Callable[[], int] = monotonic_ns) -> None:
        """``roots`` replaces the search for daemons; ``clock`` gives monotonic nanoseconds."""
        self._clock = clock
        self._search = roots is None
        self._searched: int | None = None
        self._roots = list(roots or ())
        self._shims: dict[tuple[str, bytes], DataRoot | None] = {}
        self._stamps: dict[str, int] = {}
        self._digests: dict[tuple[DataRoot, str], tuple[int, dict[str, str]]] = {}

    def recognises(self, parent: str, name: str) -> str:
        """Return the id in ``docker/ID`` and ``docker-ID.scope``."""
        if parent == "docker" and is_id(name):
            return name
        container_id = name.removeprefix("docker-").removesuffix(".scope")
        return container_id if len(name) == 64 + 13 and is_id(container_id) else ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return the container's metadata; see :class:`Runtime`."""
        if not _may_be(path):
            return None
        found = self._read(container_id, path)
        if found is None and self._look_again():
            found = self._read(container_id, path)
        return found

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the directory in which dockerd rewrites the container's configuration."""
        if container.runtime != self.name:
            return []
        return [root.shown(f"{root.path}/containers/{container.id}") for root in self._roots_for(path)]

    def changed(self, container: Container, path: str) -> bool:
        """Whether ``config.v2.json`` was rewritten (``docker rename`` does) since it was read."""
        for root in self._roots_for(path) if container.runtime == self.name else ():
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
        """Return the directories of containers of daemons that are trusted for the whole machine."""
        if self._searched is None and self._search:
            self.search()
        return [root.shown(f"{root.path}/containers") for root in self._roots_for("")]

    def records(self, place: str) -> list[str]:
        """Return the names of the containers' directories in one of these."""
        blocking.check("/", place)
        try:
            return os.listdir(place)
        except OSError:
            return []

    def has_record(self, container: Container, path: str) -> bool:
        """Whether a daemon that is trusted for it has the container's ``config.v2.json``."""
        for root in self._roots_for(path):
            try:
                os.close(root.open(_config(root, container.id)))
            except (OSError, ValueError):
                continue
            return True
        return False

    def prefetched(self) -> list[str]:
        """Return the files that dockerd writes before a container runs and removes with it."""
        if self._searched is None and self._search:
            self.search()
        files = ("config.v2.json", "hostconfig.json")
        return [f"{root.path}/containers/{{}}/{file}" for root in self._roots if root.is_ours for file in files]

    @property
    def roots(self) -> Sequence[DataRoot]:
        """The data roots known so far, the trusted first."""
        return self._roots

    def search(self) -> None:
        """Look for daemons now."""
        began = self._clock()
        self._roots = trusted_first(remapped(itertools.chain(_data_roots(), self._survivors())))
        self._searched = began

    def _survivors(self) -> Iterator[DataRoot]:
        """Yield the data roots of running containers, by their shims; each shim is read once."""
        known, self._shims = self._shims, {}
        for pid in pids(b"containerd-shim"):
            process = (pid, birth(int(pid)))
            root = self._shims[process] = known[process] if process in known else _of_shim(pid)
            if root is not None:
                yield root

    def _look_again(self) -> bool:
        if not self._search:
            return False
        if self._searched is not None and self._clock() - self._searched < SEARCH_PAUSE:
            return False
        before = self._roots
        self.search()
        return self._roots != before

    def _roots_for(self, path: str) -> list[DataRoot]:
        return [root for root in self._roots if root.covers(path)]

    def _read(self, container_id: str, path: str) -> Metadata | None:
        known = None
        for root in self._roots_for(path):
            try:
                data, written = root.read(_config(root, container_id))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):  # ValueError: a NUL in a data root
                known = known or Metadata(Container(container_id, runtime=self.name))
                continue
            facts = object_of(data)
            found = Metadata(Container(container_id, runtime=self.name))
            if facts.get("ID") == container_id:
                found = self._metadata(root, container_id, facts, path)
            if found.container.name:
                if len(self._stamps) >= _STAMPS:
                    self._stamps.clear()
                self._stamps[container_id] = written
                return found
            known = found
        return known

    def _metadata(self, root: DataRoot, container_id: str, facts: Mapping[str, object], path: str) -> Metadata:
        """Return the metadata in config.v2.json and hostconfig.json; any value may be of any type."""
        try:
            asked = object_of(root.read(f"{root.path}/containers/{container_id}/hostconfig.json")[0])
        except (OSError, ValueError):
            asked = {}
        config, state = _object(facts.get("Config")), _object(facts.get("State"))
        image_id, image = bounded(facts.get("Image")), bounded(config.get("Image"))
        privileged = asked.get("Privileged")
        privileged = privileged if isinstance(privileged, bool) else None
        pid, restarts = _number(state.get("Pid")) or 0, _number(facts.get("RestartCount"))
        pid = pid if root.base == "/" else 0  # behind another root, process ids may differ
        mode = bounded(asked.get("NetworkMode"))
        container = Container(
            container_id,
            bounded(facts.get("Name")).removeprefix("/"),
            image,
            self.name,
            image_id,
            self._digest(root, bounded(facts.get("Driver")), image_id),
            texts(config.get("Labels")),
            (),
            words([facts.get("Path"), *words(facts.get("Args"))]) if isinstance(facts.get("Path"), str) else (),
            bounded(config.get("User")),
            tuple(_mounts(facts.get("MountPoints"))),
            privileged,
            _capabilities(asked, pid) if asked else None,
            _seccomp(bounded(facts.get("SeccompProfile")), privileged) if asked else "",
            _apparmor(bounded(facts.get("AppArmorProfile"))),
            "bridge" if mode == "default" else mode,
            tuple(_addresses(facts.get("NetworkSettings"))),
            pid,
            _state(state),
            nanoseconds(facts.get("Created")),
            nanoseconds(state.get("StartedAt")),
            restarts,
        )
        return Metadata(container)

    def _digest(self, root: DataRoot, driver: str, image_id: str) -> str:
        """Return an image's digest in a registry, if it was pulled or pushed."""
        if not driver or "/" in driver:
            return ""
        file = f"{root.path}/image/{driver}/repositories.json"
        try:
            descriptor = root.open(file)
            written = os.fstat(descriptor).st_mtime_ns
            known = self._digests.get((root, driver))
            if known is None or known[0] != written:
                known = self._digests[root, driver] = written, _digests(object_of(read(descriptor, CONFIG_LIMIT)[0]))
            else:
                os.close(descriptor)
        except (OSError, ValueError):
            return ""
        return known[1].get(image_id, "")


def _may_be(path: str) -> bool:
    """Whether a cgroup's name is not another runtime's."""
    return not path.rpartition("/")[2].startswith(("cri-containerd-", "nerdctl-", "libpod-", "crio-"))


def _config(root: DataRoot, container_id: str) -> str:
    return f"{root.path}/containers/{container_id}/config.v2.json"


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _state(state: Mapping[str, object]) -> str:
    if state.get("Paused") is True:
        return PAUSED
    if state.get("Running") is True:
        return RUNNING
    return EXITED if nanoseconds(state.get("StartedAt")) else CREATED


def _mounts(value: object) -> Iterator[Mount]:
    for destination, mount in list(_object(value).items())[:_MOUNTS]:
        about = _object(mount)
        source = bounded(about.get("Name")) or bounded(about.get("Source"))
        yield Mount(source, bounded(destination), bounded(about.get("Type")), about.get("RW") is not False)


def _addresses(value: object) -> Iterator[str]:
    networks = _object(_object(value).get("Networks"))
    for network in list(networks.values())[:_NETWORKS]:
        for kind in ("IPAddress", "GlobalIPv6Address"):
            if address := bounded(_object(network).get(kind))[:_ADDRESS_LIMIT]:
                yield address


def _seccomp(profile: str, privileged: bool | None) -> str:
    """Return a profile's name; dockerd stores the text of one that came from a file."""
    if not profile:
        return "unconfined" if privileged else "default"
    if profile.lstrip().startswith("{"):
        return "custom"
    return "default" if profile == "builtin" else profile


def _apparmor(profile: str) -> str:
    return "default" if profile == "docker-default" else profile


def _capabilities(asked: Mapping[str, object], pid: int) -> tuple[str, ...] | None:
    """Return the capabilities that follow from ``--privileged``, ``--cap-add`` and ``--cap-drop``.

    What "all" means depends on dockerd's version and rights, so it is read from the first process; None before it runs.
    """
    added, dropped = ({_capability(w) for w in words(asked.get(key))} for key in ("CapAdd", "CapDrop"))
    if asked.get("Privileged") is True or _ALL in added:
        return _bounding(pid) if pid else None
    if not added and not dropped:
        return _DEFAULT_CAPABILITIES
    kept = (set() if _ALL in dropped else set(_DEFAULT_CAPABILITIES)) - dropped | added
    return tuple(name for name in map(capability_name, range(_CAPABILITIES)) if name in kept)


def _capability(word: str) -> str:
    word = word.upper()
    return word if word.startswith("CAP_") or word == _ALL else f"CAP_{word}"


def _bounding(pid: int) -> tuple[str, ...] | None:
    """Return a process's bounding set; None if it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            line = next((line for line in file if line.startswith(b"CapBnd:")), b": 0")
    except OSError:
        return None
    there = int(line.split()[1], 16)
    return tuple(capability_name(n) for n in range(_CAPABILITIES) if there >> n & 1)


def _digests(repositories: Mapping[str, object]) -> dict[str, str]:
    """Return digests by image id, from ``{"Repositories": {name: {name@digest: id}}}``."""
    found: dict[str, str] = {}
    for references in _object(repositories.get("Repositories")).values():
        for reference, image_id in _object(references).items():
            _, at, digest = reference.partition("@")
            if at and isinstance(image_id, str):
                found.setdefault(bounded(image_id), bounded(digest))
    return found


# Data roots


def _data_roots() -> Iterator[DataRoot]:
    for base in host_bases():
        yield DataRoot(base, _configured(base, DEFAULT_CONFIG) or DEFAULT_ROOT)
        yield DataRoot(base, DEFAULT_ROOT)
    for daemon in running(b"dockerd"):
        arguments = daemon.arguments
        yield daemon.data_root(
            option(arguments, "--data-root", "--graph", "-g")
            or _configured(daemon.base, option(arguments, "--config-file") or DEFAULT_CONFIG)
            or DEFAULT_ROOT
        )


def remapped(roots: Iterable[DataRoot]) -> Iterator[DataRoot]:
    """Yield data roots, each followed by those below it for user namespaces (``--userns-remap``)."""
    for root in dict.fromkeys(roots):
        yield root
        try:
            names = sorted(os.listdir(root.shown(root.path)))
        except (OSError, ValueError):
            continue
        for name in names[:_ENTRIES]:
            uid, _, gid = name.partition(".")
            if uid.isdigit() and gid.isdigit():
                yield root._replace(path=f"{root.path}/{name}")


def _of_shim(pid: str) -> DataRoot | None:
    """Return the data root that a container's mounts name, by the bundle in its shim's working directory."""
    shim = daemon_of(pid)
    if shim is None or not shim.cwd.rpartition("/")[0].endswith(f"{TASKS}/{NAMESPACE}"):
        return None
    try:
        bundle = oci.bundle(shim.read("config.json"))
    except (OSError, ValueError):
        return None
    container_id = shim.cwd.rpartition("/")[2]
    for mount in bundle.mounts if bundle else ():
        root, found, file = mount.source.partition(f"/containers/{container_id}/")
        if found and mount.destination == f"/etc/{file}":
            return shim.data_root(root)
    return None


def _configured(base: str, config: str) -> str:
    """Return the data root that a daemon.json names; empty if it names none."""
    try:
        blocking.check(base, config)
        settings = object_of(read(open_file(base, config), CONFIG_LIMIT)[0])
    except (OSError, ValueError):
        return ""
    return bounded(settings.get("data-root")) or bounded(settings.get("graph"))


RUNTIME = Docker
