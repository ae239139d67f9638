# SPDX-License-Identifier: BSD-2-Clause
"""Comparison of metadata from a runtime's files with the runtime's own answers (``truth.json`` beside them).

``make test-trees TREES=DIRECTORY`` compares trees that were taken from real runtimes; ``test_trees.py`` lays small ones.
"""

import json
import os
import shutil
from pathlib import Path

from eunomia.containers.containerd_db import BLOBS
from eunomia.containers.daemons import DataRoot
from eunomia.containers.runtime import Metadata
from eunomia.containers.runtimes.containerd import Containerd
from eunomia.containers.runtimes.crio import Crio
from eunomia.containers.storage import Store
from eunomia.containers.timestamps import nanoseconds

STATES = {"CREATED": "created", "RUNNING": "running", "EXITED": "exited", "READY": "running", "NOTREADY": "exited", "PAUSED": "paused"}
SAID_ALREADY = ("io.kubernetes.pod.", "io.kubernetes.container.name")


def truth_of(tree: Path) -> dict:
    return json.loads((tree / "truth.json").read_text())


def settle(tree: Path) -> None:
    """Put manifests where the content store has them, and give files the times that ``files.json`` has of them."""
    if (tree / "image-manifests").is_dir():
        shutil.copytree(tree / "image-manifests", tree / "root" / BLOBS)
    if not (tree / "files.json").exists():
        return
    for name, (kind, written, *_) in json.loads((tree / "files.json").read_text()).items():
        if kind == "file" and (tree / name).is_file():
            os.utime(tree / name, ns=(written, written))


def path_of(one: dict) -> str:
    """Return the cgroup that a container's process is in; empty where it has none."""
    lines = (one.get("process") or {}).get("cgroup", [])
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def crios(tree: Path) -> dict[str, list[str]]:
    """Return how CRI-O's containers differ from the truth, by their ids."""
    truth = truth_of(tree)
    crio = Crio([Store(DataRoot("/", str(tree / "root")), str(tree / "run"))])
    found = {}
    for kind in ("containers", "sandboxes"):
        for container_id, one in truth[kind].items():
            told = crio.lookup(container_id, path_of(one))
            found[container_id] = _differences(told, one, truth, "cri-o", kind == "sandboxes")
    return found


def containerds(tree: Path) -> dict[str, list[str]]:
    """Return how containerd's containers differ from the truth, by their namespaces and ids."""
    truth = truth_of(tree)
    state = DataRoot("/", str(tree / "state"))
    containerd = Containerd([state], roots={state: str(tree / "root")})
    found = {}
    for kind in ("containers", "sandboxes"):
        for container_id, one in truth["cri"][kind].items():
            record = truth["ctr"]["k8s.io"]["containers"][container_id]
            told = containerd.lookup(container_id, path_of(one) or record["cgroups_path"])
            found[f"k8s.io/{container_id}"] = _differences(told, one | {"record": record}, truth, "containerd", kind == "sandboxes")
    for namespace, its in truth["ctr"].items():
        for container_id, one in its["containers"].items() if namespace != "k8s.io" else ():
            told = containerd.lookup(container_id, path_of(one) or f"/{namespace}/{container_id}")
            found[f"{namespace}/{container_id}"] = _plain(told, one)
    return found


def _differences(told: Metadata | None, one: dict, truth: dict, runtime: str, is_sandbox: bool) -> list[str]:
    if told is None or told.pod is None:
        return ["nothing is told"]
    container, pod = told
    asked = one["pod"]
    labels = {k: v for k, v in asked["labels"].items() if not k.startswith(SAID_ALREADY)}
    state = STATES[one["state"].rpartition("_")[2]]
    pairs = {
        "id": (container.id, one["id"]),
        "runtime": (container.runtime, runtime),
        "sandbox": (container.sandbox, is_sandbox),
        "pod.name": (pod.name, asked["name"]),
        "pod.namespace": (pod.namespace, asked["namespace"]),
        "pod.uid": (pod.uid, asked["uid"]),
        "pod.labels": (dict(pod.labels), labels),
        "pod.annotations": (dict(pod.annotations), asked["annotations"]),
        "pod.addresses": (list(pod.addresses), one["addresses"]),
        "pod.sandbox": (pod.sandbox, one.get("sandbox_id", one["id"])),
        "addresses": (list(container.addresses), one["addresses"]),
        "state": (container.state, state),
        "pid": (container.pid, 0 if state == "exited" else one["pid"]),
        "created": (container.created, nanoseconds(one["created_at"])),
    }
    if is_sandbox:
        image = next(i for i in truth["images"] if any("pause" in tag for tag in i["repoTags"]))
        digest = image["repoDigests"][0].partition("@")[2] if image["repoDigests"] else one["record"]["image_digest"]
        pairs["name"] = (container.name, "POD")
        pairs["image"] = (container.image, image["repoTags"][0])
        pairs["image_id"] = (container.image_id.removeprefix("sha256:"), image["id"].removeprefix("sha256:"))
        pairs["image_digest"] = (container.image_digest, digest)
        pairs["restarts"] = (container.restarts, None)
    else:
        pairs["name"] = (container.name, one["name"])
        pairs["restarts"] = (container.restarts, one["attempt"])
        pairs["image"] = (container.image, one["image_name"])
        pairs["image_id"] = (container.image_id.removeprefix("sha256:"), one["image_id"].removeprefix("sha256:"))
        pairs["image_digest"] = (container.image_digest, one["image_ref"].partition("@")[2])
        pairs["labels"] = (dict(container.labels), one["labels"])
        pairs["annotations"] = (dict(container.annotations), one["annotations"])
        pairs["started"] = (container.started, 0 if state == "created" else nanoseconds(one["started_at"]))
        mounts = {m.destination: (m.source, m.writable) for m in container.mounts}
        wanted = {m["containerPath"]: (m["hostPath"], not m["readonly"]) for m in one["mounts"]}
        pairs["mounts"] = ({d: mounts.get(d) for d in wanted}, wanted)
        info = one["cri"]["info"]
        if "privileged" in info:
            pairs["privileged"] = (container.privileged is True, info["privileged"])
    return [f"{name}: {ours!r}, and the truth is {theirs!r}" for name, (ours, theirs) in pairs.items() if ours != theirs]


def _plain(told: Metadata | None, one: dict) -> list[str]:
    """Compare a container that was made by ``ctr``; an ended task leaves nothing that shows its state."""
    if told is None:
        return ["nothing is told"]
    container = told.container
    wanted = [(m["source"], m["destination"]) for m in one["mounts"]]
    pairs = {
        "id": (container.id, one["id"]),
        "name": (container.name, one["id"]),
        "runtime": (container.runtime, "containerd"),
        "image": (container.image, one["image"]),
        "image_digest": (container.image_digest, one["image_digest"]),
        "labels": (dict(container.labels), one["labels"]),
        "annotations": (dict(container.annotations), one["spec_annotations"] or {}),
        "command": (list(container.command), one["args"]),
        "pid": (container.pid, one["pid"]),
        "mounts": ([(m.source, m.destination) for m in container.mounts], wanted),
        "created": (container.created, nanoseconds(one["created_at"])),
        "pod": (told.pod, None),
    }
    if one["task"]:
        # the kernel alone knows that one is paused
        pairs["state"] = (container.state, "running")
    return [f"{name}: {ours!r}, and the truth is {theirs!r}" for name, (ours, theirs) in pairs.items() if ours != theirs]
