# SPDX-License-Identifier: BSD-2-Clause
"""Files about a new container that may be gone before the loop comes to read them, read in a thread without the GIL.

The loop is late where the machine has more to do than it can: a container that lives for a moment, and what its
runtime wrote about it, is over by then. ``native/early.c`` reads as the cgroup is made; :func:`kept` gives what it
read, for readers who find a file gone. One thread serves all readers of the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from eunomia._native import ffi, lib

HOLE = "{}"  # in a place, where the container's id goes


class _Reader:
    """The thread, while it runs."""

    def __init__(self) -> None:
        self._thread = ffi.NULL
        self._places: tuple[str, ...] = ()

    def start(self, ring: int) -> None:
        """Start the thread, on a ring of ``early.bpf.c`` by its descriptor; without effect where it runs."""
        if self._thread == ffi.NULL:
            self._thread = lib.eu_early_open(ring)

    def stop(self) -> None:
        """End the thread and forget what it has read."""
        if self._thread != ffi.NULL:
            lib.eu_early_close(self._thread)
        self._thread, self._places = ffi.NULL, ()

    def want(self, places: Iterable[str]) -> None:
        """Have these files read from now on, as ``/run/x/{}/config.json``, and no others."""
        wanted = tuple(place for place in dict.fromkeys(places) if "\0" not in place and HOLE in place)
        if self._thread == ffi.NULL or wanted == self._places:
            return
        self._places = wanted
        pairs = b"".join(os.fsencode(part) + b"\0" for place in wanted for part in place.split(HOLE, 1))
        lib.eu_early_places(self._thread, pairs, len(pairs))

    def kept(self, path: str) -> tuple[bytes, int] | None:
        """Return what a file held as the cgroup was made, and when it was written (ns since the epoch)."""
        if self._thread == ffi.NULL or "\0" in path:
            return None
        name, written, room = os.fsencode(path), ffi.new("int64_t *"), 0
        while True:
            out = ffi.new("char[]", room + 1)
            size = lib.eu_early_find(self._thread, name, out, room, written)
            if size < 0:
                return None
            if size <= room:
                return bytes(ffi.buffer(out, size)), int(written[0])
            room = size


_reader = _Reader()
start, stop, want, kept = _reader.start, _reader.stop, _reader.want, _reader.kept
