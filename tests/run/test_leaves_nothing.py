# SPDX-License-Identifier: BSD-2-Clause
"""However it ends: no program, map or link of it stays in the kernel."""

import os
import signal
import subprocess
import time

import pytest

from tests.run.conftest import alive, kernel_ids

ALL = ("process", "opensnoop", "syscall")


def gone(ids):
    """Maps go away by RCU, and links by a work queue: soon, not at once."""
    deadline = time.monotonic() + 5
    while (left := alive(ids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well_with_its_ledger(start, sign):
    running = start(*ALL, "-o", "json").attached()
    held = kernel_ids(running.pid)
    assert {kind for kind, _ in held} == {"prog", "map", "link"}
    ended = running.end(sign)
    assert ended.code == 0
    assert set(ended.ledger) == {"process/exec", "process/fork", "process/exit", "opensnoop/open", "syscall/syscall"}
    assert gone(held)


def test_sigkill_leaves_nothing_and_pins_nothing(start):
    running = start(*ALL).attached()
    held = kernel_ids(running.pid)
    assert running.end(signal.SIGKILL).code == -signal.SIGKILL
    assert gone(held)


def test_a_signal_while_it_starts_ends_it_too(start):
    for delay in (0.0, 0.1, 0.2, 0.3):
        running = start("process", "--duration", "20s")
        time.sleep(delay)
        running.process.send_signal(signal.SIGTERM)
        ended = running.wait(5)
        assert ended.code in {0, -signal.SIGTERM}
        assert "Traceback" not in ended.err


def test_nohup_outlives_the_hangup(start):
    running = start("process", "--duration", "20s", wrap=("nohup",), stdout=subprocess.DEVNULL).attached()
    running.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert running.process.poll() is None
    assert running.end().code == 0


def test_a_stopped_one_ends_when_it_goes_on(start):
    running = start("process", "-o", "json").attached()
    os.kill(running.pid, signal.SIGSTOP)
    os.kill(running.pid, signal.SIGINT)
    os.kill(running.pid, signal.SIGCONT)
    assert running.wait().code == 0
