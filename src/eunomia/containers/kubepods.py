# SPDX-License-Identifier: BSD-2-Clause
"""Pod uid and quality of service from the cgroup paths that the kubelet makes, with either cgroup driver.

    /kubepods/burstable/pod<uid>/<id>                                      cgroupfs
    /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, _ for ->.slice/cri-containerd-<id>.scope
    /kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod<uid>.slice/...      kind's nodes
    /system.slice/containerd.service/kubepods-burstable-pod<uid>.slice:cri-containerd:<id>   a mix of both

Guaranteed pods lack the middle component. Static pods have a hash of 32 digits as uid. The components before (a
nested node's own cgroup, ``kubelet``) may be anything.
"""

from __future__ import annotations

_QOS = {"burstable": "Burstable", "besteffort": "BestEffort"}
_DASHES = (8, 13, 18, 23)  # in a uid of 36 characters


def pod_uid(path: str) -> str:
    """Return the uid of the innermost pod in a cgroup path; empty for none."""
    return _pod(path)[1]


def qos(path: str) -> str:
    """Return the pod's quality-of-service class, as Kubernetes calls it; empty if the path has no pod."""
    return _pod(path)[0]


def _pod(path: str) -> tuple[str, str]:
    names = path.split("/")
    for i in range(len(names) - 1, -1, -1):
        name = names[i]
        _, kubepods, rest = name.partition("kubepods-")
        slice_ = rest.partition(":")[0]
        if kubepods and slice_.endswith(".slice"):
            class_, pod, uid = slice_.removesuffix(".slice").rpartition("pod")
            if pod and uid:
                return _QOS.get(class_.removesuffix("-"), "Guaranteed"), _dashed(uid)
        if i and name.startswith("pod") and len(name) > 3:
            above = names[i - 1]
            if above in _QOS:
                return _QOS[above], name[3:]
            if above == "kubepods":
                return "Guaranteed", name[3:]
    return "", ""


def _dashed(uid: str) -> str:
    """Return a uid as the API writes it: slice names have underscores, as a dash separates slices."""
    return uid.replace("_", "-") if len(uid) == 36 and all(uid[i] == "_" for i in _DASHES) else uid
