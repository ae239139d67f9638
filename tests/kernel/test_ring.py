# SPDX-License-Identifier: BSD-2-Clause
"""Drains of a ring buffer that is laid out as the kernel's, in memory of our own."""

import mmap
import os
import struct
from types import SimpleNamespace

import pytest

from eunomia.batch import Batch
from eunomia.kernel.ring import RingReader
from eunomia.stream_schema import Field, Schema

_SIZE = 1 << 16
SCHEMA = Schema("event", 16, [Field("cgroup", 0, 8, "Q", "cgroup_id"), Field("number", 8, 8, "Q")])


def drained(cgroups, *, code=True):
    """Return the batch that a ring with these records gives."""
    page = mmap.PAGESIZE
    fd = os.memfd_create("ring")
    os.ftruncate(fd, 2 * page + _SIZE)
    with mmap.mmap(fd, 2 * page + _SIZE) as memory:
        records = b"".join(struct.pack("=IIQQ", 16, 0, cgroup, n) for n, cgroup in enumerate(cgroups))
        memory[2 * page : 2 * page + len(records)] = records
        memory[page : page + 8] = struct.pack("=Q", len(records))
        reader = RingReader(SimpleNamespace(schema=SCHEMA, name="events", by_size=None, tags=None), fd, _SIZE)
        if code:
            reader.code("cgroup")
        (batch,) = reader.drain()
        reader.close()
    os.close(fd)
    return batch


def rows(group):
    values, index = group
    return values * 1000 if index is None else [values[i] for i in index]


@pytest.mark.parametrize(
    ("cgroups", "distinct"),
    [
        ([7] * 1000, 1),
        ([7] * 500 + [2**63 + 1] * 500, 2),
        ([n % 3 for n in range(1000)], 3),
        ([n % 256 for n in range(1000)], 256),
        ([n % 257 for n in range(1000)], 257),  # more than a drain tells apart: found when asked for
        ([n * 1024 for n in range(1000)], 1000),
    ],
)
def test_the_drain_groups_rows_as_a_look_at_the_batch_does(cgroups, distinct):
    batch, plain = drained(cgroups), drained(cgroups, code=False)
    assert (batch.groups is not None) == (distinct <= 256)
    assert plain.groups is None
    assert len(batch.group("cgroup")[0]) == distinct
    assert rows(batch.group("cgroup")) == rows(plain.group("cgroup")) == cgroups
    assert list(batch.raw("number")) == list(range(1000))


def test_some_of_the_rows_are_grouped_for_themselves():
    batch = drained([1] * 500 + [2] * 500)
    assert batch[500:].group("cgroup") == ([2], None)
    assert rows(batch[bytes([1, 0] * 500)].group("cgroup")) == [1] * 250 + [2] * 250


def test_a_batch_keeps_its_rows_when_the_ring_is_gone():
    batch = drained([5] * 10)
    assert Batch.concatenate([batch[:4], batch[4:]]).raw("number") == list(range(10))
