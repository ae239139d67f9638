# SPDX-License-Identifier: BSD-2-Clause
"""The filters that all trackers share: in the kernel where the probe has them, on batches where not."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from eunomia.batch import Batch, Schema
from eunomia.containers.selection import CHOSEN, CONTAINERS, HOST, Selection
from eunomia.containers.selectors import Selectors
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.loaded import Loaded, MapHandle
from eunomia.kernel.own_pid import host_pid
from eunomia.meaning import decode
from eunomia.whose import Who, of_process, of_us, who

_ORDER = "<" if sys.byteorder == "little" else ">"
_COMM = 16  # TASK_COMM_LEN
_SET_ROOM = 1024  # max_entries of EUNOMIA_SET, but for cgroups
_IN_SET, _NOT_IN_SET = 1, 2  # eunomia_by_cgroup in eunomia/filter.h

# What strangers call these, the most telling first.
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
        """Return the containers that are wanted, as a set followed live; None where all are.

        Raises :class:`ValueError` where the wishes exclude each other or a name is empty.
        """
        chosen = any(self.selectors)
        if self.host_only and (chosen or self.containers_only):
            raise ValueError("--host-only leaves nothing of --containers-only, nor of what chooses containers")
        if chosen:
            return Selection(self.selectors, CHOSEN)
        if self.host_only or self.containers_only:
            return Selection((), HOST if self.host_only else CONTAINERS)
        return None

    def constants(self) -> dict[str, object]:
        """Return the constants that switch the kernel's side on."""
        return {
            "eunomia_self": 0 if self.traces_itself else host_pid(),
            "eunomia_by_pid": bool(self.pids),
            "eunomia_by_uid": bool(self.uids),
            "eunomia_by_comm": bool(self.comms),
            "eunomia_by_cgroup": _NOT_IN_SET if self.host_only else _IN_SET if self.by_cgroup else 0,
        }

    @property
    def by_cgroup(self) -> bool:
        """Whether nothing passes but what is in the set of cgroups."""
        return any(self.selectors) or self.containers_only

    def fill(self, live: Loaded) -> None:
        """Fill a live object's sets, as far as they do not change."""
        for name, option, keys in (
            ("eunomia_pids", "pid", {struct.pack(_ORDER + "I", p) for p in self.pids}),
            ("eunomia_uids", "uid", {struct.pack(_ORDER + "I", u) for u in self.uids}),
            ("eunomia_comms", "comm", {_comm(c).ljust(_COMM, b"\0") for c in self.comms}),
        ):
            if len(keys) > _SET_ROOM:
                raise BadSetting(f"--{option}: {len(keys)} are more than the {_SET_ROOM} that can be told apart")
            for key in keys:
                live.maps[name].update(key, b"\1")


class CgroupSet:
    """The kernel's set of cgroup ids, shared by all objects; kept like a selection's."""

    def __init__(self, handle: MapHandle) -> None:
        self._handle = handle

    def add(self, cgroup_id: int) -> None:
        """Take a cgroup in."""
        self._handle.update(struct.pack(_ORDER + "Q", cgroup_id), b"\1")

    def remove(self, cgroup_id: int) -> None:
        """Let a cgroup go."""
        self._handle.delete(struct.pack(_ORDER + "Q", cgroup_id))


def has_filters(live_maps: Mapping[str, object]) -> bool:
    """Return whether an object has the kernel's side of the filters."""
    return "eunomia_cgroups" in live_maps


def cgroup_field(schema: Schema) -> str:
    """Return the field that holds the cgroup's id; empty where there is none."""
    for field in schema.fields.values():
        if field.meaning == "cgroup_id":
            return field.name
    return _first(schema, _CGROUP, 8, "cgroup_id")


def _first(schema: Schema, names: Sequence[str], size: int, meaning: str) -> str:
    """Return the first of these fields that is a whole number of this size and means nothing else."""
    for name in names:
        field = schema.fields.get(name)
        if field is None or field.size != size or field.bits is not None or field.meaning not in {"", meaning}:
            continue
        if field.code.lower() in {"i", "q"}:
            return name
    return ""


def _comm(name: str) -> bytes:
    """Return a command's name as the kernel keeps it: bytes, cut."""
    return os.fsencode(name)[: _COMM - 1]


Mask = Callable[[Batch], list[bool] | None]  # which rows are wanted; None where all are


def late_mask(selection: Selection | None) -> Mask | None:
    """Return what filters a batch whose probe has filters, None where nothing has to.

    The kernel lets through what it does not yet know of: a new cgroup, until we have told it whose that is.
    """
    return None if selection is None else _chosen(selection)


def _chosen(selection: Selection) -> Mask:
    """Return what asks once for each of the containers that a batch's rows are of."""

    def chosen(batch: Batch) -> list[bool] | None:
        wanted = list(map(selection.passes, batch.owners))
        if all(wanted):
            return None
        return wanted[:1] * batch.count if batch.owner is None else list(map(wanted.__getitem__, batch.owner))

    return chosen


def early_mask(filters: Filters, schema: Schema, stream: str) -> Mask | None:
    """Return what filters a foreign stream's batches before anybody asks whose they are, None where nothing does.

    Raises :class:`BadSetting` where the stream lacks the field that a filter needs.
    """
    tests: list[Mask] = []
    pid = who(schema)
    # what is beside the process's id is of that process, too
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
        tests.append(lambda b: [u in uids for u in b.raw(uid)])
    if filters.comms:
        comms = frozenset(decode(_comm(c)) for c in filters.comms)
        tests.append(lambda b: [c in comms for c in b.values(comm)])
    if pid and not filters.traces_itself:
        tests.append(_by_id(pid, of_us(host_pid(), pid.threads), False))
    if not tests:
        return None

    def together(batch: Batch) -> list[bool] | None:
        answers = [answer for test in tests if (answer := test(batch)) is not None]
        return list(map(all, zip(*answers, strict=True))) if answers else None

    return together


def _by_id(pid: Who, of: Callable[[int], bool], wanted: bool) -> Mask:
    """Return what asks once for each of the ids of a batch."""

    def test(batch: Batch) -> list[bool]:
        ids = pid.ids(batch)
        known = {number: of(number) is wanted for number in set(ids)}
        return [known[number] for number in ids]

    return test


def choosing_mask(selection: Selection | None, schema: Schema, stream: str) -> Mask | None:
    """Return what chooses a foreign stream's rows by their containers, None where all are wanted.

    Raises :class:`BadSetting` where nothing says whose they are.
    """
    if selection is None:
        return None
    if not cgroup_field(schema) and not who(schema):
        raise BadSetting(f"containers cannot be chosen in {stream}: its records have no cgroup id and no pid")
    return _chosen(selection)
