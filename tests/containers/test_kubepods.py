# SPDX-License-Identifier: BSD-2-Clause
"""Names of pods' cgroups, by the kubelet's cgroup drivers."""

import pytest

from eunomia.containers.kubepods import pod_uid, qos

UID = "5f7211f8-372a-4038-a5e0-311a02ccdf24"
SLICE = UID.replace("-", "_")
HASH = "0123456789abcdef0123456789abcdef"  # a static pod's
ID = "a1" * 32


@pytest.mark.parametrize(
    ("path", "uid", "quality"),
    [
        (f"/kubepods/burstable/pod{UID}/{ID}", UID, "Burstable"),
        (f"/kubepods/besteffort/pod{UID}/{ID}", UID, "BestEffort"),
        (f"/kubepods/pod{UID}/{ID}", UID, "Guaranteed"),
        (f"/kubepods/burstable/pod{HASH}/{ID}", HASH, "Burstable"),
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/cri-containerd-{ID}.scope", UID, "Burstable"),
        (f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE}.slice/crio-{ID}.scope", UID, "BestEffort"),
        (f"/kubepods.slice/kubepods-pod{SLICE}.slice/cri-containerd-{ID}.scope", UID, "Guaranteed"),
        (f"/kubepods.slice/kubepods-pod{HASH}.slice/cri-containerd-{ID}.scope", HASH, "Guaranteed"),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{SLICE}.slice:cri-containerd:{ID}", UID, "Burstable"),
        (f"/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{ID}", UID, "Burstable"),
        (f"/docker/{ID}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{SLICE}.slice/cri-containerd-{ID}.scope", UID, "Burstable"),
        (f"/kubepods/pod{HASH}/{ID}/kubepods/besteffort/pod{UID}/{ID}", UID, "BestEffort"),
        (f"/docker/{ID}", "", ""),
        ("/", "", ""),
        ("", "", ""),
        ("/kubepods", "", ""),
        ("/kubepods/burstable", "", ""),
        ("/kubepods.slice/kubepods-burstable.slice", "", ""),
        ("/machine.slice/podman.service", "", ""),
        ("/pods/podcast", "", ""),
    ],
)  # fmt: skip
def test_uid_and_quality_of_service_are_in_the_path(path, uid, quality):
    assert (pod_uid(path), qos(path)) == (uid, quality)
