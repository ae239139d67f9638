# SPDX-License-Identifier: BSD-2-Clause
"""What a program of a live object hangs on, and how another program takes its place there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eunomia.kernel.diagnose import strerror
from eunomia.kernel.errors import KernelError

if TYPE_CHECKING:
    from eunomia.kernel.attach import Link

Hook = tuple[object, ...]


class Attachment:
    """The links of one program; ``hook`` says what they are on, ``name`` is the program's.

    ``is_swappable`` says whether another program can take its place by one store; where none can, the other is
    attached beside it first, so that nothing is missed, and what happens before this one is taken off both see.
    """

    def __init__(self, name: str, hook: Hook, links: Sequence[Link], *, is_swappable: bool) -> None:
        self.name = name
        self.hook = hook
        self.links = list(links)
        self.is_swappable = is_swappable

    @property
    def is_attached(self) -> bool:
        """Whether it still hangs there."""
        return bool(self.links)

    def put(self, program: Any, before: Any) -> None:
        """Have another program here in the place of ``before``.

        Raises :class:`KernelError`, and then that one stays.
        """
        for i, link in enumerate(self.links):
            assert link.update is not None
            if failed := link.update(program):
                for done in self.links[:i]:
                    assert done.update is not None
                    done.update(before)
                raise KernelError(f"program {self.name} cannot be replaced: {strerror(-failed)}")

    def start(self) -> None:
        """Let the program run, if it waits."""

    def stop(self) -> None:
        """Let no program run, where that can be done without taking it off."""

    def misses(self) -> int:
        """Return how often the kernel skipped what hangs there because it was running on that CPU already.

        What it skipped of the program itself, where that hangs there, is not in it.
        """
        return 0

    def close(self) -> None:
        """Take it off."""
        links, self.links = self.links, []
        for link in links:
            link.close()
