# SPDX-License-Identifier: BSD-2-Clause
"""Signatures as cosign makes them: a payload that names a digest, and an ECDSA signature of the payload.

In a registry the signatures of ``sha256:HEX`` are the layers of the manifest with the tag ``sha256-HEX.sig``: each
layer is a payload, its annotation the signature in base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any  # msgspec knows the real one only

import msgspec

from eunomia.oci.artefact import MANIFEST, MOST_LAYERS, Manifest
from eunomia.oci.errors import NotFound, RegistryError
from eunomia.oci.reference import digest_of
from eunomia.oci.untrusted_json import Unreadable, decode
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.oci.keys import PrivateKey, PublicKey
    from eunomia.oci.registry import Registry

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
_CONFIG = "application/vnd.oci.image.config.v1+json"
MOST_PAYLOAD = 1 << 16  # bytes


class Signature(NamedTuple):
    """What is signed, and the signature of it in DER."""

    payload: bytes
    signature: bytes


class Verified(NamedTuple):
    """The file of the key that signed, and the name that the signer gave; it is empty for a file."""

    key: str
    identity: str


class BadSignature(ValueError):
    """The signature does not show that a known key signed this digest; the message says why."""


def payload(name: str, digest: str) -> bytes:
    """Return what is to be signed for a digest in the repository ``name``."""
    critical = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": digest},
        "type": _TYPE,
    }
    return msgspec.json.encode({"critical": critical, "optional": None})


def verify(signature: Signature, digest: str, keys: Sequence[PublicKey]) -> Verified:
    """Return who signed a digest; raises :class:`BadSignature`.

    What is signed may also be the very bytes that have the digest, as by ``cosign sign-blob``.
    """
    key = next((one for one in keys if one.accepts(signature.signature, signature.payload)), None)
    if key is None:
        raise BadSignature("no known key made it")
    if digest_of(signature.payload) == digest:
        return Verified(key.name, "")
    try:
        read = decode(signature.payload, dict[str, Any])
        critical = read["critical"]
        kind, signed = critical["type"], _signed_digest(critical["image"])
        identity = critical["identity"]["docker-reference"]
    except (Unreadable, KeyError, TypeError):
        raise BadSignature("its payload is not of cosign's form") from None
    if kind != _TYPE or not isinstance(identity, str):
        raise BadSignature("its payload is not of cosign's form")
    if signed != digest:
        raise BadSignature(f"it is for another digest, {str(signed)[:80]}")
    return Verified(key.name, identity)


def _signed_digest(image: dict[str, Any]) -> object:
    """Return the digest in a payload: cosign writes the name in lower case, its specification has a capital D."""
    found = [value for name, value in image.items() if name.lower() == "docker-manifest-digest"]
    if len(found) != 1:
        raise KeyError
    return found[0]


def tag_of(digest: str) -> str:
    """Return the tag of the signatures of a digest."""
    return f"{digest.replace(':', '-')}.sig"


# In a registry


def fetch(registry: Registry, digest: str) -> list[Signature]:
    """Return the signatures of a digest; none if there are none. Raises :class:`RegistryError`."""
    try:
        found = registry.manifest(tag_of(digest))
    except NotFound:
        return []
    try:
        manifest = decode(found.data, Manifest)
    except Unreadable as error:
        raise RegistryError(f"{registry.reference.name}:{tag_of(digest)}: it cannot be read: {error}") from None
    signatures = []
    for layer in manifest.layers:
        if layer.media_type != PAYLOAD or ANNOTATION not in layer.annotations:
            continue
        try:
            signature = base64.b64decode(layer.annotations[ANNOTATION], validate=True)
        except (binascii.Error, ValueError):
            continue  # another may be right
        signatures.append(Signature(registry.blob(layer, MOST_PAYLOAD), signature))
    return signatures


def sign(registry: Registry, digest: str, key: PrivateKey) -> bool:
    """Add a signature of a digest to those in the registry; return whether the key had not signed it yet."""
    there = fetch(registry, digest)
    for one in there:
        try:
            verify(one, digest, [key.public])
        except BadSignature:
            continue
        return False
    signed = payload(registry.reference.name, digest)
    layer = {
        "mediaType": PAYLOAD,
        "size": len(signed),
        "digest": digest_of(signed),
        "annotations": {ANNOTATION: base64.b64encode(key.sign(signed)).decode()},
    }
    # the others' layers stay as they are, with annotations that mean nothing to us
    layers = [*_layers(registry, digest), layer]
    if len(layers) > MOST_LAYERS:
        raise RegistryError(f"{registry.reference.name}:{tag_of(digest)}: it has {len(layers) - 1} signatures already")
    rootfs = {"type": "layers", "diff_ids": [one["digest"] for one in layers]}
    config = msgspec.json.encode({"architecture": "", "os": "", "config": {}, "rootfs": rootfs})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, "size": len(config), "digest": digest_of(config)},
        "layers": layers,
    }
    registry.push_blob(signed)
    registry.push_blob(config)
    registry.push_manifest(msgspec.json.encode(manifest), tag_of(digest))
    return True


class _Layers(msgspec.Struct):
    layers: list[dict[str, Any]]


def _layers(registry: Registry, digest: str) -> list[dict[str, Any]]:
    try:
        found = registry.manifest(tag_of(digest))
    except NotFound:
        return []
    return decode(found.data, _Layers).layers
