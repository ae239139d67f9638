# SPDX-License-Identifier: BSD-2-Clause
"""Decides whether something that came from elsewhere may run: by its signatures, its name and its digest.

Pure functions of values: the command line and the server ask the same. For an uploaded object the digest is that of
its bytes, and a signature has these bytes as its payload (``cosign sign-blob``, ``eunomia sign FILE``).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from eunomia.oci.reference import is_digest
from eunomia.oci.signatures import BadSignature, Signature, verify
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.oci.keys import PublicKey


class Subject(NamedTuple):
    """What may run or not: its name without a tag, as ``registry.example.com/trackers/mine``, and its digest."""

    name: str
    digest: str


class Policy(NamedTuple):
    """What may run.

    ``allow`` has names, with patterns as in ``registry.example.com/trackers/*``, ``NAME@sha256:...``, and digests;
    if it is empty, every name may run. With ``match_identity`` the name that the signer gave must be the subject's.
    """

    require_signed: bool = True
    keys: tuple[PublicKey, ...] = ()
    allow: tuple[str, ...] = ()
    match_identity: bool = False


class Decision(NamedTuple):
    """Whether it may run, why, and who signed it (the file of the key; empty if no known key did)."""

    allowed: bool
    why: str
    signer: str = ""
    identity: str = ""


def decide(policy: Policy, subject: Subject, signatures: Sequence[Signature]) -> Decision:
    """Return whether a subject with these signatures may run."""
    listed = is_listed(policy, subject)
    if not listed.allowed:
        return listed
    if not policy.keys:
        if policy.require_signed:
            return Decision(False, "it must be signed, and there is no key to verify signatures with")
        return Decision(True, "not verified: signatures are not required")
    reasons = []
    for signature in signatures:
        try:
            verified = verify(signature, subject.digest, policy.keys)
        except BadSignature as error:
            reasons.append(str(error))
            continue
        if policy.match_identity and _repository(verified.identity) != subject.name:
            reasons.append(f"it was signed as {verified.identity or 'a file'}")
            continue
        return Decision(True, f"signed by {verified.key}", verified.key, verified.identity)
    if not policy.require_signed:
        return Decision(True, "not verified: signatures are not required")
    if not signatures:
        return Decision(False, "it is not signed")
    return Decision(False, f"no signature of it is accepted: {'; '.join(dict.fromkeys(reasons))}")


def is_listed(policy: Policy, subject: Subject) -> Decision:
    """Return whether the list alone lets a subject run; it is known before any signature is."""
    if not policy.allow or any(_matches(entry, subject) for entry in policy.allow):
        return Decision(True, "it is on the list" if policy.allow else "there is no list")
    return Decision(False, "neither its name nor its digest is on the list of what may run")


def _matches(entry: str, subject: Subject) -> bool:
    if is_digest(entry):
        return entry == subject.digest
    name, at, digest = entry.partition("@")
    return fnmatchcase(subject.name, name) and (not at or digest == subject.digest)


def _repository(identity: str) -> str:
    """Return a name without its tag or digest."""
    name = identity.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
