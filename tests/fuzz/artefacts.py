# SPDX-License-Identifier: BSD-2-Clause
"""Targets: what a registry sends, and files of keys and logins."""

from __future__ import annotations

import json

from eunomia.oci import artefact, challenge, credentials, keys, reference, settings, signatures
from eunomia.oci.errors import BadArtefact, BadKey, BadReference, DistributionError
from tests.fuzz.target import Target, put

_DIGEST = "sha256:" + "ab" * 32
_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELigCnlLNKgOglRTx1D7JhI7eRw99
QolE9Jo4QUxnbMy5nUuBL+UZF9qqfm/Dg1BNeHRThHzWh2ki9vAEgWEDOw==
-----END PUBLIC KEY-----
"""
_BOX = (
    b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n"
    b"eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjoyLCJyIjoxLCJwIjoxfSwic2FsdCI6IkFBPT0ifSwiY2lwaGVyIjp7Im5hbWUi"
    b"OiJuYWNsL3NlY3JldGJveCIsIm5vbmNlIjoiQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUEifSwiY2lwaGVydGV4dCI6IkFBPT0ifQ==\n"
    b"-----END ENCRYPTED COSIGN PRIVATE KEY-----\n"
)


class _Everybody:
    """A key that accepts every signature, so that what follows is read."""

    name = "everybody"

    def accepts(self, signature: bytes, data: bytes) -> bool:
        return True


def _packed() -> artefact.Packed:
    about = artefact.Object(digest=reference.digest_of(b"x"), size=1, architectures=["x86_64"])
    declared = artefact.Declared(title="?", variants=[artefact.Variant(name="a", programs=["b"])], columns={"c": ["d"]})
    config = artefact.Config(name="mine", objects=[about], tracker=declared)
    return artefact.pack(config, [b"x"], {"README.md": (artefact.README, b"#")})


def _manifest(data: bytes) -> None:
    manifest = artefact.read_manifest(data, "x")
    artefact.files_of(manifest, "x")


def _config(data: bytes) -> None:
    packed = _packed()
    config = artefact.read_config(data, "x")
    artefact.object_for("x86_64", artefact.read_manifest(packed.manifest, "x"), config, "x")


def _payload(data: bytes) -> None:
    signatures.verify(signatures.Signature(data, b""), _DIGEST, [_Everybody()])


def _key(data: bytes) -> None:
    accepted = keys.parse_public(data, "x").accepts(data, data)
    assert not accepted


def _private(data: bytes) -> None:
    keys.read_private(put("oci/key", data), lambda: "password")


def _login(data: bytes) -> None:
    put("oci/config.json", data)
    credentials.find("registry.example.com", {"DOCKER_CONFIG": str(put("oci/config.json", data)).rpartition("/")[0]})


def _reference(data: bytes) -> None:
    word = data.decode(errors="surrogateescape")
    found = reference.parse(word)
    assert reference.parse(str(found)) == found


def _settings(data: bytes) -> None:
    settings.read(file=put("oci/oci.toml", data))


def _config_seed() -> bytes:
    packed = _packed()
    return packed.blobs[json.loads(packed.manifest)["config"]["digest"]]


_AUTHS = {"auths": {"registry.example.com": {"auth": "bWU6c2VjcmV0"}}, "credHelpers": {"x.example.com": "none"}}
_TOML = b'require_signed = false\nallow = ["a/*"]\nplain_http = ["b:1"]\ncache_size = 5\n'

TARGETS = {
    "oci_manifest": Target(lambda: [_packed().manifest], _manifest, (BadArtefact,), 2),
    "oci_config": Target(lambda: [_config_seed()], _config, (BadArtefact,), 2),
    "oci_payload": Target(lambda: [signatures.payload("a/b", _DIGEST)], _payload, (signatures.BadSignature,)),
    "oci_challenge": Target(
        lambda: [b'Bearer realm="https://a/token",service="b",scope="c:d:pull", Basic realm="x\\"y"'],
        lambda data: challenge.read(data.decode("latin-1")),
    ),
    "oci_reference": Target(
        lambda: [b"oci://a.example.com:5000/b/c:1.0@" + _DIGEST.encode(), b"[::1]:5/a__b:x"], _reference, (BadReference,)
    ),
    "oci_key": Target(lambda: [_KEY], _key, (BadKey,), 2),
    "oci_private_key": Target(lambda: [_BOX], _private, (BadKey,), 2),
    "oci_login": Target(lambda: [json.dumps(_AUTHS).encode()], _login, (DistributionError,), 2),
    "oci_settings": Target(lambda: [_TOML], _settings, (DistributionError,), 2),
}
