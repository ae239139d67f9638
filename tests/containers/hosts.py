# SPDX-License-Identifier: BSD-2-Clause
"""Be on another kind of host for a while."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eunomia.containers import tree
from eunomia.hierarchy import of_first_version, unified
from tests import needs

_CLONE_NEWNS = 0x00020000


@contextmanager
def first_version_only() -> Iterator[None]:
    """Be on a host of cgroup v1: a mount namespace in which v2 is not mounted, so runtimes don't use it.

    Threads and processes that are started meanwhile are there too.
    """
    needs.root()
    if not of_first_version():
        pytest.skip("needs cgroup v1 hierarchies: this machine has v2 only")
    libc = ctypes.CDLL(None, use_errno=True)
    directory = os.getcwd()
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        while (second := unified()) is not None:
            subprocess.run(["umount", "-l", second.mount], check=True)
        tree.current.cache_clear()
        yield
    finally:
        # fails while a thread is left that was started here
        assert libc.setns(before, _CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        os.chdir(directory)
        os.close(before)
        tree.current.cache_clear()
