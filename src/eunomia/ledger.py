# SPDX-License-Identifier: BSD-2-Clause
"""Accounts of each stream's records, on both sides of the engine.

For a stream, ``emitted + lost`` is what its probe saw; of the emitted records the engine left out ``filtered``, and
passed the rest to each output that takes the stream. There, at any time,
``received = filtered + delivered + dropped + waiting``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eunomia.typing import NamedTuple


def _json(fields: Mapping[str, object]) -> str:
    from eunomia.sinks.json_values import encoded

    return encoded(fields).decode()


class Events(NamedTuple):
    """What rows of a stream stand for whose equal events are counted.

    ``shown`` are events that rows were made for; ``behind`` were counted, and lost with the record before them.
    """

    shown: int
    behind: int = 0


_BEHIND = "counted behind a lost record"


class SourceEntry(NamedTuple):
    """A stream's account, in records, over all generations of its source.

    ``emitted`` were written to the ring; ``lost`` did not fit, None if the object does not count them;
    ``filtered`` were left out by the engine, because no output wanted them. If equal events are
    counted, ``emitted`` are rows, which stand for ``events``, and ``lost`` are events.
    """

    stream: str
    emitted: int
    lost: int | None
    filtered: int
    events: Events | None = None

    def line(self) -> str:
        """Return it for people."""
        return f"{self.stream}: {_seen(self)}, filtered {self.filtered}"

    def json(self) -> str:
        """Return it as one JSON object."""
        return _json({"ledger": self.stream, **_seen_fields(self), "filtered": self.filtered})


class OutputEntry(NamedTuple):
    """An output's account of a stream's rows.

    ``received`` came from the engine; ``filtered`` were not wanted; ``delivered`` were written; ``dropped`` were
    not, by reason; ``waiting`` are in its queue, or wait for a slow reader.
    """

    output: str
    stream: str
    received: int
    filtered: int
    delivered: int
    dropped: Mapping[str, int]
    waiting: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every received row is accounted for."""
        return self.received == self.filtered + self.delivered + sum(self.dropped.values()) + self.waiting

    def line(self) -> str:
        """Return it for people."""
        return (
            f"{self.output}: {self.stream}: in {self.received}, filtered {self.filtered}, delivered {self.delivered}, "
            f"dropped {_dropped(self.dropped)}" + (f", waiting {self.waiting}" if self.waiting else "")
        )

    def json(self) -> str:
        """Return it as one JSON object."""
        fields: dict[str, object] = {
            "output": self.output, "stream": self.stream, "in": self.received, "filtered": self.filtered,
            "delivered": self.delivered, "dropped": sum(self.dropped.values()), "waiting": self.waiting,
        }  # fmt: skip
        if self.dropped:
            fields["dropped_reasons"] = dict(self.dropped)
        return _json(fields)


class Entry(NamedTuple):
    """Both sides in one, if there is one output: at rest, ``emitted = filtered + delivered + dropped``."""

    stream: str
    emitted: int
    lost: int | None
    filtered: int
    delivered: int
    dropped: Mapping[str, int]
    events: Events | None = None

    @classmethod
    def of(cls, source: SourceEntry, output: OutputEntry | None) -> Entry:
        """Combine the two sides; ``output`` is None if no output takes the stream."""
        if output is None:
            return cls(source.stream, source.emitted, source.lost, source.filtered, 0, {}, source.events)
        filtered = source.filtered + output.filtered
        return cls(
            source.stream, source.emitted, source.lost, filtered, output.delivered, output.dropped, source.events
        )

    @property
    def balanced(self) -> bool:
        """Whether every record that was emitted is accounted for."""
        return self.emitted == self.filtered + self.delivered + sum(self.dropped.values())

    def line(self) -> str:
        """Return it for people."""
        return (
            f"{self.stream}: {_seen(self)}, filtered {self.filtered}, "
            f"delivered {self.delivered}, dropped {_dropped(self.dropped)}"
        )

    def json(self) -> str:
        """Return it as one JSON object."""
        fields: dict[str, object] = {
            "ledger": self.stream,
            **_seen_fields(self),
            "filtered": self.filtered,
            "delivered": self.delivered,
            "dropped": sum(self.dropped.values()),
        }
        if self.dropped:
            fields["dropped_reasons"] = dict(self.dropped)
        return _json(fields)


def combined(sources: Sequence[SourceEntry], outputs: Sequence[OutputEntry]) -> list[Entry | SourceEntry | OutputEntry]:
    """Return both sides: one line per stream if there is one output, else the streams' and then the outputs'."""
    if len({entry.output for entry in outputs}) > 1:
        return [*sources, *outputs]
    by_stream = {entry.stream: entry for entry in outputs}
    return [Entry.of(entry, by_stream.get(entry.stream)) for entry in sources]


class Remark(NamedTuple):
    """A remark on a run beside its streams' accounts: ``subject`` and ``text``, with ``counts``."""

    subject: str
    text: str
    counts: Mapping[str, int]

    def line(self) -> str:
        """Return it for people."""
        return f"{self.subject}: {self.text}"

    def json(self) -> str:
        """Return it as one JSON object."""
        return _json({"remark": self.subject, "text": self.text, **self.counts})


def _seen(entry: SourceEntry | Entry) -> str:
    """Return what a probe saw, for people."""
    lost = "unknown" if entry.lost is None else str(entry.lost)
    if entry.events is None:
        return f"emitted {entry.emitted}, lost {lost}"
    if entry.events.behind:
        lost += f" ({entry.events.behind} {_BEHIND})"
    return f"emitted {entry.emitted} for {entry.events.shown} events, lost {lost}"


def _seen_fields(entry: SourceEntry | Entry) -> dict[str, object]:
    fields: dict[str, object] = {
        "emitted": entry.emitted, "lost": "unknown" if entry.lost is None else entry.lost,
    }  # fmt: skip
    if entry.events is not None:
        fields["events"] = entry.events.shown
        if entry.events.behind and entry.lost is not None:
            fields["lost_reasons"] = {"ring full": entry.lost - entry.events.behind, _BEHIND: entry.events.behind}
    return fields


def _dropped(reasons: Mapping[str, int]) -> str:
    named = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"{sum(reasons.values())}" + (f" ({named})" if named else "")
