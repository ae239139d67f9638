# SPDX-License-Identifier: BSD-2-Clause
"""Readers of processes that run already: the BPF iterator's records, and ``/proc`` for the rest."""

from __future__ import annotations

import os
import struct
import sys
from contextlib import suppress

from eunomia.batch import Batch
from eunomia.process_identity import Process
from eunomia.stream_schema import Schema

ARGV_MAX = 1024  # as in processes.bpf.c
_THREADS = 64  # of a process that are checked
_PLACE = struct.Struct("<II" if sys.byteorder == "little" else ">II")


def batch_of(schema: Schema, written: bytes) -> Batch:
    """Return a batch of the iterator's output: records, each followed by its program's path.

    Raises :class:`ValueError` if the output is incomplete.
    """
    exe, size = schema.fields["exe"].offset, schema.size
    data, heap, at, end = bytearray(), bytearray(), 0, len(written)
    while at < end:
        fixed = bytearray(written[at : at + size])
        at += size
        if len(fixed) < size:
            raise ValueError("the iterator's last record is incomplete")
        _, length = _PLACE.unpack_from(fixed, exe)
        _PLACE.pack_into(fixed, exe, len(heap), length)
        heap += written[at : at + length]
        at += length
        data += fixed
    return Batch(schema, bytes(data), bytes(heap))


def argv_of(pid: int) -> bytes:
    """Return a process's arguments, each with a NUL, at most :data:`ARGV_MAX` bytes; empty if it has ended."""
    return _read(f"/proc/{pid}/cmdline", ARGV_MAX) or _read(f"/proc/{_living_thread(pid)}/cmdline", ARGV_MAX)


def _living_thread(pid: int) -> str:
    """Return ``PID/task/TID`` of a thread that still runs, for a process whose main thread has ended."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return str(pid)
    tasks = (f"{pid}/task/{thread}" for thread in threads[:_THREADS])
    return next((task for task in tasks if os.path.exists(f"/proc/{task}/exe")), str(pid))


def look_up(pid: int, start: int) -> Process | None:
    """Return a process from ``/proc``, for one that the iterator has not shown; None if it is not there."""
    comm = _read(f"/proc/{pid}/comm", 64)
    if not comm:
        return None
    process = Process(pid, start, start)
    process.comm_bytes = comm.removesuffix(b"\n")
    process.argv_bytes = argv_of(pid)
    with suppress(OSError):
        process.exe_bytes = os.readlink(f"/proc/{_living_thread(pid)}/exe".encode())
    return process


def _read(path: str, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, limit)
    except OSError:  # it has ended meanwhile
        return b""
    finally:
        os.close(descriptor)


def process_of(thread: int) -> int:
    """Return the process of a thread; the number itself if there is no such thread (any more)."""
    try:
        with open(f"/proc/{thread}/status", "rb") as lines:
            for line in lines:
                if line.startswith(b"Tgid:"):
                    return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return thread
