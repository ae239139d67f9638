# SPDX-License-Identifier: BSD-2-Clause
"""Files that runtimes keep about containers: Podman, CRI-O, containerd, LXC. Their readers raise nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

from eunomia.identity import Container
from tests.fuzz.target import FOLDER, ID, Target, put

POD = "cd" * 32
CGROUP = f"/machine.slice/crio-{ID}.scope"


def _store(name: str, driver: str = "overlay"):  # type: ignore[no-untyped-def]
    from eunomia.containers.daemons import DataRoot
    from eunomia.containers.storage import Store

    root = str(FOLDER / name)
    return Store(DataRoot("/", root), f"{root}/run"), f"{name}/{driver}-containers"


# Podman

_CONFIG = {
    "id": ID, "name": "web", "rootfsImageName": "a/b:1", "rootfsImageID": "ef" * 32, "pod": POD, "labels": {"a": "b"},
    "createdTime": "2026-01-01T00:00:00.123456789Z", "privileged": False, "networks": {"x": {}}, "netNsCtr": "",
    "namedVolumes": [{"volumeName": "v", "dest": "/v", "options": ["ro"]}], "spec": {"process": {"args": ["sh"]}},
    "overlayVolumes": [{"dest": "/o", "source": "/s"}], "createNetNS": True, "userMountsFolders": [],
}  # fmt: skip
_STATE = {
    "state": 3, "pid": 7, "startedTime": "2026-01-01T00:00:01Z", "finishedTime": "0001-01-01T00:00:00Z",
    "networkStatus": {"x": {"interfaces": {"eth0": {"subnets": [{"ipnet": "10.0.0.2/16"}]}}}}, "bindMounts": {"/a": "/b"},
}  # fmt: skip


def _sqlite(config: bytes, state: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as db:
        for kind in ("Container", "Pod"):
            key = ID if kind == "Container" else POD
            for table, text in ((f"{kind}Config", config), (f"{kind}State", state)):
                db.execute(f"CREATE TABLE {table} (ID TEXT PRIMARY KEY, JSON TEXT)")
                db.execute(f"INSERT INTO {table} VALUES (?, CAST(? AS TEXT))", (key, text))  # noqa: S608
        db.commit()
        return db.serialize()


def _endless() -> bytes:
    with closing(sqlite3.connect(":memory:")) as db:
        count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS ID, i AS JSON FROM n"
        for table in ("ContainerConfig", "ContainerState"):
            db.execute(f"CREATE VIEW {table} AS {count}")
        db.commit()
        return db.serialize()


def _databases() -> list[bytes]:
    return [_sqlite(json.dumps(_CONFIG).encode(), json.dumps(_STATE).encode()), _endless()]


def _podman(data: bytes) -> None:
    from eunomia.containers.podman_db import Database
    from eunomia.containers.runtimes.podman import Podman

    store, _ = _store("podman")
    put("podman/db.sql", data)
    podman, path = Podman([store]), f"/machine.slice/libpod-{ID}.scope"
    found = podman.lookup(ID, path)
    podman.changed(found.container if found else Container(ID, runtime="podman"), path)
    for place in podman.places():
        podman.records(place)
    with closing(Database(store)) as database:
        database.digests()
        database.stamp()
        database.pod(POD)


def _podman_records(data: bytes) -> None:
    _podman(_sqlite(data, data))


# What containers/storage keeps

_LISTED = [{"id": ID, "names": ["web"], "image": "ef" * 32, "metadata": json.dumps({"name": "n", "image-name": "i"})}]
_IMAGES = [{"id": "ef" * 32, "digest": "sha256:" + "01" * 32}]


def _storage(data: bytes) -> None:
    from eunomia.containers.storage import Images, _settings

    store, directory = _store("storage")
    for name in ("containers.json", "volatile-containers.json"):
        put(f"{directory}/{name}", data)
    put("storage/overlay-images/images.json", data)
    store.listed(ID)
    Images().digest(store, "ef" * 32)
    _settings("/", (put("storage/storage.conf", data),))


# CRI-O

_CNI = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.9/24", "gateway": "10.0.0.1"}], "interfaces": [{"name": "eth0"}]}
_NOTES = {
    "Metadata": json.dumps({"name": "c", "attempt": 1}), "Labels": json.dumps({"io.kubernetes.pod.name": "p"}), "IP.0": "10.0.0.9",
    "Annotations": json.dumps({"a": "b"}), "CNIResult": json.dumps(_CNI), "ContainerType": "container", "SandboxID": POD,
    "Volumes": json.dumps([{"container_path": "/a", "host_path": "/b", "image": {"image": "x"}}]), "Image": "ef" * 32,
    "ImageName": "a/b:1", "ImageRepoDigests": f"a/b@sha256:{'01' * 32}", "Created": "2026-01-01T00:00:00Z",
    "SeccompProfilePath": "RuntimeDefault", "KubeName": "p", "Namespace": "n",
}  # fmt: skip


def _bundle(notes: dict[str, str]) -> bytes:
    annotations = {f"io.kubernetes.cri-o.{key}": value for key, value in notes.items()}
    return json.dumps({"ociVersion": "1.0", "annotations": annotations, "linux": {}, "process": {"args": ["sh"]}}).encode()


def _lookup_crio(files: dict[str, bytes]) -> None:
    from eunomia.containers.runtimes.crio import Crio

    store, directory = _store("crio")
    for id_ in (ID, POD):
        for name, data in files.items():
            put(f"{directory}/{id_}/userdata/{name}", data)
    crio = Crio([store])
    found = crio.lookup(ID, CGROUP)
    crio.changed(found.container if found else Container(ID, runtime="cri-o"), CGROUP)
    crio.search()


def _crio(data: bytes) -> None:
    _lookup_crio({"config.json": data, "state.json": b"{}", "pidfile": b"7"})


def _crio_notes(data: bytes) -> None:
    """An annotation that is broken in each place where one is read: the CNI's answer among them."""
    text = data.decode("utf-8", "replace")
    sandbox = {"ContainerType": "sandbox"} if len(data) % 2 else {}
    broken = dict.fromkeys(_NOTES, text) if len(data) % 3 else _NOTES | {"CNIResult": text, "IP.0": ""}
    _lookup_crio({"config.json": _bundle(broken | sandbox), "state.json": data, "pidfile": data})


def _crio_states() -> list[bytes]:
    state = {"status": "running", "created": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:01.5Z"}
    return [json.dumps(x).encode() for x in (state, _CNI)] + [v.encode() for v in _NOTES.values()]


# containerd

_TOML = rb"""version = 2
imports = ["/FOLDER/conf.d/*.toml", 'self.toml', "[a-", "missing/**/x[!]y"]
root = "/var/lib/containerd"
state = "/run/other"
[plugins."io.containerd.grpc.v1.cri"]
  state = 'no'
"""


def _containerd(data: bytes) -> None:
    from eunomia.containers.daemons import Daemon
    from eunomia.containers.runtimes.containerd import _configured

    data = data.replace(b"/FOLDER", str(FOLDER / "containerd").encode())
    config = put("containerd/config.toml", data)
    for name in ("self.toml", "conf.d/a.toml", "conf.d/b.toml"):
        put(f"containerd/{name}", data)
    for wanted in ("state", "root"):
        _configured(Daemon("/"), config, wanted)


def _status(data: bytes) -> None:
    from eunomia.containers.containerd_db import CRI, Database
    from eunomia.containers.daemons import DataRoot

    put(f"cri/{CRI}/containers/{ID}/status", data)
    Database(DataRoot("/", str(FOLDER / "cri"))).status(ID)


def _bundles(data: bytes) -> None:
    from eunomia.containers.daemons import DataRoot
    from eunomia.containers.runtimes.containerd import TASKS, Containerd

    for name in ("config.json", "init.pid"):
        put(f"tasks/{TASKS}/k8s.io/{ID}/{name}", data)
        put(f"tasks/{TASKS}/default/web/{name}", data)
    state = DataRoot("/", str(FOLDER / "tasks"))
    containerd = Containerd([state], roots={state: str(FOLDER / "tasks")})
    path = f"/kubepods.slice/cri-containerd-{ID}.scope"
    found = containerd.lookup(ID, path)
    containerd.changed(found.container if found else Container(ID, runtime="containerd"), path)
    containerd.recognises("x", "y")
    containerd.lookup("web", "/default/web")


def _bundle_seeds() -> list[bytes]:
    names = {"container-type": "container", "sandbox-id": POD, "sandbox-name": "p", "image-name": "a/b:1", "sandbox-uid": "u"}
    notes = {f"io.kubernetes.cri.{key}": value for key, value in names.items()}
    linux = {"cgroupsPath": "kubepods.slice:cri-containerd:" + ID, "namespaces": [{"type": "network"}]}
    return [json.dumps({"ociVersion": "1.0", "annotations": notes, "linux": linux}).encode(), b'{"linux":{"cgroupsPath":"/x/y"}}', b"7"]


# LXC

_LXC = b"""# Template used to create this container: /usr/share/lxc/templates/lxc-download
# Parameters passed to the template: -d debian -r bookworm -a amd64
lxc.rootfs.path = overlay:/lower:/upper
image.description: Debian
  volatile.base_image: "abc"
"""


def _lxc(data: bytes) -> None:
    from eunomia.containers.daemons import DataRoot
    from eunomia.containers.runtimes.lxc import Lxc, _of_config, _of_record, _text

    text = _text(DataRoot("/", str(FOLDER)), put("lxc/config", data))
    _of_config(text)
    _of_record(text)
    name = data.decode("utf-8", "surrogateescape")
    Lxc().lookup(name, f"/lxc.payload.{name}")


TARGETS = {
    "podman": Target(_databases, _podman, (), 4),
    "podman_records": Target(lambda: [json.dumps(x).encode() for x in (_CONFIG, _STATE)], _podman_records, (), 4),
    "storage": Target(lambda: [json.dumps(x).encode() for x in (_LISTED, _IMAGES)] + [b'[storage]\ngraphroot = "/x"\n'], _storage, (), 2),
    "crio": Target(lambda: [_bundle(_NOTES)], _crio, (), 2),
    "crio_notes": Target(_crio_states, _crio_notes, (), 2),
    "containerd": Target(lambda: [_TOML], _containerd),
    "status": Target(lambda: [b'{"CreatedAt":1767225600000000000,"StartedAt":1,"FinishedAt":0,"Pid":7}'], _status),
    "bundles": Target(_bundle_seeds, _bundles, (), 2),
    "lxc": Target(lambda: [_LXC, b"web"], _lxc),
}
