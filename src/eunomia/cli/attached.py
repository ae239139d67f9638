# SPDX-License-Identifier: BSD-2-Clause
"""Shows rows that arrive from a server, by the sinks of ``eunomia run``, and keeps their account."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence

import msgspec

from eunomia.cli.errors import UsageError, say
from eunomia.cli.run import open_writer
from eunomia.client import events as kinds
from eunomia.client.rows import Rows, decoded, has, missing
from eunomia.server.models import Stream
from eunomia.sinks import Sink, open_sink
from eunomia.sinks.json_values import encoded
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.client import Event
    from eunomia.server.models import Tracker
    from eunomia.sinks import StreamInfo

_LOOK = 200  # ms between two looks at whether to end, while a slow reader of stdout is waited for


class _Whose(msgspec.Struct):
    stream: str


class Shown:
    """Rows of a tracker on stdout. JSON without chosen columns is passed on as it comes."""

    def __init__(
        self,
        tracker: Tracker,
        kind: str,
        columns: Sequence[str] | None,
        streams: Sequence[str],
        limit: int | None,
    ) -> None:
        """Take what to show; raises :class:`UsageError` for columns that its rows do not have."""
        self.id = tracker.id
        self._kind, self._columns, self._only, self._left = kind, columns, streams, limit
        self._added = tracker.request.add
        self._rows = Rows(tracker.id)
        self._described: list[Stream] = []
        self._received: dict[str, int] = {}
        self._lost = 0
        self.is_stopped = False  # by the user: what stdout does not take now is dropped
        self._writer = open_writer()
        self._sink: Sink | None = None
        self._whose = msgspec.json.Decoder(_Whose).decode
        self._arrange(tracker.streams)

    def _arrange(self, streams: Sequence[Stream]) -> None:
        wanted = [stream for stream in streams if not self._only or stream.name in self._only]
        if wanted == self._described:
            return
        before = {s.name: [c.name for c in s.columns] for s in self._described}
        self._described = wanted
        infos = self._rows.describe(wanted)
        if self._sink is None:
            self._sink = self._open(infos)
            return
        adapt = getattr(self._sink, "adapt", None)
        if adapt is not None:
            adapt(infos)
        from eunomia.cli.watch import changes

        told = changes(before, {s.name: [c.name for c in s.columns] for s in wanted})
        if told and self._kind == "csv":
            told.append("csv keeps the columns of its header")
        if told:
            say("; ".join([f"{self.id}: its object was replaced", *told]))

    def _open(self, infos: Sequence[StreamInfo]) -> Sink:
        from eunomia.sinks.columns import checked

        there = has(self._added, all(info.whole for info in infos))
        try:
            if self._columns is not None and infos:
                absent = missing(checked(self._columns, infos), there)
                if absent:
                    raise UsageError(
                        f"--columns: the rows of {self.id} come without {', '.join(absent)}: "
                        f"start it with --add {','.join(absent)}"
                    )
            return open_sink(self._kind, self._writer, infos, self._columns, added=self._added)
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def is_done(self) -> bool:
        """Whether enough was shown, or nobody reads it any more."""
        return self._left == 0 or self._writer.closed

    def tell(self, event: Event) -> None:
        """Take an event that is no row."""
        if event.kind == kinds.SCHEMA:
            self._arrange(msgspec.json.decode(event.text, type=list[Stream]))
            if self._sink is not None:
                self._sink.flush()  # the heading: rows come from now on
        elif event.kind == kinds.LOST:
            lost = int(event.data["lost"])
            self._lost += lost
            say(f"{self.id}: {lost} rows are lost here: they came faster than they were read")
        elif event.kind == kinds.PAUSE:
            say(f"{self.id}: rows are missing here, uncounted: nobody read them for a while")
        elif event.kind == kinds.RESTART:
            say(f"{self.id}: rows are missing here, uncounted: the server was started again")

    def write(self, rows: Sequence[bytes]) -> None:
        """Show rows, and wait until they are written."""
        if self._left is not None:
            rows = rows[: self._left]
            self._left -= len(rows)
        if not rows:
            return
        whose = [self._whose(row).stream for row in rows]
        counts = {name: whose.count(name) for name in dict.fromkeys(whose)}
        for name, count in counts.items():
            self._received[name] = self._received.get(name, 0) + count
        if self._kind == "json" and self._columns is None:
            by_key = {(self.id, name): count for name, count in counts.items()}
            self._writer.write(b"".join([b"%b\n" % row for row in rows]), by_key, [(self.id, name) for name in whose])
        else:
            assert self._sink is not None
            self._sink.write(self._rows.batches(decoded(rows)))
        self._wait()

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(1, select.POLLOUT)
        self._writer.flush()
        while self._writer.waiting and not self._writer.closed and not self.is_stopped:
            poll.poll(_LOOK)
            self._writer.flush()

    def close(self) -> None:
        """Write what waits."""
        if self._sink is not None:
            self._sink.close()

    def say_account(self, drops: int) -> None:
        """Report what became of the rows to stderr, as a run does."""
        for name in dict.fromkeys([*(stream.name for stream in self._described), *self._received]):
            key = (self.id, name)
            received, delivered = self._received.get(name, 0), self._writer.delivered.get(key, 0)
            reasons = self._writer.dropped.get(key, {})
            dropped = sum(reasons.values())
            if self._kind == "json":
                counts = {"received": received, "delivered": delivered, "dropped": dropped}
                _line({"ledger": f"{self.id}/{name}", **counts, **({"dropped_reasons": reasons} if reasons else {})})
            else:
                named = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
                more = f" ({named})" if named else ""
                say(f"{self.id}/{name}: received {received}, delivered {delivered}, dropped {dropped}{more}")
        if self._kind == "json":
            _line({"ledger": self.id, "lost": self._lost, "dropped_connections": drops})
        else:
            say(f"{self.id}: lost {self._lost}" + (f", connections that dropped: {drops}" if drops else ""))


def _line(fields: dict[str, object]) -> None:
    sys.stderr.write(encoded(fields).decode() + "\n")
