# SPDX-License-Identifier: BSD-2-Clause
"""What a program of a live object hangs on, and how another program takes its place there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.kernel.errors import KernelError
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.attach import AnyLink
    from eunomia.kernel.spec import Program, Spec

Hook = tuple[object, ...]


class Attachment:
    """The links of one program; ``hook`` says what they are on, ``name`` is the program's.

    ``is_swappable`` says whether another program can take its place by one store; where none can, the other is
    attached beside it first, so that nothing is missed, and what happens before this one is taken off both see.
    ``waits`` says whether it is attached and does not run before :meth:`start`.
    """

    waits = False

    def __init__(self, name: str, hook: Hook, links: Sequence[AnyLink], *, is_swappable: bool) -> None:
        self.name = name
        self.hook = hook
        self.links = list(links)
        self.is_swappable = is_swappable

    @property
    def is_attached(self) -> bool:
        """Whether it still hangs there."""
        return bool(self.links)

    def check(self, spec: Spec, program: Program, handle: Any, targets: Sequence[str]) -> None:
        """Raise :class:`KernelError` where the kernel would not attach a program here."""

    def put(self, program: Any, before: Any) -> None:
        """Have another program here in the place of ``before``.

        Raises :class:`KernelError`, and then that one stays.
        """
        done: list[AnyLink] = []
        try:
            for link in self.links:
                link.replace(program)
                done.append(link)
        except KernelError:
            for link in done:
                link.replace(before)
            raise

    def start(self) -> None:
        """Let the program run, if it waits; raises :class:`KernelError`."""

    def stop(self) -> None:
        """Let the program run no more: where it cannot wait it is taken off."""
        self.close()

    def misses(self) -> int:
        """Return how often the kernel skipped what calls the program because it was running on that CPU already."""
        return sum(link.misses() for link in self.links)

    def close(self) -> None:
        """Take it off."""
        links, self.links = self.links, []
        for link in links:
            link.close()


class HandlerAttachment(Attachment):
    """A program that was written for a shared hook; it is put there by :meth:`start`."""

    waits = True

    def __init__(self, name: str, hook: Hook, attach: Callable[[], Sequence[AnyLink]]) -> None:
        super().__init__(name, hook, (), is_swappable=True)
        self._attach = attach

    def start(self) -> None:
        """Let the program run; raises :class:`KernelError`."""
        if not self.links:
            self.links = list(self._attach())
