# SPDX-License-Identifier: BSD-2-Clause
"""Pods through the Container Runtime Interface, as the kubelet makes them.

The few messages that the tests need are written by hand: a message is a dict of field numbers (those of
``api.proto`` of CRI v1), so no generated code is needed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Message = Mapping[int, Any]

_CONTAINER, _NODE = 1, 2  # NamespaceMode; 0 is the pod's


class PodOfOurs(NamedTuple):
    """What was made: the sandbox, and the containers' ids by their names."""

    name: str
    namespace: str
    uid: str
    sandbox: str
    containers: dict[str, str]
    config: Message


class Cri:
    """A client of a runtime's socket, in a child: gRPC's threads never end, and tests change namespaces."""

    def __init__(self, socket: Path, top: str = "", within: float = 60) -> None:
        """``top`` is a cgroup of our own for all pods: a kubelet on this machine ends what it finds in its own.

        ``within`` is how many seconds an answer may take.
        """
        pytest.importorskip("grpc", reason="needs grpcio: make build installs it")
        self._top = top
        self._child = subprocess.Popen(
            [sys.executable, __file__, str(socket), str(within)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def close(self) -> None:
        """End the child."""
        self._child.communicate()

    def call(self, method: str, request: Message) -> dict[int, list[Any]]:
        """Call a method of the RuntimeService; its refusal fails the test."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{method} {encoded(request).hex()}\n")
        self._child.stdin.flush()
        verdict, _, answer = self._child.stdout.readline().rstrip("\n").partition(" ")
        assert verdict == "ok", f"{method}: {answer}"
        return decoded(bytes.fromhex(answer))

    def pod(
        self,
        name: str,
        namespace: str = "shop",
        *,
        image: str,
        containers: Sequence[str] = ("app",),
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        parent: str = "kubepods/burstable/pod{uid}",
        host_network: bool = False,
        privileged: bool = False,
        attempt: int = 0,
        command: Sequence[str] = ("sleep", "1000"),
    ) -> PodOfOurs:
        """Run a pod with containers of these names; ``attempt`` is how often they were restarted before."""
        uid = str(uuid.uuid4())
        ours = {
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        }
        modes = {1: _NODE if host_network else 0, 2: _CONTAINER}
        config = {
            1: {1: name, 2: uid, 3: namespace},
            2: "" if host_network else name,
            3: tempfile.gettempdir(),
            6: {**ours, **(labels or {})},
            7: annotations or {},
            8: {1: f"{self._top}/{parent.format(uid=uid)}", 2: {1: modes, 6: privileged}},
        }
        sandbox = self.call("RunPodSandbox", {1: config})[1][0].decode()
        pod = PodOfOurs(name, namespace, uid, sandbox, {}, config)
        for container in containers:
            security = {2: privileged, 3: modes}
            made = {
                1: {1: container, 2: attempt},
                2: {1: image},
                3: list(command),
                9: {**ours, "io.kubernetes.container.name": container},
                10: {"io.kubernetes.container.restartCount": str(attempt)},
                15: {1: {3: 100}, 2: security},
            }
            request = {1: sandbox, 2: made, 3: config}
            container_id = self.call("CreateContainer", request)[1][0].decode()
            self.call("StartContainer", {1: container_id})
            pod.containers[container] = container_id
        return pod

    def remove(self, sandbox: str) -> None:
        """End a pod and remove it."""
        self.call("StopPodSandbox", {1: sandbox})
        self.call("RemovePodSandbox", {1: sandbox})

    def clean(self) -> None:
        """End and remove all pods."""
        for pod in self.call("ListPodSandbox", {}).get(1, []):
            self.remove(decoded(pod)[1][0].decode())


# Protocol buffers: https://protobuf.dev/programming-guides/encoding/


def encoded(message: Message) -> bytes:
    """Return a message's bytes; a dict with text keys is a map of texts, a list a repeated text."""
    return b"".join(_field(number, value) for number, value in message.items())


def _field(number: int, value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_field(number, one) for one in value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value) if value else b""
    if isinstance(value, dict):
        if any(isinstance(key, str) for key in value):
            return b"".join(_field(number, {1: key, 2: text}) for key, text in value.items())
        data = encoded(value)
    else:
        data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decoded(data: bytes) -> dict[int, list[Any]]:
    """Return a message's fields, each with all its values; texts and messages as bytes."""
    fields: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 2:
            size = varint()
            value: Any = data[at : at + size]
            at += size
        else:
            assert tag & 7 == 0, "only varints and lengths are used here"
            value = varint()
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _serve(socket: str, within: float) -> None:
    """Answer lines of a method and its request in hex digits, until there are no more."""
    import grpc

    # Without an authority gRPC sends the socket's path, which runtimes refuse.
    channel = grpc.insecure_channel(f"unix://{socket}", [("grpc.default_authority", "localhost")])
    for line in sys.stdin:
        method, _, request = line.partition(" ")
        try:
            call = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
            answer = call(bytes.fromhex(request), timeout=within)
            print("ok", answer.hex(), flush=True)
        except grpc.RpcError as error:
            print("failed", " ".join(str(error.details()).split()), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], float(sys.argv[2]))
