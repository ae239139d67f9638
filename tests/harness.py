# SPDX-License-Identifier: BSD-2-Clause
"""Run a tracker for as long as a ``with`` lasts, and look at its rows.

    with tracked("process") as seen:
        subprocess.run(["true"])
    assert seen.rows("exec", comm="true")
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from eunomia.batch import Batch
from eunomia.columns.joined import ACTOR, is_of
from eunomia.columns.meanings import MEANINGS
from eunomia.engine import Engine
from eunomia.engine.output import Output
from eunomia.filters import Filters
from eunomia.ledger import Entry, Remark, combined
from eunomia.source import Options, Source, open_source
from eunomia.stream_schema import Schema
from tests import needs

Row = Mapping[str, Any]

_PAUSE = 0.01  # seconds

# The tests' own process makes many of the events that they look for.
ALL = Filters(traces_itself=True)


class Seen:
    """A sink that keeps all rows, and takes each at once."""

    wants: frozenset[str] = frozenset()
    closed = False

    def __init__(self, engine: Engine, added: Sequence[str] = ()) -> None:
        self.all: list[Row] = []
        self.remarks: Sequence[Remark] = ()  # once it is finished
        self._added = added
        self.delivered: dict[tuple[str, str], int] = {}
        self.dropped: dict[tuple[str, str], dict[str, int]] = {}
        self.waiting: dict[tuple[str, str], int] = {}
        self._engine = engine
        self._ledger: list[Any] = []
        self.source: Source | None = None
        self._finished = threading.Event()
        self._lock = threading.Lock()
        # The engine drains while the test acts, as it does for users: containers come and go meanwhile.
        self._stepping = threading.Thread(target=self._step, name="engine")

    def begin(self) -> None:
        """Take rows from now on."""
        self._stepping.start()

    def write(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            names = [*batch.schema.columns, *self._added]
            columns = [batch.values(name) for name in names]
            self.all += [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            key = (batch.tracker, batch.stream)
            self.delivered[key] = self.delivered.get(key, 0) + batch.count

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def _step(self) -> None:
        while not self._finished.wait(_PAUSE):
            with self._lock:
                self._engine.step()

    def read_tables(self) -> None:
        """Take in what tables hold, as is done at the end of each interval."""
        with self._lock:
            self._engine.step(tables=True)

    def finish(self) -> None:
        """Detach and take in what is left; leaving the ``with`` does it too."""
        if not self._finished.is_set():
            self._finished.set()
            self._stepping.join()
            self._engine.finish(tables=True)
            # What the kernel gave is asked for now: the engine forgets it when it closes.
            self._ledger = combined(self._engine.ledger(), self._engine.accounts())
            self.remarks = self._engine.remarks()

    def rows(self, stream: str = "", **columns: Any) -> list[Row]:
        """Return the rows so far, of a stream and with these values where given."""
        return [
            row
            for row in self.all
            if stream in {"", row["stream"]} and all(row[n] == v for n, v in columns.items())
        ]

    def row(self, stream: str = "", **columns: Any) -> Row:
        """Return the one row that there is of a kind; fail where there is none, or another."""
        found = self.rows(stream, **columns)
        assert len(found) == 1, f"{len(found)} rows of {stream} with {columns}, 1 expected: {found[:5]}"
        return found[0]

    def until(self, holds: Callable[[Seen], object], seconds: float = 5.0) -> None:
        """Wait until something holds; fail when it takes too long."""
        deadline = time.monotonic() + seconds * needs.PATIENCE
        while not holds(self):
            assert time.monotonic() < deadline, f"not seen within {seconds} s; the last rows: {self.all[-5:]}"
            time.sleep(_PAUSE)

    def ledger(self, stream: str) -> Entry:
        """Return a stream's account, which is at rest when the run is finished."""
        entries = self._ledger or combined(self._engine.ledger(), self._engine.accounts())
        found = [e for e in entries if isinstance(e, Entry) and e.stream.endswith(f"/{stream}")]
        return found[0]


@contextmanager
def tracked(
    what: str | Source,
    *,
    variant: str = "",
    filters: Filters = ALL,
    options: Options | None = None,
    added: Sequence[str] = (),
) -> Iterator[Seen]:
    """Run a tracker, or an object file, in this process; ``variant`` is the one way to hook that it may use.

    ``added`` are columns that rows have beside the usual ones. Tables are read at the end, and when :meth:`Seen.read_tables` is called. Skips the test unless run by root.
    """
    needs.root()
    source = only(open_source(what), variant) if isinstance(what, str) else what
    with Engine(ring_size=options.ring_size if options else None) as engine:
        engine.add(source, options)
        seen = Seen(engine, added)
        seen.source = source
        engine.connect(Output("seen", lambda _: seen, filters, processes=any(is_of(ACTOR, n) for n in added)))
        engine.start()
        assert source.variant == variant or not variant
        seen.begin()
        try:
            yield seen
        finally:
            seen.finish()


def schema_of(tracker: str, stream: str) -> Schema:
    """Return what a tracker's compiled probe says of a stream; needs no root."""
    with closing(open_source(tracker).spec) as spec:
        return spec.streams[stream].schema


def batch_of(schema: Schema, *records: Mapping[str, int | bytes]) -> Batch:
    """Make a batch as a drain would: numbers and char arrays in place, texts (``str_t``) in the heap.

    Fields that are not given are zero; an argument vector is given as its NUL-terminated strings.
    """
    data, heap = bytearray(), bytearray()
    for record in records:
        fixed = bytearray(schema.size)
        for name, value in record.items():
            field = schema.fields[name]
            if isinstance(value, int):
                raw = (value % (1 << 8 * field.size)).to_bytes(field.size, sys.byteorder)
            elif MEANINGS[field.meaning].variable:
                raw = struct.pack("=II", len(heap), len(value))
                heap += value
            else:
                assert len(value) <= field.size, f"{name} has {field.size} bytes"
                raw = value.ljust(field.size, b"\0")
            fixed[field.offset : field.offset + field.size] = raw
        data += fixed
    return Batch(schema, bytes(data), bytes(heap))


def only(source: Source, variant: str) -> Source:
    """Let a tracker hook in one way alone; its best where none is named."""
    if variant:
        assert source.found is not None
        known = source.found.tracker
        chosen = tuple(v for v in known.variants if v.name == variant)
        assert chosen, f"{source.name} has no variant {variant}"
        source.found = source.found._replace(tracker=known._replace(variants=chosen))
    return source
