# SPDX-License-Identifier: BSD-2-Clause
"""Keys that sign: ECDSA on the curve P-256, in PEM, plain or as cosign encrypts them."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable

import msgspec

from eunomia.oci.errors import BadKey, need
from eunomia.oci.untrusted_json import decode
from eunomia.typing import NamedTuple

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:
    raise need("cryptography", "a signature") from None

Ask = Callable[[], str]

_MOST = 1 << 16  # bytes of a file
_ENCRYPTED = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_MOST_MEMORY = 256 << 20  # that a key may have scrypt take
_MOST_ROUNDS = 16


class PublicKey(NamedTuple):
    """A key that verifies; ``name`` is its file."""

    name: str
    key: ec.EllipticCurvePublicKey

    def accepts(self, signature: bytes, data: bytes) -> bool:
        """Whether the owner of the key signed the data; ``signature`` is in DER."""
        try:
            self.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class PrivateKey(NamedTuple):
    """A key that signs; ``name`` is its file."""

    name: str
    key: ec.EllipticCurvePrivateKey

    def sign(self, data: bytes) -> bytes:
        """Return a signature of the data, in DER."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self.name, self.key.public_key())


def read_public(path: str) -> PublicKey:
    """Return the public key in a file; raises :class:`BadKey`."""
    return parse_public(_read(path), path)


def parse_public(pem: bytes, name: str) -> PublicKey:
    """Return a public key; raises :class:`BadKey`."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        hint = ": it is a private key" if b" PRIVATE KEY-----" in pem else ""
        raise BadKey(f"{name}: it has no public key in PEM (-----BEGIN PUBLIC KEY-----){hint}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKey(f"{name}: it is not an ECDSA key on the curve P-256")
    return PublicKey(name, key)


def read_private(path: str, ask: Ask) -> PrivateKey:
    """Return the private key in a file; ``ask`` returns its password. Raises :class:`BadKey`."""
    pem = _read(path)
    label = next((one for one in _ENCRYPTED if f"-----BEGIN {one}-----".encode() in pem), "")
    is_encrypted = b"ENCRYPTED" in pem
    if label:
        der = _decrypted(pem, label, path, ask)
    password = ask().encode() if is_encrypted and not label else None
    try:
        if label:
            key = serialization.load_der_private_key(der, None)
        else:
            key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        wrong = "it has no private key in PEM that can be read"
        raise BadKey(f"{path}: {wrong}{', or the password is wrong' if is_encrypted else ''}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadKey(f"{path}: it is not an ECDSA key on the curve P-256")
    return PrivateKey(path, key)


def _read(path: str) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise BadKey(f"{path}: {error.strerror or error}") from None
    if len(data or b"") > _MOST:
        raise BadKey(f"{path}: it is larger than a key")
    return data or b""


class _Scrypt(msgspec.Struct):
    N: int
    r: int
    p: int


class _Kdf(msgspec.Struct):
    name: str
    params: _Scrypt
    salt: bytes


class _Cipher(msgspec.Struct):
    name: str
    nonce: bytes


class _Box(msgspec.Struct):
    """What cosign puts into the PEM: JSON, with bytes in base64."""

    kdf: _Kdf
    cipher: _Cipher
    ciphertext: bytes


def _decrypted(pem: bytes, label: str, path: str, ask: Ask) -> bytes:
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError:
        raise need("PyNaCl", "a key that cosign encrypted") from None
    _, _, inside = pem.decode(errors="replace").partition(f"-----BEGIN {label}-----")
    inside, _, _ = inside.partition(f"-----END {label}-----")
    try:
        box = decode(base64.b64decode("".join(inside.split()), validate=True), _Box)
    except ValueError:
        raise BadKey(f"{path}: what is in {label} cannot be read") from None
    scrypt = box.kdf.params
    ways = box.kdf.name, box.cipher.name
    if ways != ("scrypt", "nacl/secretbox") or len(box.cipher.nonce) != SecretBox.NONCE_SIZE:
        raise BadKey(f"{path}: it is encrypted by {' and '.join(ways)}, not by scrypt and nacl/secretbox")
    if not (0 < scrypt.N * scrypt.r * 128 <= _MOST_MEMORY // 2 and scrypt.r > 0 and 0 < scrypt.p <= _MOST_ROUNDS):
        raise BadKey(f"{path}: its password takes more than {_MOST_MEMORY >> 20} MiB of memory to check")
    password = ask().encode()
    try:
        key = hashlib.scrypt(
            password, salt=box.kdf.salt, n=scrypt.N, r=scrypt.r, p=scrypt.p, maxmem=_MOST_MEMORY, dklen=32
        )
    except ValueError:
        raise BadKey(f"{path}: its parameters of scrypt are wrong") from None
    try:
        return SecretBox(key).decrypt(box.ciphertext, box.cipher.nonce)
    except CryptoError:
        raise BadKey(f"{path}: the password is wrong") from None
