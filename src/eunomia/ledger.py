# SPDX-License-Identifier: BSD-2-Clause
"""What became of each stream's records. At rest, ``emitted = filtered + delivered + dropped``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """One stream's account, in records.

    ``emitted`` reached the ring; ``lost`` the ring refused, None where nothing in the object counts them;
    ``filtered`` were left out on purpose in user space; ``delivered`` were written; ``dropped`` were not,
    by reason.
    """

    stream: str
    emitted: int
    lost: int | None
    filtered: int
    delivered: int
    dropped: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        """Whether every record that was emitted is accounted for."""
        return self.emitted == self.filtered + self.delivered + sum(self.dropped.values())

    def line(self) -> str:
        """Return it for people."""
        dropped = sum(self.dropped.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
        return (
            f"{self.stream}: emitted {self.emitted}, lost {'unknown' if self.lost is None else self.lost}, "
            f"filtered {self.filtered}, delivered {self.delivered}, dropped {dropped}"
            + (f" ({reasons})" if reasons else "")
        )

    def json(self) -> str:
        """Return it as one JSON object."""
        import msgspec

        fields: dict[str, object] = {
            "ledger": self.stream,
            "emitted": self.emitted,
            "lost": "unknown" if self.lost is None else self.lost,
            "filtered": self.filtered,
            "delivered": self.delivered,
            "dropped": sum(self.dropped.values()),
        }
        if self.dropped:
            fields["dropped_reasons"] = dict(self.dropped)
        return msgspec.json.encode(fields).decode()


class Remark(NamedTuple):
    """What is to be said of a run beside its streams' accounts: ``subject`` did ``text``, in ``counts``."""

    subject: str
    text: str
    counts: Mapping[str, int]

    def line(self) -> str:
        """Return it for people."""
        return f"{self.subject}: {self.text}"

    def json(self) -> str:
        """Return it as one JSON object."""
        import msgspec

        return msgspec.json.encode({"remark": self.subject, "text": self.text, **self.counts}).decode()
