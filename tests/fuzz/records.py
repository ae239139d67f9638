# SPDX-License-Identifier: BSD-2-Clause
"""Records as programs in the kernel wrote them: of rings, perf buffers, iterators and each CPU."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from eunomia.batch import Batch
from eunomia.kernel.errors import BadObject, KernelError
from eunomia.stream_schema import Schema
from tests.fuzz.target import Target
from tests.kernel import compiled

PACKAGE = Path(__file__).parents[2] / "src/eunomia"
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct big { __u64 ts; __u32 kind; __u32 pid; char comm[16]; __u8 raw[5]; double d; float f; __u64 slots[8];
             unsigned few : 3; int rest : 29; _Bool on; union { __u32 v4; __u8 v6[16]; } addr; __u16 argc; char args[64];
             unsigned __int128 wide; struct { __u32 n; char name[4]; } pairs[3]; __u64 grid[2][2]; enum { A, B = 7 } e;
             __u32 size; char tail[]; };
struct each { __u64 hits; __s16 deep; double d; float f; unsigned few : 3; int rest : 29; __u32 grid[2][2]; __u64 last_seen;
              char comm[8]; unsigned __int128 w; struct { __u64 n; __u8 m; } pairs[2]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct big); } rb SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, struct each); }
cpus SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
SEC("raw_tp/sys_enter") int go(void *ctx) { struct big *b = bpf_ringbuf_reserve(&rb, sizeof(*b), 0);
    if (!b) return 0; b->pid = 1; bpf_ringbuf_submit(b, 0); return bpf_map_lookup_elem(&cpus, &(__u32){0}) != 0; }
"""


@cache
def _spec() -> Any:
    from eunomia.kernel.spec import Spec

    return Spec(compiled.bpf(SOURCE), "records")


@cache
def _schemas() -> list[Schema]:
    """Return the schemas of our own streams and of one that has every kind of member."""
    from eunomia.kernel.spec import Spec

    specs = [_spec(), *(Spec.open(path) for path in sorted(PACKAGE.rglob("*.bpf.o")))]
    return [stream.schema for spec in specs for stream in (*spec.streams.values(), *spec.raw.values())]


def _seeds() -> list[bytes]:
    random = Random(1)
    places = b"".join(struct.pack("<II", i * 3, 3) for i in range(64))
    return [bytes(512), random.randbytes(1500), b"/a/./b//c\0" * 90, places, b"\xff" * 700, b"\x07\0\0\0" * 300]


def _shown(batch: Batch) -> None:
    """Read each column as the sinks do."""
    from eunomia.meaning import valid
    from eunomia.sinks.cells import cells

    for name in batch.schema.fields:
        values = list(batch.values(name))
        assert len(values) == batch.count
        coded = list(batch.coded(name).expanded(batch.count))
        # a heap that is said to be packed and is not has no one right answer; NaN is not NaN
        assert batch.packed or coded == values or repr(coded) == repr(values)
        shown = cells(batch.schema.column(name), batch)
        assert all(not isinstance(text, str) or text.isprintable() for text in shown)
        msgspec.json.encode(valid(values))
    list(batch.rows())


def _batches(data: bytes) -> None:
    half = len(data) // 2
    for schema in _schemas():
        count = min(half // schema.size, 40)
        if not count:
            continue
        fixed, heap = data[: count * schema.size], data[half:]
        whole = Batch(schema, fixed, heap, stream="x", packed=bool(schema.packs) and len(data) % 2 == 0)
        whole.tidy = len(data) % 3 == 0
        parts = [whole.part(0, count // 2), whole.part(count // 2, count)]
        for batch in [whole, *parts, Batch.concatenate(parts)]:
            _shown(batch)


def _of(schema: Schema, **rest: Any) -> Any:
    return _spec().streams["rb"]._replace(schema=schema, **rest)


def _pieces(data: bytes) -> list[bytes]:
    """Cut an input into records, whose lengths it says itself."""
    found, at = [], 0
    while at < len(data) and len(found) < 500:
        size = data[at] * (8 if data[at] % 3 else 1)
        found.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return found


def _reader(spec: Any, records: Sequence[bytes]) -> Any:
    """Return a reader of what a drain in C would hand over of such records."""
    from eunomia.kernel.libbpf import ffi
    from eunomia.kernel.ring import Reader

    class Fed(Reader):
        _cut = True

        def _drain(self, data: Any, heap: Any) -> int:
            at = 0
            for i, record in enumerate(records):
                ffi.buffer(data, (i + 1) * 12)[i * 12 :] = struct.pack("=III", len(record), at, len(record))
                ffi.buffer(heap, at + len(record))[at:] = record
                at += len(record)
            self._ret.records, self._ret.heap, self._ret.waiting = len(records), at, 0
            return 0

    return Fed(spec)


def _records(data: bytes) -> None:
    from eunomia.kernel.schema import unknown_schema
    from eunomia.kernel.spec import Tag

    records = _pieces(data)
    big, small, unknown = _spec().streams["rb"].schema, _schemas()[1], unknown_schema("x")
    shapes = {big.fixed: big, small.fixed: small, len(data) % 300: small}
    tags = {size: Tag("kind", data[-1] % 24 if data else 8, 4, {0: small, 7: big}) for size in (0, big.fixed)}
    for spec in (
        _of(big, by_size=None, tags=None), _of(unknown, by_size=None, tags=None), _of(unknown, by_size=shapes, tags=None),
        _of(big, by_size=shapes, tags=tags), _of(unknown, by_size={}, tags={0: tags[0]}),
    ):  # fmt: skip
        batches = _reader(spec, records).drain()
        assert sum(batch.count for batch in batches) == len(records)
        for batch in batches:
            _shown(batch)


def _iterators(data: bytes) -> None:
    from eunomia.kernel.iterator import IteratorReader
    from eunomia.kernel.schema import unknown_schema
    from eunomia.kernel.spec import lines_schema

    lines, printed = lines_schema("x"), unknown_schema("x")
    for spec in (_of(lines, kind="lines"), _of(_spec().streams["rb"].schema, kind="records"), _of(printed, kind="records")):
        for ended in (False, True):
            reader = IteratorReader(spec, lambda: None)
            try:
                rows, fixed, heap = reader._rows(data, ended)
            except KernelError:
                continue
            if rows:
                batch = Batch(spec.schema, fixed, heap, stream="x")
                assert batch.count == rows
                _shown(batch)


def _found(data: bytes) -> None:
    from eunomia.kernel.spec import Spec
    from eunomia.processes.running_processes import batch_of

    schema = Spec.open(PACKAGE / "processes/processes.bpf.o").streams["life"].schema
    _shown(batch_of(schema, data))


def _merged(plan: Any, each: Sequence[bytes]) -> Batch:
    """Return the row that C makes of what each CPU holds."""
    from eunomia.kernel.map_snapshot import Snapshot

    map_ = _spec().maps["cpus"]._replace(value_size=len(each[0]))
    spec = _spec().streams["cpus"]._replace(schema=plan.schema, cpus=plan, map=map_)
    return Batch(plan.schema, Snapshot(map_, spec, len(each)).rows(bytes(4), b"".join(each), 1))


def _per_cpu(data: bytes) -> None:
    from eunomia.kernel import percpu

    schema = _spec()._entries("cpus", _spec().maps["cpus"])
    columns = [f.name for f in schema.fields.values() if f.offset >= 8]
    size = (_spec().maps["cpus"].value_size + 7) // 8 * 8
    each = [data[i : i + size].ljust(size, b"\0") for i in range(0, min(len(data), 8 * size) or 1, size)]
    for rule in ("", *percpu.RULES):
        chosen = {}
        for name in columns if rule else ():
            try:
                percpu.check(schema, 8, {name: rule})
            except percpu.BadSetting:
                continue
            chosen[name] = rule
        _shown(_merged(percpu.plan(schema, 8, "cpus", chosen), each))
    rows = percpu.rows_schema(schema, 8)
    _shown(Batch(rows, b"".join(bytes(8) + v + bytes(8) for v in each)))


def _types(raw: bytes) -> None:
    """Records and per-CPU values of whatever types a broken object has."""
    from eunomia.kernel import percpu
    from eunomia.kernel.btf import Btf
    from eunomia.kernel.schema import schema, table_schema
    from eunomia.kernel.types import sizeof

    pattern = (raw * (1 + 16384 // max(1, len(raw))))[:16384] if raw else bytes(16384)
    for type_ in Btf(raw).structs():
        size = sizeof(type_)
        if not 0 < size <= 4096:
            continue
        try:
            shapes = [schema(type_), schema(type_, longer=True)]
            entries = table_schema("x", None, type_, 4, size)
        except BadObject:
            continue
        for shape in shapes:
            _shown(Batch(shape, pattern[: shape.size * 2], pattern))
        plan = percpu.plan(entries, 8, "x", {})
        wide = (size + 7) // 8 * 8
        _shown(_merged(plan, [pattern[:wide], pattern[wide : 2 * wide]]))


def _type_seeds() -> list[bytes]:
    from eunomia.kernel.elf import section

    return [section(compiled.bpf(SOURCE), ".BTF")]


TARGETS = {
    "batches": Target(_seeds, _batches, (), 8),
    "records": Target(_seeds, _records, (), 2),
    "iterators": Target(_seeds, _iterators, (), 2),
    "found": Target(_seeds, _found, (ValueError,), 4),
    "per_cpu": Target(_seeds, _per_cpu, (), 4),
    "types": Target(_type_seeds, _types, (BadObject,), 4),
}
