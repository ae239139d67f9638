# SPDX-License-Identifier: BSD-2-Clause
"""Checks of this process's rights: capabilities, lockdown, limits."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from eunomia.cli.checks import FAIL, OK, UNKNOWN, WARN, Finding, read
from eunomia.kernel.libbpf import ffi, lib
from eunomia.kernel.rights import effective_capabilities, in_user_namespace, lack, privileged, tracefs_mounted

_WANTED = {"BPF": 39, "PERFMON": 38, "SYS_RESOURCE": 24, "SYS_PTRACE": 19, "DAC_READ_SEARCH": 2}
_SYS_ADMIN = 21
_ARRAY = 2  # BPF_MAP_TYPE_ARRAY


def findings() -> Iterator[Finding]:
    """Yield the findings about rights and limits."""
    yield _capabilities()
    yield _lockdown()
    yield _unprivileged()
    if not privileged() and (paranoid := read("/proc/sys/kernel/perf_event_paranoid")) is not None:
        yield Finding("perf_event_paranoid", OK, f"{paranoid}: does not apply to root or with CAP_PERFMON")
    yield _memlock()


def _capabilities() -> Finding:
    bits = effective_capabilities()
    has = [name for name, bit in _WANTED.items() if bits >> bit & 1]
    lacks = [name for name in _WANTED if name not in has]
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    if in_user_namespace():
        return Finding("capabilities", FAIL, "in a user namespace, where they do not count", lack())
    if not privileged():
        return Finding(
            "capabilities", FAIL, f"{who} has {', '.join(has) or 'none'} of {', '.join(_WANTED)}",
            "run as root: sudo eunomia doctor; or give it at least BPF, PERFMON and DAC_READ_SEARCH",
        )  # fmt: skip
    if not bits >> _SYS_ADMIN & 1 and not tracefs_mounted():
        return Finding("capabilities", FAIL, f"{who} has {', '.join(has)}, and no tracefs", lack())
    if bits >> _SYS_ADMIN & 1 and not lacks:
        return Finding("capabilities", OK, f"{who} has all that are needed")
    found = f"{who} has {', '.join(has) or 'SYS_ADMIN'}"
    if {"SYS_PTRACE", "DAC_READ_SEARCH"} & set(lacks):
        return Finding(
            "capabilities", WARN, f"{found}, but not {', '.join(lacks)}",
            "give it these too, or names and images of containers may stay unknown",
        )  # fmt: skip
    return Finding("capabilities", OK, found)


def _lockdown() -> Finding:
    text = read("/sys/kernel/security/lockdown")
    if text is None:
        if os.path.exists("/sys/kernel/security/lsm") or "securityfs" not in (read("/proc/filesystems") or ""):
            return Finding("lockdown", OK, "not in this kernel, or off")
        return Finding(
            "lockdown", UNKNOWN, "securityfs is not mounted", "mount -t securityfs none /sys/kernel/security"
        )
    mode = text.partition("[")[2].partition("]")[0] or text
    if mode == "confidentiality":
        return Finding(
            "lockdown", FAIL, f"{mode}: programs may not read kernel memory",
            "boot with lockdown=integrity, or without Secure Boot",
        )  # fmt: skip
    return Finding("lockdown", OK, mode)


def _unprivileged() -> Finding:
    value = read("/proc/sys/kernel/unprivileged_bpf_disabled")
    if value is None:
        return Finding("unprivileged BPF", UNKNOWN, "kernel.unprivileged_bpf_disabled cannot be read")
    if value == "0":
        return Finding(
            "unprivileged BPF", WARN, "every user may load programs, which Eunomia does not need",
            "sysctl -w kernel.unprivileged_bpf_disabled=2",
        )  # fmt: skip
    return Finding("unprivileged BPF", OK, "disabled for others, as it should be")


def _memlock() -> Finding:
    """Check by making a map: libbpf raises the limit first, if the kernel charges maps to it."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = _size(before[0])
    made = lib.libbpf_probe_bpf_map_type(_ARRAY, ffi.NULL) == 1
    raised = resource.getrlimit(resource.RLIMIT_MEMLOCK) != before
    if not privileged():
        return Finding("memory for maps", UNKNOWN, f"memlock limit {limit}; only root can check it by making a map")
    if not made:
        return Finding("memory for maps", FAIL, f"no map can be made, memlock limit {limit}", "ulimit -l unlimited")
    if raised:
        return Finding("memory for maps", OK, f"the memlock limit counts: raised from {limit} when needed")
    if before[0] == resource.RLIM_INFINITY:
        return Finding("memory for maps", OK, "no memlock limit")
    return Finding("memory for maps", OK, f"charged to the memory cgroup: the memlock limit, {limit}, does not matter")


def _size(limit: int) -> str:
    return "none" if limit == resource.RLIM_INFINITY else f"{limit // 1024} KiB"
