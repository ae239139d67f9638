# SPDX-License-Identifier: BSD-2-Clause
"""Reads that may block for long: refused on the engine's thread, done in worker threads."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Iterator
from contextlib import contextmanager

from eunomia.containers.remote_mounts import may_hang

_refusing: set[int] = set()  # threads


class WouldBlock(Exception):
    """A read was refused because it may block; its result is unknown."""


@contextmanager
def refused() -> Iterator[None]:
    """Refuse reads that may block on this thread until the end of the block."""
    thread = get_ident()
    if thread in _refusing:
        yield
        return
    _refusing.add(thread)
    try:
        yield
    finally:
        _refusing.discard(thread)


def check(base: str, path: str) -> None:
    """Raise :class:`WouldBlock` if this thread must not wait and reading the path may block.

    ``base`` is the root directory of the process that named the path: ``/`` or ``/proc/PID/root``.
    """
    if _refusing and get_ident() in _refusing and may_hang(base, path):
        raise WouldBlock(f"{path} is on a file system that may not answer")
