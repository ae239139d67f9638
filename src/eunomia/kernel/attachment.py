# SPDX-License-Identifier: BSD-2-Clause
"""How a program of a live object is attached, and how another program replaces it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eunomia.kernel.errors import KernelError
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.attach import AnyLink
    from eunomia.kernel.spec import Program, Spec

Hook = tuple[object, ...]


class Attachment:
    """The links of one program; ``hook`` identifies what they are attached to, ``name`` is the program's.

    ``is_swappable`` says whether one store can replace the program. If not, the new program is attached before the
    old one is detached: no event is lost, but both see those in between. ``waits`` says whether the program is
    attached but does not run before :meth:`start`.
    """

    waits = False

    def __init__(self, name: str, hook: Hook, links: Sequence[AnyLink], *, is_swappable: bool) -> None:
        self.name = name
        self.hook = hook
        self.links = list(links)
        self.is_swappable = is_swappable

    @property
    def is_attached(self) -> bool:
        """Whether it is attached."""
        return bool(self.links)

    def check(self, spec: Spec, program: Program, handle: Any, targets: Sequence[str]) -> None:
        """Raise :class:`KernelError` if the kernel would refuse to attach a program here."""

    def put(self, program: Any, before: Any) -> None:
        """Replace the program ``before``.

        Raises :class:`KernelError`; then ``before`` stays.
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
        """Let the program run if it waits; raises :class:`KernelError`."""

    def stop(self) -> None:
        """Stop the program; if it cannot wait, detach it."""
        self.close()

    def misses(self) -> int:
        """Return how often the kernel skipped what calls the program because it was running on that CPU already."""
        return sum(link.misses() for link in self.links)

    def close(self) -> None:
        """Detach it."""
        links, self.links = self.links, []
        for link in links:
            link.close()


class HandlerAttachment(Attachment):
    """A handler for a shared hook, to which :meth:`start` adds it."""

    waits = True

    def __init__(self, name: str, hook: Hook, attach: Callable[[], Sequence[AnyLink]]) -> None:
        super().__init__(name, hook, (), is_swappable=True)
        self._attach = attach

    def start(self) -> None:
        """Let the program run; raises :class:`KernelError`."""
        if not self.links:
            self.links = list(self._attach())
