# SPDX-License-Identifier: BSD-2-Clause
"""The filters that all trackers share: in the kernel if the probe has them, else on batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from eunomia.batch import Batch
from eunomia.containers.selection import CHOSEN, CONTAINERS, HOST, Selection
from eunomia.containers.selectors import Selectors
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.own_pid import host_pid
from eunomia.meaning import decode
from eunomia.process_field import ProcessField, of_process, of_us, process_field
from eunomia.stream_schema import Schema
from eunomia.typing import Any, NamedTuple

_COMM = 16  # TASK_COMM_LEN

# Names of these fields in foreign objects, the most specific first.
_COMM_NAMES = ("comm", "task", "command")
_CGROUP = ("cgroup_id", "cgroup", "cgid", "cgrp_id", "cgrp")


class Filters(NamedTuple):
    """What is wanted; empty means all. ``traces_itself`` lets Eunomia's own events through."""

    pids: tuple[int, ...] = ()
    comms: tuple[str, ...] = ()
    uids: tuple[int, ...] = ()
    selectors: Selectors = Selectors()
    host_only: bool = False
    containers_only: bool = False
    traces_itself: bool = False

    def selection(self) -> Selection | None:
        """Return the wanted containers, as a set that is kept up to date; None if all are wanted.

        Raises :class:`ValueError` if the filters exclude each other or a name is empty.
        """
        chosen = any(self.selectors)
        if self.host_only and (chosen or self.containers_only):
            raise ValueError("--host-only excludes --containers-only and all options that select containers")
        if chosen:
            return Selection(self.selectors, CHOSEN)
        if self.host_only or self.containers_only:
            return Selection((), HOST if self.host_only else CONTAINERS)
        return None

    @property
    def by_process(self) -> Filters:
        """The filters on processes, without those on containers."""
        return Filters(self.pids, self.comms, self.uids, traces_itself=self.traces_itself)


def united(several: Sequence[Filters]) -> Filters:
    """Return the narrowest filters on processes that let through what any of these wants.

    A field that not all of them restrict, such as user ids, is not restricted.
    """
    if not several:
        return Filters()
    each = [f.by_process for f in several]
    first = each[0]
    if all(f == first for f in each):
        return first

    def merged(name: str) -> tuple[Any, ...]:
        sets: list[tuple[Any, ...]] = [getattr(f, name) for f in each]
        return tuple(dict.fromkeys(one for chosen in sets for one in chosen)) if all(sets) else ()

    return Filters(merged("pids"), merged("comms"), merged("uids"), traces_itself=any(f.traces_itself for f in each))


def has_filters(live_maps: Mapping[str, object]) -> bool:
    """Return whether an object has the kernel's side of the filters."""
    return "eunomia_cgroups" in live_maps


def cgroup_field(schema: Schema) -> str:
    """Return the field with the cgroup's id; empty if there is none."""
    for field in schema.fields.values():
        if field.meaning == "cgroup_id":
            return field.name
    return _first(schema, _CGROUP, 8, "cgroup_id")


def _first(schema: Schema, names: Sequence[str], size: int, meaning: str) -> str:
    """Return the first of these fields that is a whole number of this size without another meaning."""
    for name in names:
        field = schema.fields.get(name)
        if field is None or field.size != size or field.bits is not None or field.meaning not in {"", meaning}:
            continue
        if field.code.lower() in {"i", "q"}:
            return name
    return ""


def comm_bytes(name: str) -> bytes:
    """Return a command's name as the kernel keeps it: bytes, cut to its length."""
    return os.fsencode(name)[: _COMM - 1]


Mask = Callable[[Batch], bytes | None]  # a byte for each row, 1 if it is wanted, else 0; None if all are wanted


def process_mask(filters: Filters, schema: Schema, stream: str) -> Mask | None:
    """Return a mask that filters batches by their records' processes, None if there is nothing to filter.

    Raises :class:`BadSetting` if the stream lacks a field that a filter needs.
    """
    tests: list[Mask] = []
    pid = process_field(schema)
    # fields in the struct of the process's id belong to that process too
    beside = dict.fromkeys(("", pid.field[: pid.field.rfind(".") + 1] if pid else ""))
    uid = next((found for p in beside if (found := _first(schema, (f"{p}uid",), 4, "uid"))), "")
    named = [p + n for p in beside for n in _COMM_NAMES if p + n in schema.fields]
    comm = next((n for n in named if schema.fields[n].meaning == "text"), "")
    needs = ((filters.pids, pid, "pid"), (filters.uids, uid, "uid"), (filters.comms, comm, "comm"))
    for wanted, field, option in needs:
        if wanted and not field:
            raise BadSetting(f"--{option} cannot be applied to {stream}: its records have no field {option!r}")
    if pid and filters.pids:
        tests.append(_by_id(pid, of_process(frozenset(filters.pids), pid.threads), True))
    if filters.uids:
        uids = frozenset(filters.uids)
        tests.append(lambda b: bytes([u in uids for u in b.raw(uid)]))
    if filters.comms:
        comms = frozenset(decode(comm_bytes(c)) for c in filters.comms)
        tests.append(lambda b: bytes([c in comms for c in b.values(comm)]))
    if pid and not filters.traces_itself:
        tests.append(_by_id(pid, of_us(host_pid(), pid.threads), False))
    return all_of(tests)


def all_of(tests: Sequence[Mask]) -> Mask | None:
    """Return a mask for the rows that all of these want; None for no tests."""
    if len(tests) < 2:
        return tests[0] if tests else None

    def together(batch: Batch) -> bytes | None:
        answers = [answer for test in tests if (answer := test(batch)) is not None]
        if len(answers) < 2:
            return answers[0] if answers else None
        size = len(answers[0])
        both = int.from_bytes(answers[0], "little")
        for answer in answers[1:]:
            both &= int.from_bytes(answer, "little")
        return both.to_bytes(size, "little")

    return together


def _by_id(pid: ProcessField, of: Callable[[int], bool], wanted: bool) -> Mask:
    """Return a mask that tests each distinct id of a batch once."""

    def test(batch: Batch) -> bytes:
        ids = pid.ids(batch)
        known = {number: of(number) is wanted for number in set(ids)}
        return bytes(map(known.__getitem__, ids))

    return test


def container_mask(selection: Selection, schema: Schema, stream: str) -> Mask:
    """Return a mask that selects a stream's rows by container: it tests each container of a batch once.

    Raises :class:`BadSetting` if the records do not identify their containers.
    """
    if not cgroup_field(schema) and not process_field(schema):
        raise BadSetting(f"containers cannot be selected in {stream}: its records have no cgroup id and no pid")

    def chosen(batch: Batch) -> bytes | None:
        wanted = bytes(map(selection.passes, batch.owners))
        if 0 not in wanted:
            return None
        return wanted[:1] * batch.count if batch.owner is None else bytes(map(wanted.__getitem__, batch.owner))

    return chosen
