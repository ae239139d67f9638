# SPDX-License-Identifier: BSD-2-Clause
"""One live object replaces another on its hooks, and can be replaced by it again."""

from __future__ import annotations

from eunomia.kernel.errors import KernelError
from eunomia.kernel.libbpf import lib
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.attachment import Attachment
    from eunomia.kernel.loaded import Loaded


class _Pair(NamedTuple):
    """A hook for which both objects have a program, with the names of these."""

    attachment: Attachment
    before: str
    after: str


class Handover:
    """Gives the hooks of ``before`` to ``after``, which was loaded with ``before`` as the object that it replaces.

    ``twice`` are programs of the new object that could not be swapped by one store, and ran beside old ones for a
    moment: both saw the events of that moment.
    """

    def __init__(self, before: Loaded, after: Loaded) -> None:
        self.before = before
        self.after = after
        self.twice: list[str] = []
        self._pairs = [_Pair(a, a.name, name) for name, a in after.to_take.items()]
        self._left: list[Attachment] = []  # that only the old object has

    def swap(self, *, settle: bool = True) -> None:
        """Let the new programs run in place of the old.

        With ``settle``, no old one runs any more when it returns: what they wrote can be read. Raises
        :class:`KernelError`, and then all is as before.
        """
        self._put(self._pairs)
        mine = list(self.after.attachments)
        try:
            for attachment in mine:
                attachment.start()
        except BaseException:
            for attachment in mine:
                attachment.stop()
            self._put(self._pairs, back=True)
            raise
        self._move(self.before, self.after)
        self._left = list(self.before.attachments)
        if self._left:
            self.twice = [a.name for a in mine if not a.waits]
        for attachment in self._left:
            attachment.stop()
        self.before.rest()
        if settle:
            lib.eu_settle()

    def back(self) -> None:
        """Let the old programs run again in place of the new ones.

        Raises :class:`KernelError` if one of the old programs cannot be attached again; then the others run.
        """
        self._put(self._pairs, back=True)
        self._move(self.after, self.before)
        for attachment in self.after.attachments:
            attachment.stop()
        for attachment in self._left:
            if attachment.is_attached:
                attachment.start()
        try:
            self.before.attach_again()
        finally:
            self.after.detach()

    def _put(self, pairs: list[_Pair], *, back: bool = False) -> None:
        done: list[_Pair] = []
        try:
            for pair in pairs:
                self._put_one(pair, back)
                done.append(pair)
        except KernelError:
            for pair in done:
                self._put_one(pair, not back)
            raise

    def _put_one(self, pair: _Pair, back: bool) -> None:
        old, new = self.before.program(pair.before), self.after.program(pair.after)
        pair.attachment.put(old if back else new, new if back else old)
        pair.attachment.name = pair.before if back else pair.after

    def _move(self, giver: Loaded, taker: Loaded) -> None:
        """Move the attachments of the pairs from one object to the other."""
        for pair in self._pairs:
            giver.give(pair.attachment)
            taker.take(pair.attachment)
