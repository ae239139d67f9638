# SPDX-License-Identifier: BSD-2-Clause
"""Try what may end the process, in a child that may end instead."""

from __future__ import annotations

import os
import signal

from eunomia.kernel.libbpf import ffi, lib, log_start

LONGEST = 10  # seconds that reading an object may take; the largest take a tenth of one


def survives_opening(data: bytes) -> bool:
    """Return whether libbpf reads an object, and comes to an end: 1.1 does not check all that it follows.

    A stranger's file may be broken on purpose. Costs a fork of this process, some milliseconds.
    """
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST)
            log_start()
            opened = lib.eu_open(ffi.from_buffer(data), len(data), b"trial", ffi.NULL)
            if opened != ffi.NULL:
                lib.bpf_object__close(opened)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)
