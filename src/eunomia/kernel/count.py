# SPDX-License-Identifier: BSD-2-Clause
"""The count of a stream's records that its probe keeps."""

from __future__ import annotations

from eunomia.typing import NamedTuple


class Count(NamedTuple):
    """Records that a stream's probe has emitted and lost; ``lost`` is None if the object does not count them.

    If equal events are counted, ``events`` is the number that the records stand for, and ``behind`` the lost ones that
    were counted behind a lost record.
    """

    emitted: int
    lost: int | None
    events: int | None = None
    behind: int = 0

    def after(self, before: Count) -> Count:
        """Return the count of both, where this one's stream went on with the other's."""
        lost = None if self.lost is None or before.lost is None else self.lost + before.lost
        events = None
        if self.events is not None or before.events is not None:
            events = sum(count.emitted if count.events is None else count.events for count in (before, self))
        return Count(self.emitted + before.emitted, lost, events, self.behind + before.behind)

    def negated(self) -> Count:
        """Return what takes this one out of a sum."""
        lost = None if self.lost is None else -self.lost
        return Count(-self.emitted, lost, None if self.events is None else -self.events, -self.behind)
