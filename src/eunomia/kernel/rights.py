# SPDX-License-Identifier: BSD-2-Clause
"""This process's privileges, and those that it lacks to run probes."""

from __future__ import annotations

import os

BPF, PERFMON, SYS_ADMIN, DAC_READ_SEARCH = 39, 38, 21, 2
_FIRST_USERS = "user:[4026531837]"  # PROC_USER_INIT_INO, include/linux/proc_ns.h
_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def effective_capabilities() -> int:
    """Return this process's effective capabilities as a bit set."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return (1 << 41) - 1 if os.geteuid() == 0 else 0


def has(capability: int) -> bool:
    """Return whether this process has a capability; it only counts in the initial user namespace."""
    return bool(effective_capabilities() >> capability & 1) and not in_user_namespace()


def privileged() -> bool:
    """Return whether this process may load programs: CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON."""
    return has(SYS_ADMIN) or (has(BPF) and has(PERFMON))


def in_user_namespace() -> bool:
    """Return whether this process is in a user namespace other than the initial one, as in a rootless container."""
    try:
        return os.readlink("/proc/self/ns/user") != _FIRST_USERS
    except OSError:
        return False


def tracefs_mounted() -> bool:
    """Return whether tracefs is mounted; users other than root may not see more than that."""
    return any(os.path.ismount(place) for place in _TRACEFS)


def lack() -> str:
    """Return what this process lacks to run the trackers, and what to do; empty if nothing is known to be missing."""
    if in_user_namespace():
        return (
            "not permitted to load BPF programs inside a user namespace, even with capabilities there: "
            "run it outside (as root on the host, not in a rootless container)"
        )
    if has(SYS_ADMIN):
        return ""
    missing = [
        name for name, bit in (("BPF", BPF), ("PERFMON", PERFMON), ("DAC_READ_SEARCH", DAC_READ_SEARCH)) if not has(bit)
    ]
    mount = "" if tracefs_mounted() else "tracefs mounted by root (mount -t tracefs none /sys/kernel/tracing)"
    if not missing and not mount:
        return ""
    if has(BPF) and has(PERFMON):  # programs can be loaded, but not attached
        beside = ["with the capability DAC_READ_SEARCH in addition to BPF and PERFMON"] if missing else []
        beside += [f"with {mount}"] if mount else []
        return f"tracefs, which lists tracepoints, cannot be read: run as root (sudo), or {' and '.join(beside)}"
    needs = [f"the capabilities BPF, PERFMON and DAC_READ_SEARCH ({', '.join(missing)} missing)"] if missing else []
    needs += [mount] if mount else []
    return f"not permitted to run BPF programs: run as root (sudo), or with {', and with '.join(needs)}"
