# SPDX-License-Identifier: BSD-2-Clause
"""Sleeps until a probe writes a record, without a wakeup for each event."""

from __future__ import annotations

import os
import select

from eunomia.kernel.libbpf import ffi, lib
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.ring import PerfReader, RingReader
from eunomia.typing import Any

LOOK = 50  # ms between two looks at rings of probes that may never wake anybody


class Waiter:
    """Waits on live objects' rings. Probes with our headers wake it once per sleep, others as they choose."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._objects: list[Loaded] = []
        self._rings = ffi.new("struct eu_ring *[]", [])
        self._armed = ffi.new("uint32_t *[]", [])
        self._counts = (0, 0)
        self._look = 0

    def take(self, live: Loaded) -> None:
        """Wait also for an object's rings."""
        for reader in live.readers.values():
            if isinstance(reader, RingReader | PerfReader):
                self._epoll.register(reader.fd, select.EPOLLIN)
        self._objects.append(live)
        self._collect()

    def drop(self, live: Loaded) -> None:
        """Stop waiting for an object's rings; call it before the object is closed."""
        for reader in live.readers.values():
            if isinstance(reader, RingReader | PerfReader):
                self._epoll.unregister(reader.fd)
        self._objects.remove(live)
        self._collect()

    def _collect(self) -> None:
        rings = [r.ring for live in self._objects for r in live.readers.values() if isinstance(r, RingReader)]
        armed = [word for live in self._objects if (word := live.armed) is not None]
        self._rings = ffi.new("struct eu_ring *[]", rings)
        self._armed = ffi.new("uint32_t *[]", armed)
        self._counts = (len(armed), len(rings))
        unarmed = [live for live in self._objects if live.armed is None]
        self._look = LOOK if any(isinstance(r, RingReader) for live in unarmed for r in live.readers.values()) else 0

    def add(self, descriptor: int) -> None:
        """Wait also for a descriptor to be readable."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def wait(self, milliseconds: int) -> None:
        """Sleep until there is a record, a signal, or the timeout."""
        armed, rings = self._counts
        lib.eu_wait(self._epoll.fileno(), self._armed, armed, self._rings, rings, milliseconds, self._look)

    @staticmethod
    def sleep(milliseconds: int) -> None:
        """Sleep regardless of probes; a signal ends it."""
        lib.eu_sleep(milliseconds)

    def close(self) -> None:
        """Free its descriptor."""
        self._epoll.close()


def page_size() -> int:
    """Return the size of a memory page, in bytes."""
    return os.sysconf("SC_PAGESIZE")


def ring_size(wanted: int) -> int:
    """Return the smallest size of a ring that holds ``wanted`` bytes: a power of two, at least a page."""
    size: Any = page_size()
    while size < wanted:
        size *= 2
    return int(size)
