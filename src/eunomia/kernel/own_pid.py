# SPDX-License-Identifier: BSD-2-Clause
"""Who we are to the probes: they see the host's process ids."""

from __future__ import annotations

import os

from eunomia.kernel.libbpf import lib

FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def host_pid() -> int:
    """Return this process's id as the host sees it: another than ``os.getpid()`` in a PID namespace.

    Where the kernel does not tell, as without rights, it is our own.
    """
    try:
        if os.readlink("/proc/self/ns/pid") == FIRST_NAMESPACE:
            return os.getpid()
    except OSError:
        pass
    number = int(lib.eu_host_pid())
    return number if number > 0 else os.getpid()
