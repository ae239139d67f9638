# SPDX-License-Identifier: BSD-2-Clause
"""Readers of BPF ring buffers and perf buffers, which they drain in batches, without the GIL."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable

from eunomia.batch import Batch
from eunomia.kernel.libbpf import buffer_of, error, ffi, lib
from eunomia.stream_schema import Schema
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.spec import StreamSpec

# The most that one drain takes: enough that its fixed cost in Python is small.
ROWS = 8192
_DATA, _HEAP = 512 << 10, 1 << 20  # bytes
_MEANWHILE = 64  # rows that may arrive between reading a ring's fill level and draining it
_HEADER = 8  # bytes before each record in a ring, BPF_RINGBUF_HDR_SZ
_ORDER = "<" if sys.byteorder == "little" else ">"
_PLACE = struct.Struct(_ORDER + "II")
_UNKNOWN = struct.Struct(_ORDER + "III")

_buffers: list[Any] = []
_fresh = ffi.new_allocator(should_clear_after_alloc=False)  # zeros would cost as much as what is written over them


def _shared_buffers(record: int) -> tuple[Any, Any]:
    """Return the two buffers that all drains share; each drain copies its bytes out of them immediately.

    The first has room for at least one record of ``record`` bytes.
    """
    if not _buffers or len(_buffers[0]) < record:
        lib.eu_keep_memory()
        _buffers[:] = buffer_of("char[]", max(_DATA, record)), buffer_of("char[]", _HEAP)
    return _buffers[0], _buffers[1]


class Reader:
    """Base of readers of rings and perf buffers: :meth:`drain`, ``emitted``, ``lost``."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.schema = spec.schema
        self.drained = 0  # records
        self.odd = 0  # of them, shorter than the struct
        self.most = ROWS  # that one drain takes
        self.waiting = 0  # bytes that the last drain left in the buffer
        self.fill = 0.0  # share of the buffer that was full when it was last drained, 0 to 1
        self._shapes = dict(spec.by_size or {})
        self._tags = dict(spec.tags or {})
        self._sorts = bool(self._shapes or self._tags)
        self._raw = self.schema.fields.get("data")
        self._ret = ffi.new("struct eu_drained *")

    def _drain(self, data: Any, heap: Any) -> int:
        raise NotImplementedError

    def _is_empty(self) -> bool:
        return False

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return the records in the buffer, as many as one drain takes; call again while ``waiting``."""
        if self._is_empty():
            self.waiting = 0
            return []
        data, heap = _shared_buffers(self._stride)
        self._drain(data, heap)
        ret = self._ret
        self.waiting = ret.waiting
        if not ret.records:
            return []
        self.drained += ret.records
        self.odd += ret.odd
        fixed = bytes(ffi.buffer(data, ret.records * self._stride))
        tails = bytes(ffi.buffer(heap, ret.heap))
        make = self._maker(clock, taken)
        if self._sorts or self._cut:
            return self._sort_out(fixed, tails, make)
        return [make(self.schema, fixed, tails)]

    _stride = _UNKNOWN.size
    _cut = False  # whether records come with their size and are cut to the struct here

    def _maker(self, clock: int, taken: int) -> Callable[[Schema, bytes, bytes], Batch]:
        def make(schema: Schema, data: bytes, heap: bytes) -> Batch:
            return Batch(schema, data, heap, stream=self.spec.name, clock=clock, taken=taken)

        return make

    def _sort_out(self, fixed: bytes, tails: bytes, make: Callable[[Schema, bytes, bytes], Batch]) -> list[Batch]:
        """Give each record the schema for its size, in runs, so that their order stays."""
        batches: list[Batch] = []
        run: list[bytes] = []
        of: Schema | None = None
        for size, at, length in _UNKNOWN.iter_unpack(fixed):
            record = tails[at : at + length]
            shape = self._shape(size, record)
            if shape is not of and run and of is not None:
                batches.append(self._made(of, run, make))
                run = []
            of = shape
            run.append(record)
            if shape is not self.spec.schema and size < shape.fixed:
                self.odd += 1
        if of is not None:
            batches.append(self._made(of, run, make))
        return batches

    def _shape(self, size: int, record: bytes) -> Schema:
        if self._tags:
            tag = self._tags.get(size) or self._tags.get(0)
            if tag is not None and len(record) >= tag.offset + tag.size:
                number = int.from_bytes(record[tag.offset : tag.offset + tag.size], sys.byteorder)
                return tag.schemas.get(number, self.spec.schema)
        return self._shapes.get(size, self.spec.schema)

    def _made(self, shape: Schema, run: list[bytes], make: Callable[[Schema, bytes, bytes], Batch]) -> Batch:
        if shape is self.spec.schema and self._raw and self._raw.meaning == "blob":
            at, places = 0, []
            for record in run:
                places.append(_UNKNOWN.pack(len(record), at, len(record)))
                at += len(record)
            return make(shape, b"".join(places), b"".join(run))
        size = shape.fixed
        if size == shape.size:
            return make(shape, b"".join([r[:size].ljust(size, b"\0") for r in run]), b"")
        at = 0
        fixed: list[bytes] = []
        for record in run:
            rest = max(0, len(record) - size)
            fixed += (record[:size].ljust(size, b"\0"), _PLACE.pack(at, rest))
            at += rest
        return make(shape, b"".join(fixed), b"".join([record[size:] for record in run]))

    def go_on(self, other: Any) -> None:
        """Go on where another reader of the same map has come to."""
        self.drained, self.odd = other.drained, other.odd

    def close(self) -> None:
        """Unmap the buffer."""


class RingReader(Reader):
    """A BPF ring buffer."""

    def __init__(self, spec: StreamSpec, fd: int, size: int) -> None:
        super().__init__(spec)
        self.fd = fd
        self._size = size
        self.ring = lib.eu_ring_open(fd, size)
        if self.ring == ffi.NULL:
            raise error()
        self._cut = self.schema.fixed < self.schema.size
        if not self._sorts and not self._cut and not (self._raw and self._raw.meaning == "blob"):
            self._stride = self.schema.size
            strings = list(self.schema.strings)
            texts = [self.schema.fields[name].meaning for name in self.schema.texts]
            paths = sum(1 << i for i, meaning in enumerate(texts) if meaning == "path")
            lib.eu_ring_layout(self.ring, self._stride, ffi.new("uint32_t[]", strings or [0]), len(strings), paths)

    def code(self, name: str) -> None:
        """Have drains find the distinct values of a 64-bit field, for :meth:`Batch.group`."""
        if self._stride == self.schema.size and not self._sorts:
            if lib.eu_ring_code(self.ring, self.schema.fields[name].offset) < 0:
                raise MemoryError
            self._coded = name

    _coded = ""

    def held(self) -> int:
        """Return how many bytes can be drained now."""
        return int(lib.eu_ring_waiting(self.ring))

    def _is_empty(self) -> bool:
        self.fill = self.held() / self._size
        return not self.fill

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return the records in the ring, as many as one drain takes; call again while ``waiting``."""
        if self._stride != self.schema.size or self._sorts:
            return super().drain(clock, taken)
        if self._is_empty():
            self.waiting = 0
            return []
        # directly into the batch's memory: another copy would cost as much as the first
        least = (self._stride + _HEADER + 7) // 8 * 8  # that a record takes up in the ring
        there = int(self.fill * self._size) // least + _MEANWHILE
        rows = max(1, min(there, self.most, _DATA // self._stride))
        fixed = _fresh("char[]", rows * self._stride)
        index = _fresh("uint32_t[]", rows) if self._coded else ffi.NULL
        heap = _shared_buffers(0)[1]
        ret = self._ret
        full = lib.eu_ring_drain(self.ring, fixed, rows * self._stride, heap, _HEAP, index, ret)
        records = ret.records
        self.waiting = ret.waiting if full else 0
        if not records:
            return []
        self.drained += records
        self.odd += ret.odd
        data = memoryview(ffi.buffer(fixed, records * self._stride))
        tails = bytes(ffi.buffer(heap, ret.heap)) if ret.heap else b""
        batch = Batch(self.schema, data, tails, stream=self.spec.name, clock=clock, taken=taken)
        if ret.codes:
            values = ffi.unpack(lib.eu_ring_codes(self.ring), ret.codes)
            places = memoryview(ffi.buffer(index, 4 * records)).cast("I") if ret.codes > 1 else None
            batch.groups = self._coded, values, places
        batch.packed = bool(self.schema.packs)
        batch.tidy = not ret.untidy
        return [batch]

    def _drain(self, data: Any, heap: Any) -> int:
        room = max(1, min(self.most, _DATA // self._stride)) * self._stride
        return int(lib.eu_ring_drain(self.ring, data, room, heap, _HEAP, ffi.NULL, self._ret))

    def close(self) -> None:
        """Unmap the ring."""
        if self.ring != ffi.NULL:
            lib.eu_ring_close(self.ring)
            self.ring = ffi.NULL


class PerfReader(Reader):
    """A perf buffer, with one ring per CPU."""

    def __init__(self, spec: StreamSpec, fd: int, pages: int = 64) -> None:
        super().__init__(spec)
        self._cut = not (self._raw and self._raw.meaning == "blob")
        self.perf = lib.eu_perf_open(fd, pages)
        if self.perf == ffi.NULL:
            raise error()
        self.fd = lib.eu_perf_fd(self.perf)
        self._lost = ffi.new("uint64_t *")

    @property
    def lost(self) -> int:
        """Records that the kernel has reported as lost so far."""
        return int(self._lost[0])

    def _drain(self, data: Any, heap: Any) -> int:
        return int(lib.eu_perf_drain(self.perf, data, _DATA, heap, _HEAP, self._ret, self._lost))

    def close(self) -> None:
        """Free the buffer."""
        if self.perf != ffi.NULL:
            lib.eu_perf_close(self.perf)
            self.perf = ffi.NULL
