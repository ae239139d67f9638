# SPDX-License-Identifier: BSD-2-Clause
"""Thread without the GIL that reads the files of a new container when its cgroup is made.

On a busy machine the engine's thread may come too late: a short container and its runtime's files are gone by then.
``native/early.c`` reads them early; :func:`kept` returns what it read, for readers that find a file gone. One thread
serves the whole process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from eunomia._native import ffi, lib

HOLE = "{}"  # stands for the container's id in a path


class _Reader:
    """The thread, and the paths that it reads."""

    def __init__(self) -> None:
        self._thread = ffi.NULL
        self._places: tuple[str, ...] = ()

    def start(self, ring: int) -> None:
        """Start the thread on the descriptor of a ring of ``early.bpf.c``; does nothing if it runs."""
        if self._thread == ffi.NULL:
            self._thread = lib.eu_early_open(ring)

    def stop(self) -> None:
        """End the thread and drop what it has read."""
        if self._thread != ffi.NULL:
            lib.eu_early_close(self._thread)
        self._thread, self._places = ffi.NULL, ()

    def want(self, places: Iterable[str]) -> None:
        """Read only these files from now on; a path is like ``/run/x/{}/config.json``."""
        wanted = tuple(place for place in dict.fromkeys(places) if "\0" not in place and HOLE in place)
        if self._thread == ffi.NULL or wanted == self._places:
            return
        self._places = wanted
        pairs = b"".join(os.fsencode(part) + b"\0" for place in wanted for part in place.split(HOLE, 1))
        lib.eu_early_places(self._thread, pairs, len(pairs))

    def kept(self, path: str) -> tuple[bytes, int] | None:
        """Return a file's content when the cgroup was made, and when it was written (ns since the epoch)."""
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
