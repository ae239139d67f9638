# SPDX-License-Identifier: BSD-2-Clause
"""CRI-O: the bundle of a container has in its annotations what the kubelet asked for.

Bundles lie in the run root and in the root of a store (see :mod:`eunomia.containers.storage`); the annotations are
those of pkg/annotations of github.com/cri-o/cri-o. Labels of a pod stand in its sandbox's bundle. A sandbox without
a process of its own (``drop_infra_ctr``) has a bundle and no cgroup.
Beside the bundle CRI-O writes ``state.json`` when a container was made, started and stopped, and conmon ``exit``
when it ended. The pid file tells nothing of that: it is there from the making on, and stays.
``crio-conmon-<id>`` is the cgroup of conmon, which is no container.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from eunomia.containers import blocking, kubepods, oci
from eunomia.containers.conmon import Stores
from eunomia.containers.daemons import CONFIG_LIMIT, DataRoot, host_bases
from eunomia.containers.paths import is_id
from eunomia.containers.runtime import TEXTS_LIMIT, Metadata, bounded, texts
from eunomia.containers.storage import Images, Store, roots_stores
from eunomia.containers.timestamps import nanoseconds
from eunomia.containers.tolerant_json import decoded, object_of
from eunomia.identity import CREATED, EXITED, PAUSED, RUNNING, Container, Mount, Pod
from eunomia.kernel_clock import monotonic_ns
from eunomia.resolve_in_root import open_file, read
from eunomia.typing import NamedTuple

_NOTE = "io.kubernetes.cri-o."
_OWN = "io.kubernetes."
_CONFIG, _CONFIGS = "/etc/crio/crio.conf", "/etc/crio/crio.conf.d"
_ADDRESSES = 16
_PID_DIGITS = 10
_LOOKED_AT = 256  # containers of a store, for one of CRI-O's
# Say again what the pod is called, and that its sandbox is one.
_NO_LABELS = (f"{_OWN}pod.", f"{_OWN}container.name")
_STATES = {"created": CREATED, "running": RUNNING, "paused": PAUSED, "stopped": EXITED}


class Crio:
    """Reads the bundles that CRI-O makes."""

    name = "cri-o"
    quick = True

    def __init__(self, stores: Sequence[Store] | None = None, clock: Callable[[], int] = monotonic_ns) -> None:
        """``stores`` replaces the search for them; ``clock`` gives monotonic nanoseconds."""
        self._stores = Stores(clock, stores, _usual)
        self._images = Images()

    def recognises(self, parent: str, name: str) -> str:
        """Return the id in ``crio-ID`` and ``crio-ID.scope``."""
        container_id = name.removesuffix(".scope").removeprefix("crio-")
        return container_id if name.startswith("crio-") and is_id(container_id) else ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return what a container's bundle tells of it, and its sandbox's of the pod; see :class:`Runtime`."""
        if path and not self.recognises("", path.rpartition("/")[2]):
            return None
        found = self._find(container_id, path)
        if found is None and self._stores.look_again():
            found = self._find(container_id, path)
        return found

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the directories in which the files are that tell of a container's state."""
        if container.runtime != self.name:
            return []
        for store in self._stores.heard(path):
            found = [store.root.shown(directory) for directory in store.directories(container.id)]
            if found := [directory for directory in found if os.path.isdir(directory)]:
                return found
        return []

    def changed(self, container: Container, path: str) -> bool:
        """Whether it was started or has ended; what the kubelet asked for stays as it is."""
        if container.runtime != self.name:
            return False
        for store in self._stores.heard(path):
            if any(os.path.isdir(store.root.shown(d)) for d in store.directories(container.id)):
                life = _life(store, container.id, container.sandbox)
                pid = life.pid if store.root.base == "/" else 0
                return (life.state, life.started, pid) != (container.state, container.started, container.pid)
        return False

    def search(self) -> list[Store]:
        """Return the stores of the machine in which containers of CRI-O's are, or might be: some cannot be read."""
        self._stores.look_again()
        return [store for store in dict.fromkeys(self._stores.heard("")) if _is_used(store)]

    def _find(self, container_id: str, path: str) -> Metadata | None:
        for store in self._stores.heard(path):
            bundle = oci.bundle(store.bundle(container_id) or b"")
            if bundle is not None:
                return self._told(store, container_id, bundle, path)
        return None

    def _told(self, store: Store, container_id: str, bundle: oci.Bundle, path: str) -> Metadata:
        notes = _Notes(bundle.annotations)
        is_sandbox = notes.text("ContainerType") == "sandbox"
        sandbox_id = notes.text("SandboxID") or (container_id if is_sandbox else "")
        sandbox = notes
        if not is_sandbox and is_id(sandbox_id):
            around = oci.bundle(store.bundle(sandbox_id) or b"")
            sandbox = _Notes(around.annotations if around else {})
        metadata = notes.json("Metadata")
        addresses = notes.addresses() or sandbox.addresses()
        image, image_id, digest = self._image(store, container_id, notes)
        attempt = metadata.get("attempt", 0)
        life = _life(store, container_id, is_sandbox)
        name = notes.own("container.name") or bounded(metadata.get("name")) or container_id
        on_host = sandbox.text("HostNetwork") == "true" or bundle.network == "host"
        container = bundle.told(Container(container_id, runtime=self.name))._replace(
            name="POD" if is_sandbox else name,
            image=image,
            image_id=image_id,
            image_digest=digest,
            labels=texts(notes.json("Labels")),
            annotations=texts(notes.json("Annotations")),
            mounts=tuple(notes.mounts(bundle.mounts)),
            seccomp=_profile(notes.text("SeccompProfilePath"), bundle.seccomp),
            network="host" if on_host else "pod",
            addresses=addresses,
            pid=life.pid if store.root.base == "/" else 0,  # another root may go with other process ids
            state=life.state,
            # of a container the bundle has when it was asked for, of a sandbox what CRI-O itself says
            created=(0 if is_sandbox else life.created) or nanoseconds(notes.text("Created")),
            started=life.started,
            restarts=attempt if isinstance(attempt, int) and not is_sandbox else None,
            sandbox=is_sandbox,
        )
        pod = Pod(
            notes.own("pod.name") or sandbox.text("KubeName"),
            notes.own("pod.namespace") or sandbox.text("Namespace"),
            notes.own("pod.uid") or kubepods.pod_uid(path),
            texts({k: v for k, v in sandbox.json("Labels").items() if not k.startswith(_NO_LABELS)}),
            texts(sandbox.json("Annotations")),
            sandbox_id,
            addresses,
            qos=kubepods.qos(path) or kubepods.qos(f"{sandbox.text('CgroupParent')}/{container_id}"),
        )
        return Metadata(container, pod if pod.name else None)

    def _image(self, store: Store, container_id: str, notes: _Notes) -> tuple[str, str, str]:
        """Return an image's name, the digest of its configuration, and that of its manifest.

        The kubelet asks for an image by its id, so ``Image`` mostly is one.
        """
        named = [notes.text("ImageName"), notes.text("Image")]
        image = next((n for n in named if n and not is_id(n)), "") or next(filter(None, named), "")
        reference = notes.text("ImageRef")
        image_id = next((r for r in (reference, named[1]) if is_id(r)), "")
        if not image_id:  # as a sandbox's bundle, which does not tell
            listed = store.listed(container_id)
            image_id = listed.image_id if listed and is_id(listed.image_id) else ""
        digest = _digest(reference) or notes.digest(image) or self._images.digest(store, image_id)
        return image, f"sha256:{image_id}" if image_id else "", digest


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
        """Return those of the pod: a container's bundle has them one by one, a sandbox's what CNI answered."""
        found = (self.text(f"IP.{n}") for n in range(_ADDRESSES))
        told = tuple(address for address in found if address) or tuple(filter(None, (self.text("IP"),)))
        answer = self.json("CNIResult").get("ips") if not told else None
        ips = answer[:_ADDRESSES] if isinstance(answer, list) else []
        asked = (bounded(ip.get("address")).partition("/")[0] for ip in ips if isinstance(ip, dict))
        return told or tuple(filter(None, asked))

    def digest(self, image: str) -> str:
        """Return the digest under which an image is known in its repository, or in another one."""
        known = [k for k in self.text("ImageRepoDigests").split(",") if _digest(k)]
        repository = image.partition("@")[0]
        if ":" in repository.rpartition("/")[2]:
            repository = repository.rpartition(":")[0]
        own = (k for k in known if k.partition("@")[0] == repository)
        return _digest(next(own, known[0])) if known else ""

    def mounts(self, seen: Sequence[Mount]) -> Iterator[Mount]:
        """Yield the mounts that a bundle has, and the images that CRI-O mounts by itself."""
        from eunomia.containers.json_shapes import CrioVolume

        yield from seen
        there = {mount.destination for mount in seen}
        value = self._all.get(f"{_NOTE}Volumes")
        volumes = decoded(value.encode("utf-8", "replace"), list[CrioVolume]) if isinstance(value, str) else None
        for volume in volumes[:TEXTS_LIMIT] if volumes else ():
            destination = bounded(volume.container_path)
            if destination and destination not in there:
                kind = "image" if volume.image else "bind"
                yield Mount(bounded(volume.host_path), destination, kind, volume.readonly is not True)


class _Life(NamedTuple):
    """How far a container is; times are nanoseconds since the epoch, 0 for what has not happened."""

    state: str
    pid: int = 0
    created: int = 0
    started: int = 0


def _life(store: Store, container_id: str, is_sandbox: bool) -> _Life:
    from eunomia.containers.json_shapes import CrioState

    data, _ = store.userdata(container_id, "state.json") or (b"", 0)
    told = decoded(data, CrioState) or CrioState()
    created, started = nanoseconds(told.created), nanoseconds(told.started)
    pid = _first_process(store, container_id)
    state = _STATES.get(told.status, CREATED) if isinstance(told.status, str) else CREATED
    if is_sandbox and told.status == "":  # one without a process is not started; it is ready when it is made
        state = RUNNING
    if store.userdata(container_id, "exit" if pid or not is_sandbox else "stopped") is not None:
        state = EXITED
    return _Life(state, 0 if state == EXITED else pid, created, 0 if state == CREATED else started)


def _digest(reference: str) -> str:
    """Return the digest in ``name@sha256:...``; empty where there is none."""
    digest = reference.rpartition("@")[2]
    return digest if digest.startswith("sha256:") and is_id(digest[7:]) else ""


def _profile(asked: str, seen: str) -> str:
    """Return the name of a filter as CRI was asked for it; the bundle knows whether there is one."""
    if not asked or seen == "unconfined" or asked.lower() == "unconfined":
        return seen
    return "default" if asked in {"RuntimeDefault", "runtime/default"} else asked.removeprefix("localhost/")


def _first_process(store: Store, container_id: str) -> int:
    """Return the first process's id; 0 where it has none (yet)."""
    data, _ = store.userdata(container_id, "pidfile") or (b"", 0)
    return int(data) if data.isdigit() and len(data) <= _PID_DIGITS else 0


def _is_used(store: Store) -> bool:
    """Whether one of a store's containers is CRI-O's: Podman keeps its own in the same."""
    for top in filter(None, (store.run, store.root.path)):
        try:
            names = os.listdir(store.root.shown(f"{top}/overlay-containers"))
        except PermissionError:
            return True
        except (OSError, ValueError):
            continue
        for name in filter(is_id, names[:_LOOKED_AT]):
            bundle = oci.bundle(store.bundle(name) or b"")
            if bundle is not None and _Notes(bundle.annotations).text("ContainerType"):
                return True
    return False


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
        blocking.check(base, path)
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
