# SPDX-License-Identifier: BSD-2-Clause
"""A stream whose rows a tracker makes in user space: there is nothing to drain, only to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.kernel.spec import StreamSpec


class DerivedReader:
    """Stands for a derived stream among the readers of an object; ``drained`` are the rows made so far."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.schema = spec.schema
        self.drained = 0
        self.waiting = 0
        self.odd = 0

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return nothing: rows come from the tracker's ``derive``."""
        return []

    def close(self) -> None:
        """Do nothing."""
