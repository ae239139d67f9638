# SPDX-License-Identifier: BSD-2-Clause
"""Reader of containerd's database, ``<root>/io.containerd.metadata.v1.bolt/meta.db``: containers and images.

A Bolt file of nested buckets, described in containerd's ``metadata/buckets.go``: ``v1/<namespace>/containers/<id>``
and ``v1/<namespace>/images/<name>``. A CRI request is in a container's extensions, as JSON in a protobuf ``Any``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice

from eunomia.containers import bolt
from eunomia.containers.daemons import DataRoot
from eunomia.containers.runtime import TEXT_LIMIT, TEXTS_LIMIT, bounded, words
from eunomia.containers.tolerant_json import object_of
from eunomia.typing import NamedTuple

FILE = "io.containerd.metadata.v1.bolt/meta.db"
BLOBS = "io.containerd.content.v1.content/blobs"
CRI = "io.containerd.grpc.v1.cri"
STATUS_LIMIT = 65536
MANIFEST_LIMIT = 1 << 20  # bytes
EXTENSION_LIMIT = 1 << 20
SPEC_LIMIT = 4 << 20

_CONTAINERS = 16384  # of a namespace that are checked for changes
_IMAGES = 1024  # whose configurations' digests are remembered
_ADDRESSES = 16
_EXTENSIONS = (b"io.cri-containerd.container.metadata", b"io.cri-containerd.sandbox.metadata")
_YEAR_ONE = 62_135_596_800  # seconds from year 1, Go's zero time, to the epoch


class Record(NamedTuple):
    """A container's record in containerd; ``config`` is the CRI request, empty for others.

    ``spec`` is the content of its bundle's ``config.json``: a record outlives its bundle.
    ``created`` and ``updated`` are nanoseconds since the epoch, 0 if unknown.
    """

    image: str = ""
    labels: Mapping[str, str] = {}
    created: int = 0
    updated: int = 0
    config: Mapping[str, object] = {}
    image_id: str = ""
    addresses: tuple[str, ...] = ()
    spec: bytes = b""


class Status(NamedTuple):
    """A container's last status in CRI; times are nanoseconds since the epoch, 0 for what has not happened."""

    created: int = 0
    started: int = 0
    finished: int = 0


class ContainerRecords(NamedTuple):
    """The records of one container: its own, the digest of its image's manifest, its pod's sandbox."""

    record: Record = Record()
    image_digest: str = ""
    sandbox: Record = Record()


class Database:
    """The database of one containerd, read for each question: it changes meanwhile."""

    def __init__(self, root: DataRoot) -> None:
        """``root`` is containerd's root directory."""
        self._root = root
        self._image_ids: dict[str, str] = {}
        self._updates: dict[str, tuple[int, Mapping[str, int]]] = {}

    def records(self, namespace: str, container_id: str, sandbox_id: str = "") -> ContainerRecords:
        """Return the records of a container and of its sandbox; never raises."""

        def question(db: bolt.Bolt) -> ContainerRecords:
            top = db.bucket(b"v1", namespace.encode())
            containers = top and top.bucket(b"containers")
            if top is None or containers is None:
                return ContainerRecords()
            record = _record(containers.bucket(container_id.encode()))
            sandbox = record
            if sandbox_id and sandbox_id != container_id:
                sandbox = _record(containers.bucket(sandbox_id.encode()))
            image = top.bucket(b"images")
            for name in (record.image.encode(), b"target"):
                image = image and image.bucket(name)
            digest = image.get(b"digest") if image else None
            return ContainerRecords(record, _text(digest), sandbox)

        try:
            return bolt.ask(self._root.open(self._file), question)
        except (OSError, ValueError):  # ValueError: bolt.Broken, or a NUL in a path
            return ContainerRecords()

    def status(self, container_id: str) -> Status:
        """Return a container's status as CRI wrote it; never raises. Sandboxes and containers without CRI have none."""
        file = f"{self._root.path}/{CRI}/containers/{container_id}/status"
        try:
            said = object_of(self._root.read(file, STATUS_LIMIT)[0])
        except (OSError, ValueError):
            return Status()
        times = (said.get(key) for key in ("CreatedAt", "StartedAt", "FinishedAt"))
        return Status(*(t if isinstance(t, int) and 0 < t < 1 << 63 else 0 for t in times))

    def updates(self, namespace: str) -> Mapping[str, int]:
        """Return when each container of a namespace was last changed (ns since the epoch), by id; never raises."""

        def question(db: bolt.Bolt) -> dict[str, int]:
            containers = db.bucket(b"v1", namespace.encode(), b"containers")
            every = containers.buckets() if containers else ()
            return {_text(name): _time(one.get(b"updatedat")) for name, one in islice(every, _CONTAINERS)}

        written = self.written()
        known = self._updates.get(namespace)
        if known is None or known[0] != written:
            try:
                found = bolt.ask(self._root.open(self._file), question)
            except (OSError, ValueError):
                found = {}
            known = self._updates[namespace] = written, found
        return known[1]

    @property
    def shown(self) -> str:
        """The database's path in our own mount namespace."""
        return self._root.shown(self._file)

    @property
    def _file(self) -> str:
        return f"{self._root.path}/{FILE}"

    def written(self) -> int:
        """Return when the database was last written, in nanoseconds since the epoch; 0 if there is none."""
        try:
            return os.stat(self.shown).st_mtime_ns
        except (OSError, ValueError):
            return 0

    def image_id(self, digest: str) -> str:
        """Return the digest of an image's configuration, from the manifest with this digest; empty if unknown."""
        known = self._image_ids.get(digest)
        if known is None:
            known = self._configuration(digest, 2)
            if len(self._image_ids) >= _IMAGES:
                self._image_ids.clear()
            self._image_ids[digest] = known
        return known

    def _configuration(self, digest: str, levels: int) -> str:
        algorithm, _, value = digest.partition(":")
        if not (algorithm.isalnum() and value.isalnum()):
            return ""
        try:
            path = f"{self._root.path}/{BLOBS}/{algorithm}/{value}"
            manifest = object_of(self._root.read(path, MANIFEST_LIMIT)[0])
        except (OSError, ValueError):
            return ""
        config = manifest.get("config")
        if isinstance(config, dict):
            return bounded(config.get("digest"))
        # an index with a manifest for each platform: only those that were pulled exist
        below = manifest.get("manifests")
        for one in below[:TEXTS_LIMIT] if isinstance(below, list) and levels > 1 else ():
            found = self._configuration(bounded(one.get("digest")), levels - 1) if isinstance(one, dict) else ""
            if found:
                return found
        return ""


def _text(value: bytes | None) -> str:
    return "" if value is None else bounded(value[: 4 * TEXT_LIMIT].decode("utf-8", "replace"))


def _record(bucket: bolt.Bucket | None) -> Record:
    if bucket is None:
        return Record()
    labels: dict[str, str] = {}
    for key, value in named.items() if (named := bucket.bucket(b"labels")) else ():
        labels[_text(key)] = _text(value)
        if len(labels) > TEXTS_LIMIT:
            break
    metadata: Mapping[str, object] = {}
    extensions = bucket.bucket(b"extensions")
    for name in _EXTENSIONS if extensions else ():
        packed = extensions.get(name) if extensions else None
        if packed is not None and len(packed) <= EXTENSION_LIMIT:
            inside = object_of(_any(packed)).get("Metadata")
            metadata = inside if isinstance(inside, dict) else metadata
    spec = bucket.get(b"spec") or b""
    config, more = metadata.get("Config"), words(metadata.get("AdditionalIPs"), _ADDRESSES)
    addresses = (bounded(metadata.get("IP")), *more)
    return Record(
        _text(bucket.get(b"image")),
        labels,
        _time(bucket.get(b"createdat")),
        _time(bucket.get(b"updatedat")),
        config if isinstance(config, dict) else {},
        bounded(metadata.get("ImageRef")),
        tuple(filter(None, addresses)),
        _any(spec) if len(spec) <= SPEC_LIMIT else b"",
    )


def _time(value: bytes | None) -> int:
    """Return Go's ``Time.MarshalBinary`` (version, seconds since year 1, nanoseconds, zone) since the epoch."""
    if value is None or len(value) < 13:
        return 0
    seconds, part = int.from_bytes(value[1:9], "big"), int.from_bytes(value[9:13], "big")
    return (seconds - _YEAR_ONE) * 1_000_000_000 + part if _YEAR_ONE < seconds < 10 * _YEAR_ONE else 0


def _any(data: bytes) -> bytes:
    """Return the value of a protobuf ``Any``: field 2, behind the type's name in field 1."""
    at = 0
    while at < len(data):
        tag = data[at]
        size, at = _varint(data, at + 1)
        if tag == 0x12:
            return data[at : at + size]
        if tag != 0x0A:
            break
        at += size
    return b""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            break
        shift += 7
    return value, at
