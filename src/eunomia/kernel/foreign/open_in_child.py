# SPDX-License-Identifier: BSD-2-Clause
"""Opens an object in a child process first, because libbpf can crash on broken files."""

from __future__ import annotations

import os
import signal

from eunomia.kernel.libbpf import ffi, lib, log_start

LONGEST = 10  # seconds for reading an object; the largest take a tenth of one


def survives_opening(data: bytes) -> bool:
    """Return whether libbpf can read an object and returns: 1.1 does not validate all that it reads.

    A foreign file may be malicious. Costs a fork of this process, some milliseconds.
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
