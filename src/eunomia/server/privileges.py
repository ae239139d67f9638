# SPDX-License-Identifier: BSD-2-Clause
"""Capabilities of the server: which there are, and giving up those that are not needed. See docs/privileges.md."""

from __future__ import annotations

import os
from collections.abc import Collection

from eunomia._native import lib
from eunomia.kernel.rights import effective_capabilities

# include/uapi/linux/capability.h, by number
_NAMES = """
chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore
""".upper().split()

TRACKERS = frozenset({"BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_PTRACE"})
SERVER = TRACKERS | {"NET_ADMIN", "SYSLOG", "SYS_NICE", "SETUID", "SETGID"}


def drop(keep: Collection[str]) -> None:
    """Give up all capabilities but those that are named, for this process and all that it starts; for good.

    What it starts has none, but what uid 0 regains of those kept. Names are as in ``CAP_BPF`` or ``bpf``; those that
    the process does not have are no error.

    Raises :class:`ValueError` for a name that there is not, :class:`RuntimeError` if other threads run, as the
    kernel keeps capabilities per thread and they would keep theirs, and :class:`OSError` if the kernel refuses.
    """
    bits = 0
    for name in keep:
        bits |= 1 << number(name)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("capabilities cannot be given up while other threads run: do it before they are started")
    err = lib.eu_keep_capabilities(bits)
    if err:
        raise OSError(-err, f"capabilities cannot be given up: {os.strerror(-err)}")


def number(name: str) -> int:
    """Return a capability's number; raises :class:`ValueError`."""
    plain = name.upper().removeprefix("CAP_")
    if plain not in _NAMES:
        raise ValueError(f"there is no capability {name!r}")
    return _NAMES.index(plain)


def held() -> frozenset[str]:
    """Return the names of the capabilities that are in effect."""
    bits = effective_capabilities()
    return frozenset(name for bit, name in enumerate(_NAMES) if bits >> bit & 1)
