# SPDX-License-Identifier: BSD-2-Clause
"""The search for processes by name, while they come and go."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from eunomia.containers import daemons
from eunomia.containers.daemons import daemon_of, pids

_NAMED = """
import sys
def call_it(name): open('/proc/self/comm', 'w').write(name)
call_it(sys.argv[1]); print(flush=True)
for line in sys.stdin: call_it(line.strip()); print(flush=True)
"""


@contextmanager
def process(name):
    """Run a process of that name; what is passed to the function that it gives is its next one."""
    started = subprocess.Popen(
        [sys.executable, "-c", _NAMED, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    started.stdout.readline()

    def rename(name):
        started.stdin.write(f"{name}\n")
        started.stdin.flush()
        started.stdout.readline()

    try:
        yield str(started.pid), rename
    finally:
        started.communicate()


@pytest.fixture(autouse=True)
def scan(monkeypatch):
    monkeypatch.setattr(daemons, "_SHARED", 0)
    monkeypatch.setattr(daemons, "_SHARE", 1)


def test_a_process_is_found_while_it_runs():
    assert pids(b"eu-test") == []
    with process("eu-test") as (pid, _):
        assert pids(b"eu-test") == [pid]
        assert pids(b"eu-test") == [pid]
    assert pids(b"eu-test") == []


def test_one_that_takes_its_name_late_is_found_as_well():
    """As every daemon does, which is its parent's copy before it is itself."""
    assert pids(b"eu-late") == []
    with process("eu-early") as (pid, rename):
        assert pids(b"eu-late") == []
        rename("eu-late")
        assert pids(b"eu-late") == [pid]


def test_a_process_read_only_when_young_is_read_again(monkeypatch):
    monkeypatch.setattr(daemons, "_YOUNG", 10_000_000)
    assert pids(b"eu-late") == []
    with process("eu-early") as (pid, rename):
        assert pids(b"eu-late") == []
        rename("eu-late")
        time.sleep(0.05)
        assert pids(b"eu-late") == [pid]


def test_a_name_asked_for_later_is_looked_for_among_all(monkeypatch):
    monkeypatch.setattr(daemons, "_YOUNG", 0)
    with process("eu-second") as (pid, _):
        assert pids(b"eu-first") == []
        assert pids(b"eu-first") == []
        assert pids(b"eu-second") == [pid]


def test_known_processes_are_read_again_after_a_while(monkeypatch):
    monkeypatch.setattr(daemons, "_YOUNG", 0)
    with process("eu-before") as (pid, rename):
        assert pids(b"eu-after") == []
        rename("eu-after")
        monkeypatch.setattr(daemons, "_RECHECK", 0)
        assert pids(b"eu-after") == [pid]


def test_a_process_that_has_ended_is_trusted_for_nothing():
    with process("eu-gone") as (pid, _):
        assert daemon_of(pid) is not None
    assert daemon_of(pid) is None
