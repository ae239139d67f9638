# SPDX-License-Identifier: BSD-2-Clause
"""A stub of its own for a program that knows nothing of chains, so that another can take its place."""

from __future__ import annotations

from eunomia.kernel.hooks.place import Place
from eunomia.kernel.hooks.stub import Stub
from eunomia.kernel.hooks.table import put


class PrivateHook:
    """A stub with one program in its slot; attached until :meth:`close`."""

    def __init__(self, place: Place, program: int) -> None:
        """Hang a program, by its descriptor, at a place; raises :class:`KernelError`, and leaves nothing then."""
        self._stub = Stub(place)
        try:
            put(self._stub.table, 0, program)
            self._stub.attach()
        except BaseException:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The descriptor of what keeps the stub attached."""
        return self._stub.descriptor

    def misses(self) -> int:
        """Return how often the kernel skipped the stub because it was running on that CPU already."""
        return self._stub.misses()

    def replace(self, program: int) -> None:
        """Put another program here by one store; raises :class:`KernelError`, and the old one goes on then."""
        put(self._stub.table, 0, program)

    def close(self) -> None:
        """Take the stub off its hook."""
        self._stub.close()
