# SPDX-License-Identifier: BSD-2-Clause
"""Finds the field of foreign records with the id of the process that they are about."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from eunomia.batch import Batch
from eunomia.stream_schema import Schema
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.stream_schema import Field

# Their names in foreign objects. The kernel's own `pid` is a thread's, so beside a tgid it is not the process's.
_PROCESS = ("tgid", "process_id")
_EITHER = ("pid", "task_pid", "current_pid", "cur_pid", "process_pid")
_PAIR = ("pid_tgid", "tgid_pid", "pidtgid", "tgidpid")  # as from bpf_get_current_pid_tgid()
_THREAD = ("tid", "thread_id")

# Structs in a record for other processes, and for the process that the record is about.
_OTHERS = frozenset(
    "parent real_parent ppid child prev next target victim peer sender receiver old new waker wakee dead killed "
    "src dst from to other tracer tracee"
    .split()
)  # fmt: skip
_ITS_OWN = frozenset(
    "proc process task hdr header common base meta metadata key current cur self event e info ctx who".split()
)


class ProcessField(NamedTuple):
    """The field with a process's id, and its form.

    ``threads`` says that it may be a thread's id, which is the process's only for the first thread. ``pair`` is a
    value of bpf_get_current_pid_tgid(), with the process's id in its upper half.
    """

    field: str
    threads: bool = False
    pair: bool = False

    def ids(self, batch: Batch) -> Sequence[int]:
        """Return each row's id."""
        raw = batch.raw(self.field)
        return [(value >> 32 & 0xFFFFFFFF) or value for value in raw] if self.pair else raw


def process_field(schema: Schema) -> ProcessField | None:
    """Return the field with the process of a stream's records; None if there is none, or more than one."""
    found = candidates(schema)
    return found[0] if len(found) == 1 else None


def candidates(schema: Schema) -> list[ProcessField]:
    """Return the possible fields with the process: one for each struct with an id; only the likeliest ones."""
    groups: dict[str, dict[str, Field]] = {}
    for field in schema.fields.values():
        prefix, _, name = field.name.rpartition(".")
        if field.bits is None and field.code in {"i", "I", "q", "Q"} and field.meaning in {"", "pid"}:
            groups.setdefault(prefix, {})[name] = field
    found = {prefix: one for prefix, fields in groups.items() if (one := _best(fields)) is not None}
    if "" in found:
        return [found[""]]
    mine = {p: w for p, w in found.items() if not _words(p) & _OTHERS}
    own = [w for p, w in mine.items() if _words(p) & _ITS_OWN]
    if len(own) == 1 or not own:
        return own or list(mine.values()) or _key(schema)
    return own


def _key(schema: Schema) -> list[ProcessField]:
    """Return a map's key, if its type is the kernel's pid_t."""
    field = schema.fields.get("key")
    is_pid = field is not None and field.meaning == "pid" and field.code in {"i", "I"}
    return [ProcessField("key", True)] if is_pid else []


def _best(fields: dict[str, Field]) -> ProcessField | None:
    for names, threads in ((_PROCESS, False), (_EITHER, True), (_PAIR, False), (_THREAD, True)):
        for name in names:
            field = fields.get(name)
            if field is None or (names is _PAIR and field.size != 8):
                continue
            beside = any(tid in fields for tid in _THREAD)  # beside a tid, a pid is the process's
            return ProcessField(field.name, threads and not (names is _EITHER and beside), field.size == 8)
    return None


def _words(prefix: str) -> set[str]:
    lower = prefix.lower()
    return {lower, *"".join([c if "a" <= c <= "z" else " " for c in lower]).split()}


def of_process(wanted: frozenset[int], threads: bool) -> Callable[[int], bool]:
    """Return a test whether an id is one of these processes', or, with ``threads``, one of their threads'."""

    def of(number: int) -> bool:
        if number in wanted:
            return True
        # stat(2) opens nothing, so tracers of opens do not see it
        return threads and number > 0 and any(_there(f"/proc/{process}/task/{number}") for process in wanted)

    return of


def _there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def of_us(host_pid: int, threads: bool) -> Callable[[int], bool]:
    """Return a test whether an id on the host is this process's or one of its threads'."""
    if host_pid != os.getpid():  # in a PID namespace /proc has other numbers
        return host_pid.__eq__
    return of_process(frozenset({host_pid}), threads)
