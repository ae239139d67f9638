# SPDX-License-Identifier: BSD-2-Clause
"""Gets a tracker from a registry, or from the cache: only what the policy allows, and only what was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from eunomia.oci import artefact, credentials, policy, signatures
from eunomia.oci.errors import Refused
from eunomia.oci.reference import Reference, digest_of
from eunomia.oci.registry import Registry
from eunomia.oci.settings import Settings
from eunomia.oci.transport import Transport
from eunomia.typing import NamedTuple


class Tracker(NamedTuple):
    """A tracker that may run: its object, its description, and why it may run.

    ``reference`` has the digest; ``files`` are those beside the object, if they were asked for.
    """

    reference: Reference
    config: artefact.Config
    object: bytes
    decision: policy.Decision
    files: dict[str, bytes]


@contextmanager
def opened(reference: Reference, settings: Settings) -> Iterator[Registry]:
    """Yield the registry of a reference; nothing is asked before it is used."""
    with Transport(settings.ca_file, settings.seconds) as transport:
        plain = reference.registry in settings.plain_http
        yield Registry(transport, reference, credentials.find(reference.registry), plain=plain)


def fetch(reference: Reference, settings: Settings, *, files: bool = False) -> Tracker:
    """Return a tracker; raises :class:`DistributionError`, which is :class:`Refused` if it may not run.

    With a digest, and everything in the cache, no registry is asked.
    """
    with opened(reference, settings) as registry:
        found = _Getter(registry, settings)
        data = found.manifest(reference)
        digest = digest_of(data)
        pinned = reference._replace(digest=digest)
        decision = found.allowed(pinned)
        name = str(pinned)
        manifest = artefact.read_manifest(data, name)
        config = artefact.read_config(found.blob(manifest.config, artefact.MOST_CONFIG), name)
        wanted = artefact.object_for(os.uname().machine, manifest, config, name)
        extra = artefact.files_of(manifest, name) if files else []
        return Tracker(
            pinned,
            config,
            found.blob(wanted, artefact.MOST_OBJECT),
            decision,
            {title: found.blob(layer, artefact.MOST_FILE) for title, layer in extra},
        )


class _Getter:
    """Takes from the cache what is there, and stores there what is not."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._cache = settings.cache
        self._policy = settings.policy

    def manifest(self, reference: Reference) -> bytes:
        if reference.digest and self._cache and (known := self._cache.get(reference.digest)) is not None:
            return known
        data = self._registry.manifest(reference.digest or reference.tag).data
        if self._cache:
            self._cache.put(data)
        return data

    def blob(self, of: artefact.Descriptor, most: int) -> bytes:
        if self._cache and (known := self._cache.get(of.digest, of.size)) is not None:
            return known
        data = self._registry.blob(of, most)
        if self._cache:
            self._cache.put(data)
        return data

    def allowed(self, pinned: Reference) -> policy.Decision:
        """Return the decision, which allows it; raises :class:`Refused`."""
        subject = policy.Subject(pinned.name, pinned.digest)
        known = self._cache.signatures(pinned.digest) if self._cache else []
        decision = policy.decide(self._policy, subject, known)
        if not decision.allowed and self._policy.keys and policy.is_listed(self._policy, subject).allowed:
            found = signatures.fetch(self._registry, pinned.digest)
            decision = policy.decide(self._policy, subject, found)
            if decision.allowed and self._cache:
                self._cache.put_signatures(pinned.digest, found)
        if not decision.allowed:
            raise refusal(str(pinned), self._policy, decision)
        return decision


def refusal(name: str, asked: policy.Policy, decision: policy.Decision) -> Refused:
    """Return the error for a decision against something, with what to do if no key is known at all."""
    needs_key = asked.require_signed and not asked.keys
    advice = "; keys are in /etc/eunomia/keys/*.pub, or --key FILE names one" if needs_key else ""
    return Refused(f"{name}: {decision.why}{advice}")
