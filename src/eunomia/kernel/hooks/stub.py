# SPDX-License-Identifier: BSD-2-Clause
"""A stub: the one program on a hook, which calls what is in its slot."""

from __future__ import annotations

import os

from eunomia.kernel.hooks import code, table
from eunomia.kernel.hooks.place import Place
from eunomia.kernel.libbpf import ffi, lib


class Stub:
    """A program at a place, and the table of one slot that it calls; attached until :meth:`close`."""

    def __init__(self, place: Place) -> None:
        """Raises :class:`KernelError`, and leaves nothing then."""
        self.place = place
        self.program = self._link = -1
        name = "eu_" + place.name.rpartition("/")[2]
        self.table = table.table(name, 1)
        try:
            # The index is a constant, so the kernel writes a direct jump into the stub whenever the slot changes.
            # A jump by a table costs each event more, above all where there are retpolines.
            calls = code.map_(2, self.table) + code.number(3, 0) + code.call(code.TAIL_CALL)
            self.program = place.load(name, calls + code.EXIT)
        except BaseException:
            self.close()
            raise

    def attach(self) -> None:
        """Hang it on its hook; raises :class:`KernelError`."""
        self._link = self.place.attach(self.program)

    @property
    def descriptor(self) -> int:
        """Of what keeps it attached."""
        return self._link

    def misses(self) -> int:
        """Return how often the kernel skipped it because it was running on that CPU already."""
        out = ffi.new("uint64_t *")
        return int(out[0]) if not lib.eu_recursion_misses(self.program, out) else 0

    def close(self) -> None:
        """Take it off its hook; who is in it may still call what the slot held."""
        for fd in (self._link, self.program, self.table):
            if fd >= 0:
                os.close(fd)
        self.program = self._link = self.table = -1
