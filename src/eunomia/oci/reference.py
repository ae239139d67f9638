# SPDX-License-Identifier: BSD-2-Clause
"""Names of artefacts: ``registry/repository:tag@sha256:...``, as the OCI distribution spec has them."""

from __future__ import annotations

import hashlib
import re

from eunomia.oci.errors import BadReference
from eunomia.typing import NamedTuple

SCHEME = "oci://"

_HOST = re.compile(r"(?:\[[0-9a-fA-F:]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::([0-9]{1,5}))?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255  # characters of a repository's name, which registries refuse beyond
_SHOWN = 120


class Reference(NamedTuple):
    """An artefact's name; ``tag`` or ``digest`` may be empty, not both."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The name without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(word: str) -> Reference:
    """Return the parts of ``[oci://]registry/repository[:tag][@sha256:...]``; raises :class:`BadReference`.

    The tag is ``latest`` if there is neither tag nor digest.
    """
    shown = f"'{word[:_SHOWN]}...'" if len(word) > _SHOWN else f"'{word}'"
    text = word.removeprefix(SCHEME)
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise BadReference(f"{shown}: the digest after @ is not sha256: and 64 hexadecimal digits")
    registry, slash, rest = rest.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        raise BadReference(f"{shown}: name the registry too, as in registry.example.com/trackers/mine:1.0")
    host = _HOST.fullmatch(registry)
    if host is None or int(host[1] or 1) not in range(1, 65536):
        raise BadReference(f"{shown}: {registry[:_SHOWN]} is not the name of a registry: HOST or HOST:PORT")
    repository, colon, tag = rest.partition(":")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST:
        raise BadReference(
            f"{shown}: the name after the registry has lower-case letters, digits, and . _ - between them, "
            "in parts separated by /"
        )
    if colon and not _TAG.fullmatch(tag):
        raise BadReference(f"{shown}: the tag after : has up to 128 letters, digits, and . _ -")
    return Reference(registry.lower(), repository, tag if colon or digest else "latest", digest)


def is_digest(text: str) -> bool:
    """Whether a text is a digest by SHA-256, the one algorithm that is accepted here."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """Return the digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
