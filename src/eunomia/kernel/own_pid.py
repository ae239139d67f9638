# SPDX-License-Identifier: BSD-2-Clause
"""This process's id as probes see it: in the host's PID namespace."""

from __future__ import annotations

import os

from eunomia.kernel.libbpf import lib

FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def host_pid() -> int:
    """Return this process's id on the host, which differs from ``os.getpid()`` in a PID namespace.

    If the kernel does not report it, as without privileges, it is ``os.getpid()``.
    """
    try:
        if os.readlink("/proc/self/ns/pid") == FIRST_NAMESPACE:
            return os.getpid()
    except OSError:
        pass
    number = int(lib.eu_host_pid())
    return number if number > 0 else os.getpid()
