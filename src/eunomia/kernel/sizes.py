# SPDX-License-Identifier: BSD-2-Clause
"""Sizes of maps: those that the user gives, and defaults for maps that objects leave to their own loader."""

from __future__ import annotations

import os
from collections.abc import Mapping

from eunomia.kernel.errors import BadSetting, KernelError
from eunomia.kernel.libbpf import error, ffi, lib
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.spec import Map

_ENTRIES = 10_240  # as most of bcc's libbpf-tools
_RING = 256 << 10  # bytes
_TAIL_CALLS = 32  # the most tail calls in a row (MAX_TAIL_CALL_CNT, include/linux/bpf.h)
_FRAMES = 127  # of a stack, by default (PERF_MAX_STACK_DEPTH)

# enum bpf_map_type, include/uapi/linux/bpf.h
_PROG_ARRAY, _PERF_EVENT_ARRAY, _STACK_TRACE = 3, 4, 7
_RINGBUF, _USER_RINGBUF = 27, 31
_RINGS = frozenset({_RINGBUF, _USER_RINGBUF})
_BY_CPU = frozenset({2, 6, 16, 20})  # array, per-CPU array, cpumap, reuseport_sockarray
_BY_NUMBER = frozenset({8, 14, 17})  # cgroup_array, devmap, xskmap
_MANY = frozenset({1, 5, 9, 10, 11, _STACK_TRACE, 12, 13, 15, 18, 22, 23, 25, 30})
_NO_SIZE = frozenset({19, 21, 24, 28, 29, 32})  # storage of sockets, tasks, inodes and cgroups has no entries


def _entries(map_: Map) -> int:
    """Return the default number of entries of a map; 0 if the kernel or libbpf decides."""
    if map_.type in _RINGS:
        return _RING
    if map_.type in _BY_CPU:
        return max(1, int(lib.libbpf_num_possible_cpus()))
    if map_.type == _PROG_ARRAY:
        return _TAIL_CALLS
    return 64 if map_.type in _BY_NUMBER else _ENTRIES if map_.type in _MANY else 0


def by_default(map_: Map) -> Map:
    """Return a map with defaults for the sizes that it does not declare."""
    if map_.internal:
        return map_
    said = []
    if not map_.max_entries and (entries := _entries(map_)):
        map_ = map_._replace(max_entries=entries)
        said.append(f"{entries:,} {'bytes' if map_.type in _RINGS else 'entries'}")
    if map_.type == _STACK_TRACE and not map_.value_size:
        size = 8 * _frames()
        map_ = map_._replace(key_size=map_.key_size or 4, value_size=size)
        said.append(f"{size // 8} frames a stack")
    return map_._replace(chosen=", ".join(said))


def _frames() -> int:
    try:
        with open("/proc/sys/kernel/perf_event_max_stack", encoding="ascii") as file:
            return int(file.read(16))
    except (OSError, ValueError):
        return _FRAMES


def given(owner: str, maps: Mapping[str, Map], sizes: Mapping[str, int]) -> dict[str, Map]:
    """Return an object's maps with the numbers of entries that the user gives some of them.

    Raises :class:`BadSetting` if there is no such map, or the size is invalid.
    """
    sized = dict(maps)
    for name, entries in sizes.items():
        map_ = maps.get(name)
        if map_ is None or map_.internal or map_.type in _NO_SIZE:
            known = [m.name for m in maps.values() if not m.internal and m.type not in _NO_SIZE]
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise BadSetting(f"{owner} has no map '{name}' whose size can be set: {has}")
        page = os.sysconf("SC_PAGESIZE")
        if map_.type in _RINGS and (entries % page or entries & (entries - 1)):
            raise BadSetting(f"map {name}: a ring's size in bytes is a power of two, at least {page}: {entries} is not")
        sized[name] = map_._replace(max_entries=entries, chosen="")
    return sized


def apply(handle: Any, map_: Map, by_user: bool) -> None:
    """Set the sizes of a map that is not loaded yet: those that its object lacks, or the user gives."""
    _check_inner(handle, map_.name)
    if not map_.chosen and not by_user:
        return
    failed = (
        (map_.max_entries and lib.bpf_map__set_max_entries(handle, map_.max_entries))
        or (map_.type == _STACK_TRACE and lib.bpf_map__set_key_size(handle, map_.key_size))
        or (map_.type == _STACK_TRACE and lib.bpf_map__set_value_size(handle, map_.value_size))
    )
    if failed:
        raise BadSetting(f"map {map_.name}: its size cannot be set: {error(failed).strerror}")


def _check_inner(handle: Any, name: str) -> None:
    """Refuse a map of maps without a size for its inner maps: libbpf can set sizes only of named maps."""
    inner = lib.bpf_map__inner_map(handle)
    if inner == ffi.NULL or lib.bpf_map__max_entries(inner):
        return
    if lib.bpf_map__type(inner) not in {*_NO_SIZE, _PERF_EVENT_ARRAY}:
        raise KernelError(f"map {name}: its inner maps declare no size: add `__uint(max_entries, N);` to them")
