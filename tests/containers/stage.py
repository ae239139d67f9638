# SPDX-License-Identifier: BSD-2-Clause
"""Helpers of the tests of containers: data roots, cgroup records, a clock that the test sets."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path

from eunomia.batch import Batch
from eunomia.stream_schema import Field, Schema

WEB, DB, INNER = "a1" * 32, "b2" * 32, "c3" * 32

CGROUP_EVENT = Schema(
    "cgroup_event",
    48,
    [
        Field("time", 0, 8, "Q", "time"),
        Field("cgroup_id", 8, 8, "Q", "cgroup_id"),
        Field("hierarchy", 16, 4, "I"),
        Field("level", 20, 4, "I"),
        Field("maker", 24, 16, "16s", "text"),
        Field("path", 40, 8, "II", "str"),
    ],
)


class Clock:
    """Monotonic nanoseconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def wait(self, seconds: float) -> int:
        self.now += int(seconds * 1e9)
        return self.now


def batch(stream: str, *records: tuple[int, str], hierarchy: int = 0, maker: str = "kubelet") -> Batch:
    """A batch as the drain would hand it out, of (cgroup id, path)."""
    data, heap = b"", b""
    for cgroup_id, path in records:
        text = path.encode()
        data += struct.pack(
            "=QQII16sII", 5, cgroup_id, hierarchy, path.count("/"), maker.encode(), len(heap), len(text)
        )
        heap += text
    return Batch(CGROUP_EVENT, data, heap, tracker="containers", stream=stream)


def write_config(root: Path, container_id: str, content: object = None, **changes: object) -> Path:
    """Write what dockerd writes about a container; ``content`` (object or bytes) replaces all of it."""
    if content is None:
        content = {
            "State": {"Running": True, "Pid": 1},
            "ID": container_id,
            "Config": {"Hostname": "h", "Image": "shop/web:1.2", "Labels": {"a": "b"}},
            "Image": "sha256:" + "0" * 64,
            "Name": "/web",
            **changes,
        }
    directory = root / "containers" / container_id
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "config.v2.json"
    new = directory / ".tmp"
    new.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    new.replace(file)
    return file


_ids = itertools.count(1)


def hex_id() -> str:
    """A container id that no runtime of this machine has."""
    return f"{next(_ids):064x}"
