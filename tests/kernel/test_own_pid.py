# SPDX-License-Identifier: BSD-2-Clause
"""Who we are to the probes, which see the host's process ids."""

import os
import subprocess
import sys
from pathlib import Path

from tests import needs

from eunomia.kernel.own_pid import host_pid

SCRIPT = """
import os, sys
from eunomia.kernel.own_pid import host_pid
print(os.getpid(), host_pid(), flush=True)
sys.stdin.read()
"""


def test_on_the_host_it_is_our_own():
    assert host_pid() == os.getpid()


def test_in_a_pid_namespace_it_is_what_the_host_sees():
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    command = [unshare, "--pid", "--fork", "--mount-proc", sys.executable, "-c", SCRIPT]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    inside, told = started.stdout.readline().split()
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    started.communicate()
    assert (inside, [told]) == ("1", children)
