# SPDX-License-Identifier: BSD-2-Clause
"""The clock by which probes date what happens, as it is told in a time namespace too."""

import calendar
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import needs

from eunomia.kernel_clock import monotonic_ns

# (monotonic, boottime) of the namespace, in seconds
OFFSETS = [("86400", "86400"), ("-1", "864000"), ("3", "3")]


def test_on_the_host_it_is_the_system_s_own():
    assert monotonic_ns is time.monotonic_ns


@pytest.mark.parametrize(("monotonic", "boottime"), OFFSETS)
def test_in_a_time_namespace_it_is_the_kernel_s(monotonic: str, boottime: str):
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    script = "from eunomia.kernel_clock import monotonic_ns; print(monotonic_ns())"
    command = [unshare, "-T", "--monotonic", monotonic, "--boottime", boottime, "-f", sys.executable, "-c", script]
    before = time.monotonic_ns()
    told = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert before - 1e6 < told < time.monotonic_ns() + 1e6


def test_rows_are_dated_right_and_their_processes_known_in_a_time_namespace():
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    eunomia = str(Path(sys.executable).with_name("eunomia"))
    command = [unshare, "-T", "--monotonic", "86400", "--boottime", "86400", "-f", eunomia, "run", "process"]
    options = ["-o", "json", "--add", "process.argv", "--comm", "true", "--duration", "30s", "--count", "1"]
    before = time.time()
    run = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    while run.poll() is None:
        subprocess.run(["true", "dated"], check=True)
    row = json.loads(run.communicate()[0].splitlines()[0])
    stamp = time.strptime(row["time"][:19], "%Y-%m-%dT%H:%M:%S")
    assert before - 1 <= calendar.timegm(stamp) <= time.time()
    assert row["process"]["argv"][0] in {"true", "/bin/true"}
