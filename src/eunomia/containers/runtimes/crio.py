# SPDX-License-Identifier: BSD-2-Clause
"""CRI-O: the bundle of a container has in its annotations what the kubelet asked for.

Bundles lie in the run root and in the root of a store (see :mod:`eunomia.containers.storage`); the annotations are
those of pkg/annotations of github.com/cri-o/cri-o. Labels and addresses of a pod stand in its sandbox's bundle.
``crio-conmon-<id>`` is the cgroup of conmon, which is no container.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from eunomia.containers import kubepods, oci
from eunomia.containers.conmon import Stores
from eunomia.containers.daemons import CONFIG_LIMIT, DataRoot, host_bases
from eunomia.containers.lenient import object_of
from eunomia.containers.paths import is_id
from eunomia.containers.runtime import Found, bounded, texts
from eunomia.containers.storage import Images, Store, roots_stores
from eunomia.containers.when import nanoseconds
from eunomia.identity import CREATED, RUNNING, Container, Pod
from eunomia.inside import open_file, read

_NOTE = "io.kubernetes.cri-o."
_OWN = "io.kubernetes."
_CONFIG, _CONFIGS = "/etc/crio/crio.conf", "/etc/crio/crio.conf.d"
_ADDRESSES = 16


class Crio:
    """Reads the bundles that CRI-O makes."""

    name = "cri-o"

    def __init__(self, stores: Sequence[Store] | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """``stores`` replaces the search for them; ``clock`` gives monotonic nanoseconds."""
        self._stores = Stores(clock, stores, _usual)
        self._images = Images()

    def recognises(self, parent: str, name: str) -> str:
        """Return the id in ``crio-ID`` and ``crio-ID.scope``."""
        container_id = name.removesuffix(".scope").removeprefix("crio-")
        return container_id if name.startswith("crio-") and is_id(container_id) else ""

    def lookup(self, container_id: str, path: str) -> Found | None:
        """Return what a container's bundle tells of it, and its sandbox's of the pod; see :class:`Runtime`."""
        if not self.recognises("", path.rpartition("/")[2]):
            return None
        found = self._find(container_id, path)
        if found is None and self._stores.look_again():
            found = self._find(container_id, path)
        return found

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the directory in which the first process's id appears after all else."""
        if container.runtime != self.name:
            return []
        directories = [
            store.root.shown(f"{store.run or store.root.path}/overlay-containers/{container.id}/userdata")
            for store in self._stores.heard(path)
        ]
        return [directory for directory in directories if os.path.isdir(directory)][:1]

    def changed(self, container: Container, path: str) -> bool:
        """Whether the first process has come; what the kubelet asked for stays as it is."""
        if container.runtime != self.name or container.state != CREATED:
            return False
        return any(_first_process(store, container.id)[0] for store in self._stores.heard(path))

    def _find(self, container_id: str, path: str) -> Found | None:
        for store in self._stores.heard(path):
            bundle = oci.bundle(store.bundle(container_id) or b"")
            if bundle is not None:
                return self._told(store, container_id, bundle, path)
        return None

    def _told(self, store: Store, container_id: str, bundle: oci.Bundle, path: str) -> Found:
        notes = _Notes(bundle.annotations)
        is_sandbox = notes.text("ContainerType") == "sandbox"
        sandbox_id = notes.text("SandboxID") or (container_id if is_sandbox else "")
        sandbox = notes
        if not is_sandbox and is_id(sandbox_id):
            around = oci.bundle(store.bundle(sandbox_id) or b"")
            sandbox = _Notes(around.annotations if around else {})
        metadata, addresses = notes.json("Metadata"), sandbox.addresses()
        reference = notes.text("ImageRef")
        image_id = reference if is_id(reference) else ""
        attempt = metadata.get("attempt", 0)
        pid, started = _first_process(store, container_id)
        name = notes.own("container.name") or bounded(metadata.get("name")) or container_id
        on_host = sandbox.text("HostNetwork") == "true" or bundle.network == "host"
        container = bundle.told(Container(container_id, runtime=self.name))._replace(
            name="POD" if is_sandbox else name,
            image=notes.text("Image") or notes.text("ImageName"),
            image_id=f"sha256:{image_id}" if image_id else "",
            image_digest=_digest(reference) or self._images.digest(store, image_id),
            labels=texts(notes.json("Labels")),
            annotations=texts(notes.json("Annotations")),
            privileged=True if bundle.privileged else bundle.privileged,
            seccomp=_profile(notes.text("SeccompProfilePath")) or bundle.seccomp,
            network="host" if on_host else "pod",
            addresses=addresses,
            pid=pid if store.root.base == "/" else 0,  # another root may go with other process ids
            state=RUNNING if pid else CREATED,
            created=nanoseconds(notes.text("Created")),
            started=started,
            restarts=attempt if isinstance(attempt, int) and not is_sandbox else None,
            sandbox=is_sandbox,
        )
        pod = Pod(
            notes.own("pod.name") or sandbox.text("KubeName"),
            notes.own("pod.namespace") or sandbox.text("Namespace"),
            notes.own("pod.uid") or kubepods.pod_uid(path),
            texts({k: v for k, v in sandbox.json("Labels").items() if not k.startswith(f"{_OWN}pod.")}),
            texts(sandbox.json("Annotations")),
            sandbox_id,
            addresses,
            qos=kubepods.qos(path),
        )
        return Found(container, pod if pod.name else None)


class _Notes:
    """Annotations of a bundle that CRI-O made."""

    def __init__(self, annotations: Mapping[str, object]) -> None:
        self._all = annotations

    def text(self, key: str) -> str:
        return bounded(self._all.get(_NOTE + key))

    def json(self, key: str) -> dict[str, object]:
        value = self._all.get(_NOTE + key)
        return object_of(value.encode("utf-8", "replace")) if isinstance(value, str) else {}

    def own(self, key: str) -> str:
        """Return one of the kubelet's, which older versions have among the labels alone."""
        return bounded(self._all.get(_OWN + key)) or bounded(self.json("Labels").get(_OWN + key))

    def addresses(self) -> tuple[str, ...]:
        found = (self.text(f"IP.{n}") for n in range(_ADDRESSES))
        return tuple(address for address in found if address) or tuple(filter(None, (self.text("IP"),)))


def _digest(reference: str) -> str:
    """Return the digest in ``name@sha256:...``; empty where there is none."""
    digest = reference.rpartition("@")[2]
    return digest if digest.startswith("sha256:") and is_id(digest[7:]) else ""


def _profile(path: str) -> str:
    if path in {"", "unconfined"}:
        return path
    return "default" if path == "runtime/default" else path.removeprefix("localhost/")


def _first_process(store: Store, container_id: str) -> tuple[int, int]:
    """Return the first process's id and when it was made; 0 and 0 before."""
    for top in filter(None, (store.run, store.root.path)):
        try:
            data, written = read(store.open(f"{top}/overlay-containers/{container_id}/userdata/pidfile"), 32)
            return int(data), written
        except (OSError, ValueError):
            continue
    return 0, 0


def _usual() -> Iterator[Store]:
    """Yield the store that CRI-O's configuration names, and those of root (crio.conf(5))."""
    for base in host_bases():
        root = run = ""
        for path in _configs(base):
            settings = _settings(base, path)
            root, run = bounded(settings.get("root")) or root, bounded(settings.get("runroot")) or run
        for store in roots_stores():
            if (root or run) and store.root.base == base:
                yield Store(DataRoot(base, root or store.root.path), run or store.run)
    yield from roots_stores()


def _configs(base: str) -> list[str]:
    directory = _CONFIGS if base == "/" else base + _CONFIGS
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        names = []
    return [_CONFIG, *(f"{_CONFIGS}/{name}" for name in names)]


def _settings(base: str, path: str) -> dict[str, object]:
    try:
        data, _ = read(open_file(base, path), CONFIG_LIMIT)
    except (OSError, ValueError):
        return {}
    import tomllib

    try:
        settings = tomllib.loads(data.decode("utf-8", "replace")).get("crio")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


RUNTIME = Crio
