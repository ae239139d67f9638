# SPDX-License-Identifier: BSD-2-Clause
"""Podman, root's and users': reads its databases, which are written before a container's cgroup is made.

A container's cgroup is ``libpod-<id>`` or ``libpod-<id>.scope``; crun puts its processes into ``container`` below.
``libpod-conmon-<id>`` is the cgroup of conmon, which monitors a container and outlives Podman: its arguments name
stores that are not in the usual places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from eunomia.containers import oci
from eunomia.containers.conmon import Stores
from eunomia.containers.paths import is_id
from eunomia.containers.podman_db import Database, Record
from eunomia.containers.runtime import Metadata, bounded, texts, words
from eunomia.containers.storage import Images, Store
from eunomia.containers.timestamps import nanoseconds
from eunomia.containers.tolerant_json import decoded
from eunomia.identity import CREATED, EXITED, PAUSED, RUNNING, Container, Mount, Pod
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.containers.json_shapes import PodmanConfig

# libpod/define/containerstate.go: configured, created, running, stopped, paused, exited, removing, stopping.
_STATES = {1: CREATED, 2: CREATED, 3: RUNNING, 4: EXITED, 5: PAUSED, 6: EXITED, 7: EXITED, 8: RUNNING}
_PREFIXES = ("libpod-", "libpod-payload-")  # the latter with --cgroups=split
_DATABASES = 128  # open stores
_ONE_LOOK = 1_000_000  # ns for which one read of a store serves all its containers
_SEEN = 4096  # containers whose records are checked for changes


class Podman:
    """Reads the databases of each Podman on the machine."""

    name = "podman"

    def __init__(self, stores: Sequence[Store] | None = None, clock: Callable[[], int] = monotonic_ns) -> None:
        """``stores`` replaces the search for them; ``clock`` gives monotonic nanoseconds."""
        self._clock = clock
        self._stores = Stores(clock, stores)
        self._databases: dict[Store, Database] = {}
        self._digests: dict[Store, tuple[int, object, dict[str, int]]] = {}
        self._seen: dict[str, tuple[Store, int]] = {}
        self._images = Images()

    def recognises(self, parent: str, name: str) -> str:
        """Return the id in ``libpod-ID`` and ``libpod-ID.scope``."""
        head, container_id = name.removesuffix(".scope")[:-64], name.removesuffix(".scope")[-64:]
        return container_id if head in _PREFIXES and is_id(container_id) else ""

    def may_know(self, container_id: str, path: str) -> bool:
        """Whether a container may be Podman's by the name of its cgroup."""
        return not path or bool(self.recognises("", path.rpartition("/")[2]))

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return a container's metadata; see :class:`Runtime`."""
        if not self.may_know(container_id, path):
            return None
        found = self._read(container_id, path)
        if found is None and path and self._stores.look_again():
            found = self._read(container_id, path)
        return found

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the databases of the container's store: all changes are written there."""
        seen = self._seen.get(container.id)
        return self._database(seen[0]).watched if container.runtime == self.name and seen else []

    def changed(self, container: Container, path: str) -> bool:
        """Whether the container's record has changed since it was read."""
        seen = self._seen.get(container.id) if container.runtime == self.name else None
        if seen is None:
            return False
        store, digest = seen
        return self._recorded(store).get(container.id, digest) != digest

    def places(self) -> list[str]:
        """Return the databases of root's stores, and their directories."""
        return list(self._watched())

    def records(self, place: str) -> list[str]:
        """Return the ids of the containers in a database."""
        store = self._watched().get(place)
        return [] if store is None else list(self._recorded(store))

    def has_record(self, container: Container, path: str) -> bool:
        """Whether the container is in the database of a store that is trusted for it."""
        return any(container.id in self._recorded(store) for store in self._stores.for_cgroup(path))

    def _watched(self) -> dict[str, Store]:
        return {file: store for store in self._stores.for_cgroup("") for file in self._database(store).watched}

    def _recorded(self, store: Store) -> dict[str, int]:
        """Return a hash of each container's record."""
        looked, stamp, digests = self._digests.get(store, (-_ONE_LOOK, None, {}))
        now = self._clock()
        if now - looked >= _ONE_LOOK:
            database = self._database(store)
            before, stamp = stamp, database.stamp()
            if stamp != before:
                read = database.digests()
                # while it is being written, keep the old hashes: the end of the write is reported
                digests, stamp = (digests, None) if read is None else (read, stamp)
            self._digests[store] = now, stamp, digests
        return digests

    def _database(self, store: Store) -> Database:
        database = self._databases.get(store)
        if database is None:
            if len(self._databases) >= _DATABASES:
                for old in self._databases.values():
                    old.close()
                self._databases.clear()
                self._digests.clear()
            database = self._databases[store] = Database(store)
        return database

    def _read(self, container_id: str, path: str) -> Metadata | None:
        for store in self._stores.for_cgroup(path):
            record = self._database(store).record(container_id)
            if record is not None:
                if len(self._seen) >= _SEEN:
                    self._seen.clear()
                self._seen[container_id] = store, hash(record)
                found = self._metadata(container_id, store, record)
                if found.container.name:
                    return found
            # without a cgroup it may be Buildah's or CRI-O's
            listed = store.listed(container_id) if path else None
            if listed is not None:
                bundle = oci.bundle(store.bundle(container_id) or b"")
                known = Container(container_id, listed.name, listed.image, self.name)
                return Metadata(known if bundle is None else bundle.described(known))
        return None

    def _metadata(self, container_id: str, store: Store, record: Record) -> Metadata:
        from eunomia.containers.json_shapes import PodmanConfig, PodmanState

        config = decoded(record.config, PodmanConfig) or PodmanConfig()
        state = decoded(record.state, PodmanState) or PodmanState()
        asked = oci.bundle(bytes(config.spec))
        # The bundle is the request with what Podman added; the request has fewer mounts.
        bundle = oci.bundle(store.bundle(container_id) or b"") or asked
        container = Container(container_id, runtime=self.name)
        if bundle is not None:
            container = bundle.described(container)
        image_id = bounded(config.rootfsImageID)
        container = container._replace(
            name=bounded(config.name),
            image=bounded(config.rootfsImageName) or bounded(config.RawImageName),
            image_id=f"sha256:{image_id}" if image_id else "",
            image_digest=self._images.digest(store, image_id) if image_id else "",
            labels=texts(config.labels),
            user=bounded(config.user) or container.user,
            mounts=(*(asked.mounts if asked else ()), *_volumes(config.namedVolumes)),
            privileged=config.privileged is True,
            network=_network(config, state.networkStatus) or container.network,
            addresses=_addresses(state.networkStatus),
            pid=state.pid if isinstance(state.pid, int) else 0,
            state=_STATES.get(state.state, "") if isinstance(state.state, int) else "",
            created=nanoseconds(config.createdTime),
            started=nanoseconds(state.startedTime),
            restarts=state.restartCount if isinstance(state.restartCount, int) else 0,
            sandbox=config.pause is True,
        )
        pod_id = bounded(config.pod)
        return Metadata(container, self._pod(pod_id, store, container) if is_id(pod_id) else None)

    def _pod(self, pod_id: str, store: Store, container: Container) -> Pod | None:
        """Return one of Podman's own pods, which have no namespace."""
        from eunomia.containers.json_shapes import PodmanPodConfig, PodmanPodState

        record = self._database(store).pod(pod_id)
        if record is None:
            return None
        config = decoded(record.config, PodmanPodConfig) or PodmanPodConfig()
        state = decoded(record.state, PodmanPodState) or PodmanPodState()
        infra = bounded(state.InfraContainerID) or (container.id if container.sandbox else "")
        name = bounded(config.name)
        return Pod(name, "", pod_id, labels=texts(config.labels), sandbox=infra) if name else None


def _volumes(value: object) -> Iterator[Mount]:
    for volume in value[:64] if isinstance(value, list) else ():
        if isinstance(volume, dict):
            name, to = bounded(volume.get("volumeName")), bounded(volume.get("dest"))
            yield Mount(name, to, "volume", "ro" not in words(volume.get("options")))


def _network(config: PodmanConfig, status: object) -> str:
    """Return the networks' names, or the mode if there are none; empty if neither is known."""
    if other := bounded(config.netNsCtr):
        return f"container:{other}"
    mode = bounded(config.networkMode)
    # BoltDB has the names outside the configuration; the state has them once they are connected.
    for names in (config.newNetworks, config.networks, status if mode == "bridge" else None):
        if isinstance(names, (dict, list)) and names:
            return ",".join(words(sorted(map(bounded, names)), 16))
    return mode


def _addresses(status: object) -> tuple[str, ...]:
    """Return the addresses without prefix lengths: ``{network: {interfaces: {eth0: {subnets: [..]}}}}``."""
    found: list[str] = []
    for network in _values(status):
        for interface in _values(network.get("interfaces")):
            subnets = interface.get("subnets")
            for subnet in subnets[:16] if isinstance(subnets, list) else ():
                address = bounded(subnet.get("ipnet")).partition("/")[0] if isinstance(subnet, dict) else ""
                if address:
                    found.append(address)
    return tuple(found[:64])


def _values(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield from (v for v in list(value.values())[:16] if isinstance(v, dict))


RUNTIME = Podman
