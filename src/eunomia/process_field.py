# SPDX-License-Identifier: BSD-2-Clause
"""Which field of a stranger's records says whose they are: the process that they are about."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from eunomia.batch import Batch, Schema
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.batch import Field

# What strangers call them. The kernel's own `pid` is a thread's, so beside a tgid it says nothing of the process.
_PROCESS = ("tgid", "process_id")
_EITHER = ("pid", "task_pid", "current_pid", "cur_pid", "process_pid")
_PAIR = ("pid_tgid", "tgid_pid", "pidtgid", "tgidpid")  # as bpf_get_current_pid_tgid() gives them
_THREAD = ("tid", "thread_id")

# Structs in a record that are of another process than the one that it is about, and those that are of that one.
_OTHERS = frozenset(
    "parent real_parent ppid child prev next target victim peer sender receiver old new waker wakee dead killed "
    "src dst from to other tracer tracee"
    .split()
)  # fmt: skip
_ITS_OWN = frozenset(
    "proc process task hdr header common base meta metadata key current cur self event e info ctx who".split()
)


class Who(NamedTuple):
    """The field that holds a process's id, and how.

    ``threads`` says that it may be a thread's, of which only the first has the process's own. ``pair`` is the
    value of bpf_get_current_pid_tgid(), the process's id in its upper half.
    """

    field: str
    threads: bool = False
    pair: bool = False

    def ids(self, batch: Batch) -> Sequence[int]:
        """Return each row's id."""
        raw = batch.raw(self.field)
        return [(value >> 32 & 0xFFFFFFFF) or value for value in raw] if self.pair else raw


def who(schema: Schema) -> Who | None:
    """Return what tells the process of a stream's records; None where nothing does, or more than one thing."""
    found = candidates(schema)
    return found[0] if len(found) == 1 else None


def candidates(schema: Schema) -> list[Who]:
    """Return what may tell the process: one for each struct in the record that has an id, the likeliest alone."""
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


def _key(schema: Schema) -> list[Who]:
    """Return a map's key, where its type is the kernel's pid_t."""
    field = schema.fields.get("key")
    return [Who("key", True)] if field is not None and field.meaning == "pid" and field.code in {"i", "I"} else []


def _best(fields: dict[str, Field]) -> Who | None:
    for names, threads in ((_PROCESS, False), (_EITHER, True), (_PAIR, False), (_THREAD, True)):
        for name in names:
            field = fields.get(name)
            if field is None or (names is _PAIR and field.size != 8):
                continue
            beside = any(tid in fields for tid in _THREAD)  # beside a tid, a pid is the process's
            return Who(field.name, threads and not (names is _EITHER and beside), field.size == 8)
    return None


def _words(prefix: str) -> set[str]:
    lower = prefix.lower()
    return {lower, *"".join([c if "a" <= c <= "z" else " " for c in lower]).split()}


def of_process(wanted: frozenset[int], threads: bool) -> Callable[[int], bool]:
    """Return what tells whether an id is one of these processes', or, with ``threads``, one of their threads'."""

    def of(number: int) -> bool:
        if number in wanted:
            return True
        # stat(2) opens nothing, so no tracer of opens sees us look
        return threads and number > 0 and any(_there(f"/proc/{process}/task/{number}") for process in wanted)

    return of


def _there(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def of_us(host_pid: int, threads: bool) -> Callable[[int], bool]:
    """Return what tells whether an id, as the host counts, is this process's or one of its threads'."""
    if host_pid != os.getpid():  # in a PID namespace /proc has other numbers
        return host_pid.__eq__
    return of_process(frozenset({host_pid}), threads)
