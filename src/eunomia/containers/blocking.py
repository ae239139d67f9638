# SPDX-License-Identifier: BSD-2-Clause
"""Reads that may block for long: refused on a thread that has no time to wait, done on one that has."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Iterator
from contextlib import contextmanager

from eunomia.containers.remote_mounts import may_hang

_impatient: set[int] = set()  # threads


class WouldBlock(Exception):
    """A read was refused, as it may take long; nothing is known of what it would have told."""


@contextmanager
def refused() -> Iterator[None]:
    """Refuse such reads on this thread until the end of the block."""
    thread = get_ident()
    if thread in _impatient:
        yield
        return
    _impatient.add(thread)
    try:
        yield
    finally:
        _impatient.discard(thread)


def check(base: str, path: str) -> None:
    """Raise :class:`WouldBlock` where this thread must not wait and the path may make it wait.

    ``base`` is the root directory of the process that named the path: ``/`` or ``/proc/PID/root``.
    """
    if _impatient and get_ident() in _impatient and may_hang(base, path):
        raise WouldBlock(f"{path} is on a file system that may not answer")
