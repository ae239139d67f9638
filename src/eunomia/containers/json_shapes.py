# SPDX-License-Identifier: BSD-2-Clause
"""Shapes of the JSON in runtimes' files: the fields that are used; msgspec skips the others.

A module of its own, because importing msgspec takes longer than starting Python: it is imported with the first file.
"""

from __future__ import annotations

from typing import Any  # the real one: msgspec reads these annotations

import msgspec


class OciConfig(msgspec.Struct):
    process: msgspec.Raw = msgspec.Raw()
    mounts: msgspec.Raw = msgspec.Raw()
    annotations: msgspec.Raw = msgspec.Raw()
    linux: msgspec.Raw = msgspec.Raw()
    hooks: msgspec.Raw = msgspec.Raw()


class OciProcess(msgspec.Struct):
    args: Any = None
    user: Any = None
    capabilities: Any = None
    apparmorProfile: Any = None  # noqa: N815


class OciLinux(msgspec.Struct):
    # not parsed: a seccomp filter is most of the file, and only its presence matters
    seccomp: msgspec.Raw = msgspec.Raw()
    namespaces: Any = None
    maskedPaths: Any = None  # noqa: N815
    readonlyPaths: Any = None  # noqa: N815
    resources: Any = None
    cgroupsPath: Any = None  # noqa: N815


class OciHooks(msgspec.Struct):
    prestart: Any = None
    createRuntime: Any = None  # noqa: N815


class StoredContainer(msgspec.Struct):
    id: Any = None
    names: Any = None
    image: Any = None
    metadata: Any = None


class StoredMetadata(msgspec.Struct, rename="kebab"):
    name: Any = None
    image_name: Any = None


class StoredImage(msgspec.Struct):
    id: Any = None
    digest: Any = None


class CrioVolume(msgspec.Struct):
    container_path: Any = None
    host_path: Any = None
    readonly: Any = None
    image: Any = None


class CrioState(msgspec.Struct):
    status: Any = None
    created: Any = None
    started: Any = None


class PodmanConfig(msgspec.Struct):
    # libpod/container_config.go
    spec: msgspec.Raw = msgspec.Raw()
    name: Any = None
    rootfsImageName: Any = None  # noqa: N815
    RawImageName: Any = None
    rootfsImageID: Any = None  # noqa: N815
    labels: Any = None
    user: Any = None
    privileged: Any = None
    namedVolumes: Any = None  # noqa: N815
    createdTime: Any = None  # noqa: N815
    pause: Any = None  # the pod's own
    pod: Any = None
    networkMode: Any = None  # noqa: N815
    networks: Any = None
    newNetworks: Any = None  # noqa: N815
    netNsCtr: Any = None  # noqa: N815


class PodmanState(msgspec.Struct):
    # libpod/container.go
    state: Any = None
    pid: Any = None
    startedTime: Any = None  # noqa: N815
    restartCount: Any = None  # noqa: N815
    networkStatus: Any = None  # noqa: N815


class PodmanPodConfig(msgspec.Struct):
    # libpod/pod.go
    name: Any = None
    labels: Any = None


class PodmanPodState(msgspec.Struct):
    InfraContainerID: Any = None
