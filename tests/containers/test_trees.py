# SPDX-License-Identifier: BSD-2-Clause
"""Small trees as CRI-O 1.36 and containerd 2.3 write them, field by field against the runtimes' answers.

``make test-trees`` does the same with trees that were taken from real ones.
"""

import json
import struct
from pathlib import Path

import pytest

from eunomia.containers.containerd_db import BLOBS, CRI, FILE
from eunomia.containers.daemons import DataRoot
from eunomia.containers.paths import candidates
from eunomia.containers.runtimes.containerd import TASKS, Containerd
from tests.containers import trees
from tests.containers.bolt_file import Writer

SANDBOX, APP, ENDED, WAITING, READER, BARE = (digit * 64 for digit in "123456")
UID = "2f6e1d9c-55e0-4a3b-9a51-7d0c3ce1a0b4"
POD = f"/kubepods/burstable/pod{UID}"
IMAGE, NAME = "ab" * 32, "registry.example/shop/app:1"
DIGEST, INDEX, PAUSE, PAUSE_DIGEST = (f"sha256:{two * 32}" for two in ("cd", "ce", "cf", "d0"))
OWN = {"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID}
LABELS, NOTES, ADDRESSES = {"app": "web", **OWN}, {"team": 'the "front"\nrow'}, ["10.88.0.7", "fd00:88::7"]
MADE, STARTED, DONE, NEVER = "2026-11-20T10:00:01.5Z", "2026-11-20T10:00:01.75Z", "2026-11-20T10:00:09Z", "0001-01-01T00:00:00Z"
CAPABILITIES = {"bounding": ["CAP_CHOWN", "CAP_KILL"]}
CNI = {"ips": [{"address": f"{a}/{n}", "interface": 2} for a, n in zip(ADDRESSES, (24, 64), strict=True)]}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def asked_for(container_id: str, name: str, state: str, pid: int = 0, **more: object) -> dict:
    """Return what CRI says of a container."""
    pod = {"name": "web-0", "namespace": "shop", "uid": UID, "labels": LABELS, "annotations": NOTES}
    cgroup = [f"4:memory:{POD}/crio-{container_id}", f"0::{POD}/crio-{container_id}"]
    return {
        "id": container_id, "name": name, "attempt": 0, "state": f"CONTAINER_{state}", "pid": pid, "pod": pod, "mounts": [],
        "image_name": NAME, "image_id": IMAGE, "image_ref": f"registry.example/shop/app@{DIGEST}", "sandbox_id": SANDBOX,
        "labels": {"io.kubernetes.container.name": name, **OWN}, "annotations": {"io.kubernetes.container.hash": "7"},
        "created_at": MADE, "started_at": NEVER if state == "CREATED" else STARTED, "addresses": ADDRESSES,
        "process": {"cgroup": cgroup} if pid else None, "cri": {"info": {"privileged": False}}, **more,
    }  # fmt: skip


def sandbox_of(one: dict, **more: object) -> dict:
    return {"id": SANDBOX, "state": "SANDBOX_READY", "pod": one["pod"], "addresses": ADDRESSES, "created_at": MADE, "pid": 0, **more}


# CRI-O


def crio_notes(**values: object) -> dict:
    dotted = {key.replace("__", "."): v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}
    return {f"io.kubernetes.cri-o.{key}": v for key, v in dotted.items()}


@pytest.fixture
def crio(tmp_path):
    """Lay a pod under a kubelet: the image asked for by its id, the sandbox without a process of its own."""
    root, run = (tmp_path / top / "overlay-containers" for top in ("root", "run"))
    digests = f"mirror.example/x@{INDEX},registry.example/shop/app@{DIGEST},registry.example/shop/app@{INDEX}"
    volume = {"container_path": "/models", "host_path": "/var/lib/containers/storage/overlay/9/merged", "readonly": True}
    image_mount = {"containerPath": "/models", "hostPath": volume["host_path"], "readonly": True}
    ones = [
        asked_for(APP, "app", "RUNNING", 401),
        asked_for(ENDED, "job", "EXITED", 402, attempt=2),
        asked_for(WAITING, "waiting", "CREATED", 403),
        asked_for(READER, "reader", "RUNNING", 404, mounts=[image_mount]),
    ]
    sandbox = sandbox_of(ones[0])
    for one in ones:
        own = crio_notes(
            ContainerType="container", SandboxID=SANDBOX, Image=IMAGE, ImageRef=IMAGE, ImageName=NAME, ImageRepoDigests=digests,
            IP__0=ADDRESSES[0], IP__1=ADDRESSES[1], Labels=one["labels"], Annotations=one["annotations"], Created=MADE,
            Metadata={"name": one["name"], "attempt": one["attempt"]}, SeccompProfilePath="RuntimeDefault",
            Volumes=[volume | {"image": {"image": IMAGE}}] if one["mounts"] else [],
        )  # fmt: skip
        linux = {"namespaces": [{"type": "network", "path": "/run/netns/7"}], "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}
        process = {"args": ["/bin/app"], "user": {"uid": 0, "gid": 0}, "capabilities": CAPABILITIES}
        bundle = {"annotations": own | OWN | {"io.kubernetes.container.name": one["name"]}, "process": process, "linux": linux}
        write(run / one["id"] / "userdata/config.json", bundle)
        write(run / one["id"] / "userdata/pidfile", str(one["pid"]))
        status = {"EXITED": "stopped"}.get(one["state"][10:], one["state"][10:].lower())
        times = {"created": MADE, "started": one["started_at"], "finished": DONE if status == "stopped" else NEVER}
        write(root / one["id"] / "userdata/state.json", {"status": status, **times})
    write(root / ENDED / "userdata/exit", "3")
    about = crio_notes(
        ContainerType="sandbox", SandboxID=SANDBOX, Image="localhost/pause:2", ImageName="localhost/pause:2", KubeName="web-0",
        Namespace="shop", Labels={**LABELS, "io.kubernetes.container.name": "POD"}, Annotations=NOTES, CNIResult=CNI,
        Created=MADE, HostNetwork="false", SeccompProfilePath="RuntimeDefault", CgroupParent=POD,
    )  # fmt: skip
    write(run / SANDBOX / "userdata/config.json", {"annotations": about | OWN, "linux": {}})
    write(run / SANDBOX / "userdata/state.json", {"status": "", "created": MADE, "started": MADE})
    write(root / "volatile-containers.json", [{"id": SANDBOX, "image": PAUSE[7:], "names": ["k8s_POD_web-0"]}])
    pause = {"id": PAUSE[7:], "digest": PAUSE_DIGEST}
    write(tmp_path / "root/overlay-images/images.json", [pause, {"id": IMAGE, "digest": INDEX}])
    images = [{"id": PAUSE[7:], "repoTags": ["localhost/pause:2"], "repoDigests": [f"localhost/pause@{PAUSE_DIGEST}"]}]
    truth = {"containers": {o["id"]: o for o in ones}, "sandboxes": {SANDBOX: sandbox}, "images": images}
    write(tmp_path / "truth.json", truth)
    return tmp_path


def test_all_metadata_of_crios_containers_is_true(crio):
    found = trees.crios(crio)
    assert len(found) == 5
    assert not {key: lines for key, lines in found.items() if lines}


def test_a_stopped_sandbox_has_exited(crio):
    write(crio / "run/overlay-containers" / SANDBOX / "userdata/stopped", "")
    assert [line.partition(",")[0] for line in trees.crios(crio)[SANDBOX]] == ["state: 'exited'"]


def test_a_comparison_with_another_truth_fails(crio):
    truth = trees.truth_of(crio)
    truth["containers"][APP]["image_id"] = "00" * 32
    write(crio / "truth.json", truth)
    assert trees.crios(crio)[APP] == [f"image_id: {IMAGE!r}, and the truth is {'00' * 32!r}"]


# containerd


def packed(value: object) -> bytes:
    """Return a protobuf Any around JSON."""
    data = json.dumps(value).encode()
    return b"\x0a\x01t\x12" + bytes([len(data) & 0x7F | 0x80, len(data) >> 7 & 0x7F | 0x80, len(data) >> 14]) + data


def gos(time: str) -> bytes:
    seconds, part = divmod(trees.nanoseconds(time), 10**9)
    return b"\x01" + struct.pack(">QIh", seconds + 62_135_596_800, part, -1)


@pytest.fixture
def containerd(tmp_path):
    """Lay a pod of CRI's, of whose containers one waits and one has ended, and three of ``ctr``'s."""
    root, state = tmp_path / "root", tmp_path / "state" / TASKS
    digested = f"registry.example/shop/app@{DIGEST}"
    ones = [
        asked_for(APP, "app", "RUNNING", 501),
        asked_for(ENDED, "job", "EXITED"),
        asked_for(WAITING, "waiting", "CREATED"),
    ]
    for one in ones:
        one["cri"] = {"info": {}}
    sandbox = sandbox_of(ones[0], pid=500, process={"cgroup": [f"0::{POD}/{SANDBOX}"]})
    containers: dict[bytes, object] = {}
    records = {}

    def keep(container_id: str, kind: str, image: str, spec: dict, metadata: dict) -> None:
        containers[container_id.encode()] = {
            b"image": image.encode(), b"createdat": gos(MADE), b"updatedat": gos(MADE), b"spec": packed(spec),
            b"labels": {b"io.cri-containerd.kind": kind.encode()},
            b"extensions": {f"io.cri-containerd.{kind}.metadata".encode(): packed({"Version": "v1", "Metadata": metadata})},
        }  # fmt: skip
        records[container_id] = {"image_digest": PAUSE_DIGEST, "cgroups_path": f"{POD}/{container_id}"}

    def noted(kind: str, **more: str) -> dict:
        about = {"container-type": kind, "sandbox-id": SANDBOX, "sandbox-name": "web-0", "sandbox-namespace": "shop", "sandbox-uid": UID}
        return {f"io.kubernetes.cri.{key.replace('_', '-')}": value for key, value in {**about, **more}.items()}

    def bundle(directory: Path, spec: dict, pid: int) -> None:
        write(directory / "config.json", spec)
        write(directory / "init.pid", str(pid))
        if not (directory / "work").is_symlink():
            (directory / "work").symlink_to(root / TASKS / directory.parent.name / directory.name)

    linux = {"namespaces": [{"type": "network", "path": "/proc/500/ns/net"}]}
    for one in ones:
        spec = {"annotations": noted("container", container_name=one["name"], image_name=digested), "linux": linux}
        config = {"metadata": {"name": one["name"]}, "labels": one["labels"], "annotations": one["annotations"]}
        keep(one["id"], "container", NAME, spec, {"Config": config, "ImageRef": f"sha256:{IMAGE}"})
        status = {"CreatedAt": trees.nanoseconds(one["created_at"]) + 7, "StartedAt": 0, "FinishedAt": 0, "Pid": one["pid"]}
        one["created_at"] = MADE.replace(".5Z", ".500000007Z")
        if one["state"] != "CONTAINER_CREATED":
            status["StartedAt"] = trees.nanoseconds(STARTED)
        if one["state"] == "CONTAINER_EXITED":
            status["FinishedAt"] = trees.nanoseconds(DONE)
        write(root / CRI / "containers" / one["id"] / "status", status)
        if one["pid"]:
            bundle(state / "k8s.io" / one["id"], spec, one["pid"])
            one["process"] = {"cgroup": [f"0::{POD}/{one['id']}"]}
    spec = {"annotations": noted("sandbox", podsandbox_image_name="localhost/pause:2"), "linux": linux}
    config = {"metadata": {"name": "web-0", "namespace": "shop", "uid": UID}, "labels": LABELS, "annotations": NOTES}
    addresses = {"IP": ADDRESSES[0], "AdditionalIPs": ADDRESSES[1:]}
    keep(SANDBOX, "sandbox", "localhost/pause:2", spec, {"Config": config, **addresses})
    bundle(state / "k8s.io" / SANDBOX, spec, 500)

    plain, by_ctr = {}, {}
    groups = {"grouped": "/batch/nightly", "name.service": "/default/name.service", "nowhere": "", "unit": "a-b.slice:x:y", BARE: f"/default/{BARE}"}
    seen_in = {"nowhere": "/nowhere", "unit": "/a.slice/a-b.slice/x-y.scope"}
    for n, (container_id, group) in enumerate(groups.items()):
        spec = {"process": {"args": ["sh"]}, "annotations": {"tier": "back"}, "linux": {"cgroupsPath": group}}
        plain[container_id.encode()] = {
            b"image": NAME.encode(), b"createdat": gos(MADE), b"updatedat": gos(MADE), b"labels": {b"tier": b"back"}, b"spec": packed(spec),
        }  # fmt: skip
        bundle(state / "default" / container_id, spec, 600 + n)
        by_ctr[container_id] = {
            "id": container_id, "image": NAME, "image_digest": DIGEST, "labels": {"tier": "back"}, "spec_annotations": {"tier": "back"},
            "args": ["sh"], "pid": 600 + n, "mounts": [], "created_at": MADE, "task": "RUNNING",
            "process": {"cgroup": [f"0::{seen_in.get(container_id, group)}"]},
        }  # fmt: skip
    named = {NAME.encode(): {b"target": {b"digest": DIGEST.encode()}}}
    pause = {b"localhost/pause:2": {b"target": {b"digest": PAUSE_DIGEST.encode()}}}
    spaces = {b"k8s.io": {b"containers": containers, b"images": named | pause}, b"default": {b"containers": plain, b"images": named}}
    (root / FILE).parent.mkdir(parents=True)
    (root / FILE).write_bytes(Writer().file({b"v1": spaces}))
    write(root / BLOBS / "sha256" / PAUSE_DIGEST[7:], {"config": {"digest": PAUSE}})
    images = [{"id": PAUSE, "repoTags": ["localhost/pause:2"], "repoDigests": []}]
    cri = {"containers": {o["id"]: o for o in ones}, "sandboxes": {SANDBOX: sandbox}}
    ctr = {"k8s.io": {"containers": records}, "default": {"containers": by_ctr}}
    write(tmp_path / "truth.json", {"cri": cri, "images": images, "ctr": ctr})
    return tmp_path


def test_all_metadata_of_containerds_containers_is_true(containerd):
    found = trees.containerds(containerd)
    assert len(found) == 9
    assert not {key: lines for key, lines in found.items() if lines}


@pytest.mark.parametrize(
    ("path", "container_id"),
    [
        ("/batch/nightly", "grouped"),
        ("/default/name.service", "name.service"),
        ("/nowhere", "nowhere"),
        ("/a.slice/a-b.slice/x-y.scope", "unit"),
        ("/batch", ""),
        ("/system.slice/name.service", ""),
    ],
)
def test_a_cgroup_that_a_bundle_asks_for_is_its_containers(containerd, path, container_id):
    reader = Containerd([DataRoot("/", str(containerd / "state"))])
    assert [c.id for c in candidates(path, [reader])] == ([container_id] if container_id else [])


def test_a_bundle_that_comes_later_is_noticed(containerd):
    reader = Containerd([DataRoot("/", str(containerd / "state"))])
    assert candidates("/late/one", [reader]) == ()
    write(containerd / "state" / TASKS / "default/later/config.json", {"linux": {"cgroupsPath": "/late/one"}})
    assert [c.id for c in candidates("/late/one", [reader])] == ["later"]
