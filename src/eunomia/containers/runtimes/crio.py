# SPDX-License-Identifier: BSD-2-Clause
"""CRI-O: reads containers' bundles, whose annotations have the kubelet's request.

Bundles are in the run root and in the root of a store (see :mod:`eunomia.containers.storage`); the annotations are
those of pkg/annotations of github.com/cri-o/cri-o. A pod's labels are in its sandbox's bundle. A sandbox without a
process of its own (``drop_infra_ctr``) has a bundle and no cgroup.
Beside the bundle, CRI-O writes ``state.json`` when a container is created, started and stopped, and conmon writes
``exit`` when it has ended. The pid file does not show that: it exists from the creation on, and stays.
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
_LOOKED_AT = 256  # containers of a store that are checked for one of CRI-O
# Labels that repeat the pod's name, or mark its sandbox.
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
        """Return a container's metadata from its bundle, and the pod's from its sandbox's; see :class:`Runtime`."""
        if path and not self.recognises("", path.rpartition("/")[2]):
            return None
        found = self._find(container_id, path)
        if found is None and self._stores.look_again():
            found = self._find(container_id, path)
        return found

    def watches(self, container: Container, path: str) -> list[str]:
        """Return the directories of the files with a container's state."""
        if container.runtime != self.name:
            return []
        for store in self._stores.for_cgroup(path):
            found = [store.root.shown(directory) for directory in store.directories(container.id)]
            if found := [directory for directory in found if os.path.isdir(directory)]:
                return found
        return []

    def changed(self, container: Container, path: str) -> bool:
        """Whether it was started or has ended; the rest does not change."""
        if container.runtime != self.name:
            return False
        for store in self._stores.for_cgroup(path):
            if any(os.path.isdir(store.root.shown(d)) for d in store.directories(container.id)):
                life = _life(store, container.id, container.sandbox)
                pid = life.pid if store.root.base == "/" else 0
                return (life.state, life.started, pid) != (container.state, container.started, container.pid)
        return False

    def search(self) -> list[Store]:
        """Return the stores that have containers of CRI-O, or may have them because they cannot be read."""
        self._stores.look_again()
        return [store for store in dict.fromkeys(self._stores.for_cgroup("")) if _is_used(store)]

    def _find(self, container_id: str, path: str) -> Metadata | None:
        for store in self._stores.for_cgroup(path):
            bundle = oci.bundle(store.bundle(container_id) or b"")
            if bundle is not None:
                return self._metadata(store, container_id, bundle, path)
        return None

    def _metadata(self, store: Store, container_id: str, bundle: oci.Bundle, path: str) -> Metadata:
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
        container = bundle.described(Container(container_id, runtime=self.name))._replace(
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
            pid=life.pid if store.root.base == "/" else 0,  # behind another root, process ids may differ
            state=life.state,
            # a container's bundle has the time of the request, a sandbox's CRI-O's own
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

        The kubelet requests an image by its id, so ``Image`` usually is an id.
        """
        named = [notes.text("ImageName"), notes.text("Image")]
        image = next((n for n in named if n and not is_id(n)), "") or next(filter(None, named), "")
        reference = notes.text("ImageRef")
        image_id = next((r for r in (reference, named[1]) if is_id(r)), "")
        if not image_id:  # a sandbox's bundle does not have it
            listed = store.listed(container_id)
            image_id = listed.image_id if listed and is_id(listed.image_id) else ""
        digest = _digest(reference) or notes.digest(image) or self._images.digest(store, image_id)
        return image, f"sha256:{image_id}" if image_id else "", digest


class _Notes:
    """Annotations of a bundle of CRI-O."""

    def __init__(self, annotations: Mapping[str, object]) -> None:
        self._all = annotations

    def text(self, key: str) -> str:
        return bounded(self._all.get(_NOTE + key))

    def json(self, key: str) -> dict[str, object]:
        value = self._all.get(_NOTE + key)
        return object_of(value.encode("utf-8", "replace")) if isinstance(value, str) else {}

    def own(self, key: str) -> str:
        """Return one of the kubelet's annotations; older versions have them only among the labels."""
        return bounded(self._all.get(_OWN + key)) or bounded(self.json("Labels").get(_OWN + key))

    def addresses(self) -> tuple[str, ...]:
        """Return the pod's addresses: one by one in a container's bundle, as CNI's result in a sandbox's."""
        found = (self.text(f"IP.{n}") for n in range(_ADDRESSES))
        listed = tuple(address for address in found if address) or tuple(filter(None, (self.text("IP"),)))
        answer = self.json("CNIResult").get("ips") if not listed else None
        ips = answer[:_ADDRESSES] if isinstance(answer, list) else []
        asked = (bounded(ip.get("address")).partition("/")[0] for ip in ips if isinstance(ip, dict))
        return listed or tuple(filter(None, asked))

    def digest(self, image: str) -> str:
        """Return an image's digest in its repository, or else in another one."""
        known = [k for k in self.text("ImageRepoDigests").split(",") if _digest(k)]
        repository = image.partition("@")[0]
        if ":" in repository.rpartition("/")[2]:
            repository = repository.rpartition(":")[0]
        own = (k for k in known if k.partition("@")[0] == repository)
        return _digest(next(own, known[0])) if known else ""

    def mounts(self, seen: Sequence[Mount]) -> Iterator[Mount]:
        """Yield a bundle's mounts, and the image volumes that CRI-O mounts itself."""
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
    """A container's state; times are nanoseconds since the epoch, 0 for what has not happened."""

    state: str
    pid: int = 0
    created: int = 0
    started: int = 0


def _life(store: Store, container_id: str, is_sandbox: bool) -> _Life:
    from eunomia.containers.json_shapes import CrioState

    data, _ = store.userdata(container_id, "state.json") or (b"", 0)
    written = decoded(data, CrioState) or CrioState()
    created, started = nanoseconds(written.created), nanoseconds(written.started)
    pid = _first_process(store, container_id)
    state = _STATES.get(written.status, CREATED) if isinstance(written.status, str) else CREATED
    if is_sandbox and written.status == "":  # without a process it is never started, but ready once created
        state = RUNNING
    if store.userdata(container_id, "exit" if pid or not is_sandbox else "stopped") is not None:
        state = EXITED
    return _Life(state, 0 if state == EXITED else pid, created, 0 if state == CREATED else started)


def _digest(reference: str) -> str:
    """Return the digest in ``name@sha256:...``; empty if there is none."""
    digest = reference.rpartition("@")[2]
    return digest if digest.startswith("sha256:") and is_id(digest[7:]) else ""


def _profile(asked: str, seen: str) -> str:
    """Return the name of a filter in the CRI request; the bundle says whether there is one."""
    if not asked or seen == "unconfined" or asked.lower() == "unconfined":
        return seen
    return "default" if asked in {"RuntimeDefault", "runtime/default"} else asked.removeprefix("localhost/")


def _first_process(store: Store, container_id: str) -> int:
    """Return the first process's id; 0 if there is none (yet)."""
    data, _ = store.userdata(container_id, "pidfile") or (b"", 0)
    return int(data) if data.isdigit() and len(data) <= _PID_DIGITS else 0


def _is_used(store: Store) -> bool:
    """Whether one of a store's containers is CRI-O's: Podman uses the same stores."""
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
    """Yield the store that CRI-O's configuration names (crio.conf(5)), and root's stores."""
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
