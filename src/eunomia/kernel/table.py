# SPDX-License-Identifier: BSD-2-Clause
"""Streams read from maps: a snapshot at each interval, as rows of key and value."""

from __future__ import annotations

import sys

from eunomia.batch import Batch
from eunomia.kernel.errors import KernelError
from eunomia.kernel.libbpf import buffer_of, error, ffi, lib
from eunomia.kernel.spec import ARRAY, PER_CPU, PERCPU_ARRAY, Map, StreamSpec, aligned


def read(fd: int, map_: Map) -> tuple[int, bytes, bytes]:
    """Return how many entries a map has, their keys and their values, one after another.

    Values of per-CPU maps come for every possible CPU, each padded to 8 bytes.
    """
    value_size = map_.value_size
    if map_.type in PER_CPU:
        value_size = aligned(value_size) * lib.libbpf_num_possible_cpus()
    keys = buffer_of("char[]", map_.key_size * map_.max_entries + 8)
    values = buffer_of("char[]", value_size * map_.max_entries)
    count = lib.eu_table_read(fd, map_.key_size, value_size, keys, values, map_.max_entries)
    if count < 0:
        raise KernelError(f"map {map_.name}: {error(count).strerror}")
    return (
        count,
        bytes(ffi.buffer(keys, count * map_.key_size)),
        bytes(ffi.buffer(values, count * value_size)),
    )


class TableReader:
    """A map's entries, all of them each time; entries of arrays that are zero are left out."""

    def __init__(self, spec: StreamSpec, fd: int) -> None:
        self.spec = spec
        self.schema = spec.schema
        self.fd = fd
        self.drained = 0
        self.waiting = 0
        self.odd = 0
        self._map = spec.map

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return the entries as one batch, none where there are none."""
        count, keys, values = read(self.fd, self._map)
        if self._map.type in PER_CPU:
            return self._of_cpus(count, keys, values, clock, taken)
        return self._batch(count, keys, values, clock, taken)

    def _batch(self, count: int, keys: bytes, values: bytes, clock: int, taken: int) -> list[Batch]:
        key, value = self._map.key_size, self._map.value_size
        pad, end = aligned(key) - key, aligned(value) - value
        zero = bytes(value) if self._map.type == ARRAY else None
        rows = []
        for i in range(count):
            content = values[i * value : i * value + value]
            if content != zero:
                rows.append(keys[i * key : i * key + key] + bytes(pad) + content + bytes(end))
        return self._made(rows, clock, taken)

    def _made(self, rows: list[bytes], clock: int, taken: int) -> list[Batch]:
        self.drained += len(rows)
        if not rows:
            return []
        return [Batch(self.schema, b"".join(rows), stream=self.spec.name, clock=clock, taken=taken)]

    def _of_cpus(self, count: int, keys: bytes, values: bytes, clock: int, taken: int) -> list[Batch]:
        """Return a row an entry, or one for each CPU that has something in it."""
        from eunomia.kernel.percpu import merged

        cpus = lib.libbpf_num_possible_cpus()
        key, stride = self._map.key_size, aligned(self._map.value_size)
        is_array = self._map.type == PERCPU_ARRAY
        rows = []
        for i in range(count):
            start = keys[i * key : i * key + key].ljust(aligned(key), b"\0")
            at = i * cpus * stride
            each = [values[at + c * stride : at + (c + 1) * stride] for c in range(cpus)]
            if self.spec.cpus is None:
                rows += [start + v + c.to_bytes(8, sys.byteorder) for c, v in enumerate(each) if any(v)]
            elif any(map(any, each)) or not is_array:
                rows.append(start + merged(self.spec.cpus, each))
        return self._made(rows, clock, taken)

    def close(self) -> None:
        """Nothing is held."""


class SwappedReader(TableReader):
    """A table that programs fill while another is read: each interval's counts, none torn, none twice."""

    def __init__(self, spec: StreamSpec, fd: int, inner: Map, fds: tuple[int, int]) -> None:
        super().__init__(spec, fd)
        self._map = inner
        self._fds = fds
        self._current = 0

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Put the other map in its place, and return what the full one holds; then empty it.

        The kernel waits, in the update of a map of maps, until no program can hold the old one any more
        (``maybe_wait_bpf_programs``, kernel/bpf/syscall.c).
        """
        old, self._current = self._fds[self._current], 1 - self._current
        slot, inner = ffi.new("uint32_t *", 0), ffi.new("uint32_t *", self._fds[self._current])
        if lib.bpf_map_update_elem(self.fd, slot, inner, 0):
            raise KernelError(f"map {self.spec.name}: {error().strerror}")
        count, keys, values = read(old, self._map)
        self._empty(old, keys)
        return self._batch(count, keys, values, clock, taken)

    def _empty(self, fd: int, keys: bytes) -> None:
        count = ffi.new("uint32_t *", len(keys) // self._map.key_size)
        if count[0] and lib.bpf_map_delete_batch(fd, ffi.from_buffer(keys), count, ffi.NULL):
            raise KernelError(f"map {self.spec.name}: {error().strerror}")


class GlobalsReader(TableReader):
    """An object's global variables: one row."""

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return what the variables hold now."""
        _, _, values = read(self.fd, self._map)
        self.drained += 1
        data = values[: self.schema.size].ljust(self.schema.size, b"\0")
        return [Batch(self.schema, data, stream=self.spec.name, clock=clock, taken=taken)]
