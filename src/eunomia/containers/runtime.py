# SPDX-License-Identifier: BSD-2-Clause
"""The door for container runtimes: one file each, found on disk first, no polling.

A runtime is asked when a cgroup that may be one of its containers appears, and again, with growing
pauses and for a few seconds only, while nobody knows it. It keeps no table of its own.
"""

from __future__ import annotations

from typing import Protocol

from eunomia.identity import Container

TEXT_LIMIT = 4096  # characters of one text from metadata that are kept


class Runtime(Protocol):
    """What the registry asks of a container runtime."""

    @property
    def name(self) -> str:
        """Return what ``container.runtime`` shows."""

    def recognises(self, parent: str, name: str) -> str:
        """Return the container id if a cgroup called ``name`` in ``parent`` is surely this runtime's.

        Both are single path components (``parent`` is empty below the root). Empty where the names alone
        don't tell; bare ids of 64 hex digits are looked up with every runtime anyway.
        """

    def lookup(self, container_id: str, path: str) -> Container | None:
        """Return what the runtime says about the container whose own cgroup is ``path``.

        ``None`` means not known. A container without a name means: known, but its metadata can't be read
        (yet). Never raises for what files hold.
        """

    def changed(self, container: Container, path: str) -> bool:
        """Whether the runtime's metadata was rewritten since the last :meth:`lookup` (a cheap check)."""


def bounded(value: object) -> str:
    """Return a text from metadata, at most :data:`TEXT_LIMIT` characters; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    text = value[:TEXT_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
