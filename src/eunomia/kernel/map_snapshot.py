# SPDX-License-Identifier: BSD-2-Clause
"""Streams of maps: a snapshot at each interval, as rows of key and value (``native/tables.c``)."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from eunomia.batch import Batch
from eunomia.kernel.errors import BadObject, KernelError
from eunomia.kernel.libbpf import error, ffi, lib
from eunomia.kernel.spec import ARRAY, PER_CPU, PERCPU_ARRAY, Map, StreamSpec, aligned
from eunomia.typing import Any


class Snapshot:
    """Makes rows of a map's entries: the key, and from the next multiple of 8 the value.

    An array has all its entries from the beginning: those that are zero on every CPU are left out.
    Entries of other maps were created by a program: each is a row, whatever its value.
    If each CPU has its own row, CPUs with only zeros have none.
    """

    def __init__(self, map_: Map, spec: StreamSpec, cpus: int | None = None) -> None:
        """Prepare to read ``map_`` as the stream shows it, on a machine with so many possible CPUs.

        Raises :class:`BadObject` if its types do not fit.
        """
        self.name = map_.name
        self._ret = ffi.new("const char **")
        per_cpu = map_.type in PER_CPU
        stride = aligned(map_.value_size) if per_cpu else map_.value_size
        whole = (lib.EU_ONE, 0, 0, stride, stride, 1, 0, 0, 0, 0)
        parts: Sequence[tuple[int, ...]] = [whole]
        size, clock = stride, -1
        if spec.cpus is not None:
            parts = [_part(part) for part in spec.cpus.parts]
            size, clock = spec.cpus.size, spec.cpus.clock.at if spec.cpus.clock else -1
        elif spec.cpu_rows:
            parts, size = (), stride + 8
        plan = ffi.new("struct eu_table_plan *")
        plan.key_size, plan.value_size, plan.max_entries = map_.key_size, stride, map_.max_entries
        plan.cpus = (cpus or lib.libbpf_num_possible_cpus()) if per_cpu else 1
        plan.row_value_size, plan.clock_at = size, clock
        plan.keep_zeros, plan.row_per_cpu = map_.type not in {ARRAY, PERCPU_ARRAY}, spec.cpu_rows
        self.row_size = aligned(map_.key_size) + aligned(size)
        table = lib.eu_table_open(plan, ffi.new("struct eu_part[]", parts), len(parts))
        if table == ffi.NULL:
            reason = error()
            if reason.errno != errno.EINVAL:
                raise reason
            raise BadObject(f"map {map_.name}: its values are not of the size of their type")
        self._table: Any = ffi.gc(table, lib.eu_table_close)

    def read(self, fd: int, empty: bool = False) -> bytes:
        """Return the rows of a live map's entries; with ``empty``, delete those that were read, and no others.

        Raises :class:`KernelError`.
        """
        return self._rows(lib.eu_table_read(self._table, fd, empty, self._ret))

    def rows(self, keys: bytes, values: bytes, count: int) -> bytes:
        """Return the rows of entries in the kernel's format."""
        return self._rows(
            lib.eu_table_rows(self._table, ffi.from_buffer(keys), ffi.from_buffer(values), count, self._ret)
        )

    def _rows(self, count: int) -> bytes:
        if count < 0:
            raise KernelError(f"map {self.name}: {error(count).strerror}")
        return bytes(ffi.buffer(self._ret[0], count * self.row_size)) if count else b""


def _part(part: Any) -> tuple[int, ...]:
    rule = {"sum": lib.EU_SUM, "max": lib.EU_GREATEST, "min": lib.EU_LEAST, "one": lib.EU_ONE}[part.rule]
    shift, bits = part.bits or (0, 0)
    return rule, part.at, part.to, part.size, part.wide, part.many, part.signed, part.real, shift, bits


class TableReader:
    """A map's entries, all of them each time."""

    def __init__(self, spec: StreamSpec, fd: int) -> None:
        self.spec = spec
        self.schema = spec.schema
        self.fd = fd
        self.drained = 0
        self.waiting = 0
        self.odd = 0
        self._snapshot: Snapshot | None = None

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return the entries as one batch, or nothing if there are none."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self.spec.map, self.spec)
        return self._made(self._snapshot.read(self.fd), clock, taken)

    def _made(self, rows: bytes, clock: int, taken: int) -> list[Batch]:
        if not rows:
            return []
        batch = Batch(self.schema, rows, stream=self.spec.name, clock=clock, taken=taken)
        self.drained += batch.count
        return [batch]

    def go_on(self, other: Any) -> None:
        """Go on where another reader of the same map has come to."""
        self.drained = other.drained

    def close(self) -> None:
        """Free the memory that reading needs."""
        self._snapshot = None


class SwappedReader(TableReader):
    """A table in two maps, one written by programs while the other is read: no count is torn or read twice."""

    def __init__(self, spec: StreamSpec, fd: int, inner: Map, fds: tuple[int, int]) -> None:
        super().__init__(spec, fd)
        self._inner = inner
        self._fds = fds
        self._current = 0

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Replace the map by the empty one, and return the entries of the full one, which is emptied.

        In the update of a map of maps the kernel waits until no program uses the old one
        (``maybe_wait_bpf_programs``, kernel/bpf/syscall.c).
        """
        old, self._current = self._fds[self._current], 1 - self._current
        slot, inner = ffi.new("uint32_t *", 0), ffi.new("uint32_t *", self._fds[self._current])
        if lib.bpf_map_update_elem(self.fd, slot, inner, 0):
            raise KernelError(f"map {self.spec.name}: {error().strerror}")
        if self._snapshot is None:
            self._snapshot = Snapshot(self._inner, self.spec)
        return self._made(self._snapshot.read(old, empty=True), clock, taken)

    def go_on(self, other: Any) -> None:
        """Go on where another reader of the same map has come to."""
        super().go_on(other)
        self._current = other._current


class GlobalsReader(TableReader):
    """An object's global variables: one row."""

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return the variables' present values."""
        value = ffi.new("char[]", max(self.spec.map.value_size, self.schema.size))
        if lib.bpf_map_lookup_elem(self.fd, ffi.new("uint32_t *", 0), value):
            raise KernelError(f"map {self.spec.name}: {error().strerror}")
        return self._made(bytes(ffi.buffer(value, self.schema.size)), clock, taken)
