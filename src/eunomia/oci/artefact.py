# SPDX-License-Identifier: BSD-2-Clause
"""The format of a tracker in a registry: a manifest, a config that describes it, and layers with its files.

Whatever a registry sent is read here, and everything in it is checked: names, sizes, digests, numbers of things.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from eunomia.oci.errors import BadArtefact
from eunomia.oci.reference import digest_of
from eunomia.oci.untrusted_json import Unreadable, decode

ARTEFACT = "application/vnd.eunomia.tracker.v1"
CONFIG = "application/vnd.eunomia.tracker.config.v1+json"
OBJECT = "application/vnd.eunomia.tracker.object.v1"
SOURCE = "application/vnd.eunomia.tracker.source.v1"
README = "application/vnd.eunomia.tracker.readme.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
TITLE = "org.opencontainers.image.title"
DESCRIPTION = "org.opencontainers.image.description"

MOST_OBJECT = 64 << 20  # bytes, as of a file that is run
MOST_CONFIG = 1 << 20
MOST_MANIFEST = 4 << 20  # what registries accept
MOST_FILE = 4 << 20  # of a source or a README
MOST_LAYERS = 64

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

Digest = Annotated[str, Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Size = Annotated[int, Meta(ge=0, le=1 << 40)]
Word = Annotated[str, Meta(min_length=1, max_length=128)]
Line = Annotated[str, Meta(max_length=4096)]
Words = Annotated[list[Word], Meta(max_length=1024)]


class Descriptor(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Names bytes by their digest and size."""

    media_type: Annotated[str, Meta(max_length=255)]
    digest: Digest
    size: Size
    annotations: dict[str, str] = {}


class Manifest(Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What a tag or digest names."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: Annotated[list[Descriptor], Meta(max_length=MOST_LAYERS)]
    annotations: dict[str, str] = {}


class Object(Struct, omit_defaults=True, kw_only=True):
    """An object among the layers, and the machines on which it runs."""

    digest: Digest
    size: Size
    architectures: Annotated[list[Word], Meta(min_length=1, max_length=16)]


class Needs(Struct, omit_defaults=True, kw_only=True):
    """What the object asks of the kernel: sections of its programs, types of its maps."""

    programs: Words = []
    maps: Words = []


class Variant(Struct, kw_only=True):
    """One way to hook a tracker's events."""

    name: Word
    programs: Words


class Declared(Struct, omit_defaults=True, kw_only=True):
    """What a tracker declares in Python, as far as it is data."""

    title: Line
    variants: Annotated[list[Variant], Meta(min_length=1, max_length=64)]
    always: Words = []
    columns: dict[Word, Words] = {}
    whole: bool = False


class Config(Struct, omit_defaults=True, kw_only=True):
    """Describes a tracker. ``tracker`` is missing for objects without a declaration."""

    name: Word
    description: Line = ""
    objects: Annotated[list[Object], Meta(min_length=1, max_length=16)]
    kernel: Needs = field(default_factory=Needs)
    tracker: Declared | None = None


class Packed(msgspec.Struct):
    """An artefact that is ready to be pushed."""

    manifest: bytes
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        """The digest that names the artefact."""
        return digest_of(self.manifest)


def pack(config: Config, objects: Sequence[bytes], files: Mapping[str, tuple[str, bytes]]) -> Packed:
    """Return the manifest and blobs; ``files`` are the type and content of the others, by name.

    Equal content has an equal digest: nothing in it tells when or where it was made.
    """
    blobs, layers = {}, []
    multiple = len(objects) > 1
    for of, data in zip(config.objects, objects, strict=True):
        name = f"{config.name}.{of.architectures[0]}.bpf.o" if multiple else f"{config.name}.bpf.o"
        layers.append((OBJECT, name, data))
    layers += [(media_type, name, data) for name, (media_type, data) in files.items()]
    described = []
    for media_type, name, data in layers:
        digest = digest_of(data)
        blobs[digest] = data
        described.append(Descriptor(media_type=media_type, digest=digest, size=len(data), annotations={TITLE: name}))
    about = msgspec.json.encode(config)
    blobs[digest_of(about)] = about
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST,
        artifact_type=ARTEFACT,
        config=Descriptor(media_type=CONFIG, digest=digest_of(about), size=len(about)),
        layers=described,
        annotations={TITLE: config.name} | ({DESCRIPTION: config.description} if config.description else {}),
    )
    return Packed(msgspec.json.encode(manifest), blobs)


def read_manifest(data: bytes, name: str) -> Manifest:
    """Return a tracker's manifest; raises :class:`BadArtefact` for anything else."""
    try:
        kind = decode(data, _Kind)
    except Unreadable as error:
        raise BadArtefact(f"{name}: its manifest cannot be read: {error}") from None
    found = kind.artifact_type or (kind.config.media_type if kind.config else "") or kind.media_type
    if kind.artifact_type != ARTEFACT:
        what = f"it is {found[:100]}" if found else "it does not say what it is"
        raise BadArtefact(f"{name}: it is not a tracker ({ARTEFACT}): {what}")
    try:
        manifest = decode(data, Manifest)
    except Unreadable as error:
        raise BadArtefact(f"{name}: its manifest is wrong: {error}") from None
    if manifest.schema_version != 2:
        raise BadArtefact(f"{name}: its manifest is of schema version {manifest.schema_version}, not 2")
    if manifest.config.media_type != CONFIG:
        raise BadArtefact(f"{name}: its config is {manifest.config.media_type[:100]}, not {CONFIG}")
    return manifest


def read_config(data: bytes, name: str) -> Config:
    """Return a tracker's description; raises :class:`BadArtefact`."""
    try:
        config = decode(data, Config)
    except Unreadable as error:
        raise BadArtefact(f"{name}: its config is wrong: {error}") from None
    if not NAME.fullmatch(config.name):
        raise BadArtefact(f"{name}: its name {config.name!r} has other characters than letters, digits, and . _ -")
    return config


def object_for(machine: str, manifest: Manifest, config: Config, name: str) -> Descriptor:
    """Return the layer with the object for a machine; raises :class:`BadArtefact` if there is none."""
    layers = {layer.digest: layer for layer in manifest.layers if layer.media_type == OBJECT}
    for known in config.objects:
        if machine in known.architectures:
            layer = layers.get(known.digest)
            if layer is None or layer.size != known.size:
                raise BadArtefact(f"{name}: its config names an object that is not among its layers")
            return layer
    there = ", ".join(sorted({one for known in config.objects for one in known.architectures}))
    raise BadArtefact(f"{name}: it has no object for {machine}: there is one for {there}")


def files_of(manifest: Manifest, name: str) -> list[tuple[str, Descriptor]]:
    """Return the layers that are files beside the object, with their names; raises :class:`BadArtefact`."""
    found = []
    for layer in manifest.layers:
        if layer.media_type in {SOURCE, README}:
            title = layer.annotations.get(TITLE, "")
            if not FILE.fullmatch(title):
                raise BadArtefact(f"{name}: a file in it is named {title[:100]!r}")
            found.append((title, layer))
    return found


class _Typed(Struct, rename="camel"):
    media_type: str = ""


class _Kind(Struct, rename="camel"):
    media_type: str = ""
    artifact_type: str = ""
    config: _Typed | None = None
