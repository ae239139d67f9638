# SPDX-License-Identifier: BSD-2-Clause
"""Signatures by cosign's specification: made here by openssl alone and verified by Eunomia, and the other way round.

``Cosign`` follows sigstore/cosign's specs/SIGNATURE_SPEC.md step by step, with nothing of Eunomia's.
"""

import base64
import hashlib
import json
import os
import subprocess

import pytest

from tests import needs

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Cosign:
    """Signs and verifies as the specification says, by the openssl command."""

    def __init__(self, registry, folder):
        self.registry, self.folder = registry, folder
        self.openssl = needs.program("openssl", "openssl")

    def payload(self, digest, **changes):
        critical = {
            "identity": {"docker-reference": "testing/manifest"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        } | changes
        return json.dumps({"critical": critical, "optional": {"creator": "tests"}}, indent=3).encode()

    def signature(self, payload, key):
        (self.folder / "payload").write_bytes(payload)
        command = [self.openssl, "dgst", "-sha256", "-sign", key, self.folder / "payload"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def accepts(self, payload, signature, public):
        (self.folder / "payload").write_bytes(payload)
        (self.folder / "signature").write_bytes(signature)
        command = [self.openssl, "dgst", "-sha256", "-verify", public, "-signature", self.folder / "signature"]
        return subprocess.run([*command, self.folder / "payload"], check=False, capture_output=True).returncode == 0

    def store(self, repository, digest, *signed):
        """Store payloads and signatures as one image manifest under the digest's tag."""
        config = b'{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}'
        layers = [
            {
                "mediaType": SIMPLE_SIGNING, "size": len(payload),
                "digest": self.registry.put(f"{repository}/blobs", payload, "application/octet-stream"),
                "annotations": {SIGNATURE: base64.b64encode(signature).decode()},
            }
            for payload, signature in signed
        ]  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config),
                "digest": self.registry.put(f"{repository}/blobs", config, "application/octet-stream"),
            },
        }  # fmt: skip
        tag = digest.replace(":", "-") + ".sig"
        self.registry.put(f"{repository}/manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)

    def sign(self, repository, digest, key, **changes):
        payload = self.payload(digest, **changes)
        self.store(repository, digest, (payload, self.signature(payload, key)))

    def stored(self, repository, digest):
        """Return the layers of a digest's signatures, each with its payload and signature."""
        manifest = json.loads(self.registry.get(f"{repository}/manifests/{digest.replace(':', '-')}.sig"))
        found = []
        for layer in manifest["layers"]:
            assert layer["mediaType"] == SIMPLE_SIGNING
            payload = self.registry.get(f"{repository}/blobs/{layer['digest']}")
            assert (layer["size"], layer["digest"]) == (len(payload), f"sha256:{hashlib.sha256(payload).hexdigest()}")
            found.append((payload, base64.b64decode(layer["annotations"][SIGNATURE])))
        return found


@pytest.fixture
def cosign(registry, tmp_path):
    return Cosign(registry, tmp_path)


@pytest.fixture
def pushed(eunomia, registry, built):
    """pushed() -> repository, digest and pinned reference of an artefact that nobody signed yet."""
    count = iter(range(1000))

    def push():
        name = f"signed/n{os.urandom(4).hex()}{next(count)}"
        done = eunomia("push", built, f"{registry.host}/{name}:1")
        assert done.code == 0, done.err
        pinned = done.out.strip()
        return name, pinned.partition("@")[2], pinned

    return push


def test_a_signature_by_the_specification_is_accepted(eunomia, pushed, cosign, keys):
    repository, digest, pinned = pushed()
    cosign.sign(repository, digest, keys.private)
    done = eunomia("verify", pinned, "--key", keys.public)
    assert done.code == 0, done.err
    assert done.out == f"{pinned}: signed by {keys.public}, as testing/manifest\n"


def test_the_specification_s_own_spelling_of_the_digest_is_accepted(eunomia, pushed, cosign, keys):
    repository, digest, pinned = pushed()
    cosign.sign(repository, digest, keys.private, image={"Docker-manifest-digest": digest})
    assert eunomia("verify", pinned, "--key", keys.public).code == 0


def test_a_signature_of_ours_is_accepted_by_the_specification(eunomia, registry, pushed, cosign, keys, others_keys):
    repository, digest, pinned = pushed()
    assert eunomia("sign", pinned, "--key", keys.private).out == f"{pinned}\n"
    ((payload, signature),) = cosign.stored(repository, digest)
    assert cosign.accepts(payload, signature, keys.public)
    assert not cosign.accepts(payload, signature, others_keys.public)
    assert json.loads(payload) == {
        "critical": {
            "identity": {"docker-reference": f"{registry.host}/{repository}"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    assert eunomia("verify", pinned, "--key", keys.public).code == 0


def test_a_signature_is_added_to_those_of_others_once(eunomia, pushed, cosign, keys, others_keys):
    repository, digest, pinned = pushed()
    cosign.sign(repository, digest, others_keys.private)
    assert eunomia("sign", pinned, "--key", keys.private).code == 0
    assert "signed before" in eunomia("sign", pinned, "--key", keys.private).err
    assert len(cosign.stored(repository, digest)) == 2
    for key in (keys, others_keys):
        assert eunomia("verify", pinned, "--key", key.public).code == 0


def test_without_a_signature_it_says_so(eunomia, pushed, keys):
    _, _, pinned = pushed()
    assert eunomia("verify", pinned, "--key", keys.public).one_line(1) == f"{pinned}: it is not signed"


class TestRefused:
    """Each differs from an accepted signature in one thing."""

    @pytest.fixture
    def said(self, eunomia, registry, pushed, cosign, keys):
        def of(make):
            repository, digest, pinned = pushed()
            cosign.store(repository, digest, make(digest))
            assert eunomia("pull", pinned, "--key", keys.public, "-o", cosign.folder / "x.o").code == 1
            assert not (cosign.folder / "x.o").exists()
            return eunomia("verify", pinned, "--key", keys.public).one_line(1)

        return of

    def test_is_another_key(self, said, cosign, others_keys):
        def make(digest):
            payload = cosign.payload(digest)
            return payload, cosign.signature(payload, others_keys.private)

        assert "no known key made it" in said(make)

    def test_is_a_changed_payload(self, said, cosign, keys):
        def make(digest):
            payload = cosign.payload(digest)
            return payload.replace(b"tests", b"TESTS"), cosign.signature(payload, keys.private)

        assert "no known key made it" in said(make)

    def test_is_another_digest(self, said, cosign, keys):
        def make(digest):
            payload = cosign.payload("sha256:" + "0" * 64)
            return payload, cosign.signature(payload, keys.private)

        assert "it is for another digest, sha256:000" in said(make)

    def test_is_the_digest_twice(self, said, cosign, keys):
        def make(digest):
            twice = {"docker-manifest-digest": digest, "Docker-manifest-digest": "sha256:" + "0" * 64}
            payload = cosign.payload(digest, image=twice)
            return payload, cosign.signature(payload, keys.private)

        assert "not of cosign's form" in said(make)

    def test_is_another_type(self, said, cosign, keys):
        def make(digest):
            payload = cosign.payload(digest, type="atomic container signature")
            return payload, cosign.signature(payload, keys.private)

        assert "not of cosign's form" in said(make)

    @pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'{"critical": 5}', b"\xff", b"{" * 1000])
    def test_is_no_payload_at_all(self, said, cosign, keys, payload):
        assert "not of cosign's form" in said(lambda digest: (payload, cosign.signature(payload, keys.private)))

    @pytest.mark.parametrize("signature", [b"", b"\x30\x00", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"x" * 5000])
    def test_is_no_signature(self, said, cosign, signature):
        assert "no known key made it" in said(lambda digest: (cosign.payload(digest), signature))

    def test_is_a_good_signature_of_another_artefact(self, eunomia, registry, pushed, cosign, keys):
        repository, digest, _ = pushed()
        cosign.sign(repository, digest, keys.private)
        ((payload, signature),) = cosign.stored(repository, digest)
        other, other_digest, _ = pushed()
        assert digest == other_digest, "equal content is the same artefact wherever it is"
        image = registry.put(f"{other}/blobs", b"{}", "application/octet-stream")
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": image, "size": 2},
        }  # fmt: skip
        another = registry.put(f"{other}/manifests/another", json.dumps(manifest).encode(), MANIFEST)
        cosign.store(other, another, (payload, signature))
        assert "another digest" in eunomia("verify", f"{registry.host}/{other}:another", "--key", keys.public).one_line(1)


def encrypted_by_cosign(private, password, folder, label):
    """Write a key as cosign does: PKCS 8 in a nacl secretbox, with a key from the password by scrypt."""
    from nacl.secret import SecretBox

    openssl = needs.program("openssl", "openssl")
    command = [openssl, "pkcs8", "-topk8", "-nocrypt", "-in", private, "-outform", "DER"]
    der = subprocess.run(command, check=True, capture_output=True).stdout
    salt, nonce = os.urandom(32), os.urandom(24)
    key = hashlib.scrypt(password.encode(), salt=salt, n=32768, r=8, p=1, maxmem=1 << 27, dklen=32)

    def text(data):
        return base64.b64encode(data).decode()

    box = {
        "kdf": {"name": "scrypt", "params": {"N": 32768, "r": 8, "p": 1}, "salt": text(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": text(nonce)},
        "ciphertext": text(SecretBox(key).encrypt(der, nonce).ciphertext),
    }
    path = folder / "cosign.key"
    path.write_text(f"-----BEGIN {label}-----\n{text(json.dumps(box).encode())}\n-----END {label}-----\n")
    return path


@pytest.mark.parametrize("label", ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"])
def test_a_key_that_cosign_encrypted_signs_with_its_password(eunomia, pushed, keys, tmp_path, label):
    _, _, pinned = pushed()
    key = encrypted_by_cosign(keys.private, "sesame", tmp_path, label)
    without = eunomia("sign", pinned, "--key", key, stdin=subprocess.DEVNULL).one_line(2)
    assert "set COSIGN_PASSWORD" in without
    wrong = eunomia("sign", pinned, "--key", key, environment={"COSIGN_PASSWORD": "wrong"}).one_line(1)
    assert wrong == f"{key}: the password is wrong"
    assert eunomia("sign", pinned, "--key", key, environment={"COSIGN_PASSWORD": "sesame"}).code == 0
    assert eunomia("verify", pinned, "--key", keys.public).code == 0


def test_a_key_that_openssl_encrypted_signs_with_its_password(eunomia, built, keys, tmp_path):
    key = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", keys.private, "-passout", "pass:sesame", "-out", key]
    subprocess.run(command, check=True)
    sign = ("sign", built, "--key", key, "--output", tmp_path / "sig")
    assert "or the password is wrong" in eunomia(*sign, environment={"COSIGN_PASSWORD": "wrong"}).one_line(1)
    assert eunomia(*sign, environment={"COSIGN_PASSWORD": "sesame"}).code == 0


def test_a_key_cannot_make_scrypt_take_all_memory(eunomia, built, keys, tmp_path):
    path = encrypted_by_cosign(keys.private, "sesame", tmp_path, "ENCRYPTED COSIGN PRIVATE KEY")
    head, body, end, _ = path.read_text().split("\n")
    box = json.loads(base64.b64decode(body))
    for params in ({"N": 1 << 40, "r": 8, "p": 1}, {"N": 16384, "r": 1 << 20, "p": 1}, {"N": 3, "r": 0, "p": 0}):
        box["kdf"]["params"] = params
        path.write_text(f"{head}\n{base64.b64encode(json.dumps(box).encode()).decode()}\n{end}\n")
        done = eunomia("sign", built, "--key", path, environment={"COSIGN_PASSWORD": "sesame"})
        assert "memory" in done.one_line(1)


def test_other_keys_are_refused_by_name(eunomia, built, keys, tmp_path):
    rsa = tmp_path / "rsa.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", tmp_path / "rsa.key"], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "rsa.key", "-pubout", "-out", rsa], check=True)
    (tmp_path / "none.pub").write_text("no key")
    (tmp_path / "m.sig").write_text("AAAA")

    def said(key):
        return eunomia("verify", built, "--signature", tmp_path / "m.sig", "--key", key).one_line(1)

    assert said(rsa) == f"{rsa}: it is not an ECDSA key on the curve P-256"
    assert "it has no public key in PEM" in said(tmp_path / "none.pub")
    assert "it is a private key" in said(keys.private)
    assert "No such file" in said(tmp_path / "missing.pub")


def test_a_file_is_signed_as_cosign_signs_blobs(eunomia, built, cosign, keys, others_keys, tmp_path):
    signature = tmp_path / "mine.sig"
    assert eunomia("sign", built, "--key", keys.private, "--output", signature).code == 0
    assert cosign.accepts(built.read_bytes(), base64.b64decode(signature.read_text()), keys.public)
    verify = ("verify", built, "--signature", signature)
    assert eunomia(*verify, "--key", keys.public).code == 0
    assert "no known key made it" in eunomia(*verify, "--key", others_keys.public).one_line(1)
    signature.write_bytes(base64.b64encode(cosign.signature(built.read_bytes(), keys.private)))
    assert eunomia(*verify, "--key", keys.public).code == 0
    signature.write_bytes(base64.b64encode(cosign.signature(built.read_bytes() + b"\0", keys.private)))
    assert eunomia(*verify, "--key", keys.public).code == 1
