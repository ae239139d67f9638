# SPDX-License-Identifier: BSD-2-Clause
"""Streams whose equal events are counted in the kernel (``eunomia/coalesce.h``): the consumer's side.

The first of equal events comes by the ring, as any event. Those that follow are counted in a table, until the window
ends: then an empty table takes the full one's place, and each entry that has counted anything becomes a row, made of
the record that came first. The kernel says when no program uses the full table any more, which may take it a while:
a thread waits for that, and the ring is drained meanwhile.
"""

from __future__ import annotations

import struct
import sys
from array import array

from eunomia.batch import Batch
from eunomia.kernel.errors import KernelError
from eunomia.kernel.libbpf import error, ffi, lib
from eunomia.kernel.map_snapshot import Snapshot
from eunomia.kernel.ring import RingReader
from eunomia.kernel.spec import StreamSpec, aligned
from eunomia.kernel_clock import monotonic_ns
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threading import Thread

ENOUGH = 16 << 20  # bytes of records that are kept before a window ends early ...
MOST = 64 << 20  # ... and before no more are kept
_LOOK = 5_000_000  # ns between two looks whether the kernel is done with a table
_UNSENT = (0, (1 << 64) - 1)  # in place of a record's id, where none reached the ring
_EQUAL = "QQQQ"  # struct eunomia_equal

_Found = dict[int, tuple[int, int, int]]  # by the record's id: how many events, the first's time, the last's


class Windows:
    """The two tables that take turns, and the slot in which programs find the one to write into."""

    def __init__(self, name: str, slot: int, tables: tuple[int, int], length: int) -> None:
        """Take the descriptors of the maps, and how long a window is, in ns."""
        self.length = length
        self._name = name
        self._slot = slot
        self._tables = tables
        self.current = 0  # the table that programs write into
        self._thread: Thread | None = None
        self._failed = 0  # errno

    @property
    def is_ending(self) -> bool:
        """Whether a window ends, and its table was not returned yet."""
        return self._thread is not None

    def end(self) -> None:
        """Begin to put the other table in the full one's place; returns at once."""
        from threading import Thread

        self._thread = Thread(target=self._put, args=(self._tables[1 - self.current],), name="window", daemon=True)
        self._thread.start()

    def _put(self, table: int) -> None:
        # comes back when no program holds the other any more (maybe_wait_bpf_programs, kernel/bpf/syscall.c)
        key, value = ffi.new("uint32_t *", 0), ffi.new("uint32_t *", table)
        self._failed = -lib.bpf_map_update_elem(self._slot, key, value, 0)

    def full(self, wait: bool = False) -> int | None:
        """Return which table is that of the window that ends, once no program can be using it; None until then.

        Raises :class:`KernelError`.
        """
        if self._thread is None or (not wait and self._thread.is_alive()):
            return None
        self._thread.join()
        self._thread = None
        if self._failed:
            raise KernelError(f"map {self._name}: {error(-self._failed).strerror}")
        full, self.current = self.current, 1 - self.current
        return full

    def descriptor(self, table: int) -> int:
        """Return the descriptor of one of the two tables."""
        return self._tables[table]

    def go_on(self, other: Windows) -> None:
        """Go on with the same tables where another came to; waits until no thread uses its descriptors."""
        if other._thread is not None:
            other._thread.join()
        self.current, self._failed = other.current, other._failed
        self._thread, other._thread = other._thread, None


class CoalescedReader(RingReader):
    """A ring whose equal events are counted in the kernel.

    ``rows`` were made of counts, and stand for ``events``; ``behind`` are events that were counted, and whose record
    was lost.
    """

    def __init__(self, spec: StreamSpec, fd: int, size: int, windows: Windows) -> None:
        """Read the ring ``fd`` of a stream that has coalescing."""
        assert spec.coalescing is not None
        super().__init__(spec._replace(schema=spec.coalescing.schema), fd, size)
        self.rows = self.events = self.behind = 0
        self.is_last = False  # whether programs were taken off their hooks
        self._id = spec.coalescing.id
        self._windows = windows
        table = spec.coalescing.table
        self._snapshot = Snapshot(table, spec)
        order = "<" if sys.byteorder == "little" else ">"
        self._entry = struct.Struct(f"{order}{aligned(table.key_size)}x{_EQUAL}")
        self._kept: list[Batch] = []  # records of the window ...
        self._ending: list[Batch] = []  # ... and of the one before, while it ends
        self._bytes = 0  # of those kept
        self._due = 0  # when the window ends
        self._full: int | None = None  # the table of the window that ends, once it can be read ...
        self._until = 0  # ... and where in the ring the last of its records ends
        self._looked = monotonic_ns()  # when the last drain began
        self._since = 0  # since when there may be events that no row tells of ...
        self._swapped = 0  # ... and since when there may be such in the window that began last

    @property
    def since(self) -> int | None:
        """Since when there may be events that no row tells of (monotonic ns); None where there are none."""
        return self._since or None

    def next_deadline(self) -> int | None:
        """Return when there is something to do although nothing came (monotonic ns), None if never."""
        if self._windows.is_ending:
            return monotonic_ns() + _LOOK
        return self._due if self._kept else None

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return what the ring holds, and at the end of a window the rows of what was counted in it."""
        now = monotonic_ns()
        if self._full is None and (full := self._windows.full()) is not None:
            self._full, self._until = full, lib.eu_ring_produced(self.ring)
        batches = super().drain(clock, taken)
        for batch in batches:
            self._keep(batch, now)
        self._looked = now
        if self.is_last:
            return batches if self.waiting else batches + self._rest(clock, taken)
        if self._full is not None and lib.eu_ring_consumed(self.ring) >= self._until:
            batches += self._counted([self._full], clock, taken)
            self._full = None
        is_open = bool(self._kept) and not self._windows.is_ending and self._full is None
        if is_open and (now >= self._due or self._bytes > ENOUGH):
            self._end_window(now)
        return batches

    def _keep(self, batch: Batch, now: int) -> None:
        """Keep records that may stand for others; not the batch, which will have what it is joined with."""
        if self._bytes > MOST or not any(self._ids(batch)):
            return
        kept = Batch(batch.schema, batch.data, batch.heap, packed=batch.packed)
        kept.tidy = batch.tidy
        if not self._kept:
            self._due = now + self._windows.length
        self._since = self._since or self._looked
        self._kept.append(kept)
        self._bytes += len(kept.data) + len(kept.heap)

    def _ids(self, batch: Batch) -> list[int]:
        at, stride = self._id.offset // 8, self.schema.size // 8
        return memoryview(batch.data).cast("Q")[at::stride].tolist()

    def _end_window(self, now: int) -> None:
        self._windows.end()
        self._ending, self._kept = self._kept, []
        self._due = now + self._windows.length
        self._swapped = now

    def _rest(self, clock: int, taken: int) -> list[Batch]:
        """Return the rows of all that was counted, when nothing is counted any more."""
        full = self._full if self._full is not None else self._windows.full(wait=True)
        self._full = None
        tables = [table for table in (full, self._windows.current) if table is not None]
        rows = self._counted(tables, clock, taken)
        self._kept, self._bytes, self._since = [], 0, 0
        return rows

    def _counted(self, tables: list[int], clock: int, taken: int) -> list[Batch]:
        """Return the rows of these tables' entries, emptying them, and let go of the records of the window."""
        found: _Found = {}
        for table in tables:
            for count, first, last, id_ in self._entry.iter_unpack(self._read(table)):
                if count and id_ in _UNSENT:
                    self.behind += count
                elif count:
                    found[id_] = (count, first, last)
        batches = [self._rows_of(batch, found, clock, taken) for batch in [*self._ending, *self._kept]] if found else []
        self.behind += sum(count for count, _, _ in found.values())
        self._ending = []
        self._bytes = sum(len(kept.data) + len(kept.heap) for kept in self._kept)
        self._since = self._swapped if self._kept else 0
        return [batch for batch in batches if batch.count]

    def _read(self, table: int) -> bytes:
        return self._snapshot.read(self._windows.descriptor(table), empty=True)

    def _rows_of(self, batch: Batch, found: _Found, clock: int, taken: int) -> Batch:
        """Return rows of those of a batch's records that others were counted behind, and take these from ``found``."""
        ids = self._ids(batch)
        chosen = batch[bytes(id_ in found for id_ in ids)]
        counted = [found.pop(id_) for id_ in ids if id_ in found]
        rows = Batch(
            self.schema, bytearray(chosen.data), chosen.heap, stream=self.spec.name, clock=clock, taken=taken,
            packed=chosen.packed,
        )  # fmt: skip
        rows.heap_at, rows.tidy = chosen.heap_at, chosen.tidy
        if counted:
            counts, firsts, lasts = zip(*counted, strict=True)
            assert self.schema.time is not None
            self._put(rows, self.schema.fields["count"].offset, counts)
            self._put(rows, self.schema.fields["first"].offset, firsts)
            self._put(rows, self.schema.time.offset, lasts)
            self.rows += len(counted)
            self.events += sum(counts)
        return rows

    def _put(self, rows: Batch, offset: int, values: Any) -> None:
        memoryview(rows.data).cast("Q")[offset // 8 :: self.schema.size // 8] = memoryview(array("Q", values))

    def go_on(self, other: Any) -> None:
        """Go on where another reader of the same maps has come to."""
        super().go_on(other)
        if not isinstance(other, CoalescedReader):
            return
        self.rows, self.events, self.behind = other.rows, other.events, other.behind
        self._windows.go_on(other._windows)
        self._kept, self._ending, self._bytes = other._kept, other._ending, other._bytes
        self._due, self._full, self._until = other._due, other._full, other._until
        self._looked, self._since, self._swapped = other._looked, other._since, other._swapped
        other._kept, other._ending, other._bytes, other._full, other._since = [], [], 0, None, 0

    def close(self) -> None:
        """Unmap the ring, when nothing waits for the kernel any more."""
        self._windows.full(wait=True)
        super().close()
