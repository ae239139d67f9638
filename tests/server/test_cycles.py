# SPDX-License-Identifier: BSD-2-Clause
"""Trackers that start and stop again and again through the API leave nothing behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import Opener, until
from tests.engine.conftest import opener as opener  # noqa: PLC0414
from tests.run.conftest import kernel_ids
from tests.server.conftest import Server

KINDS = ("process", "opensnoop", "syscall", "container")


def held(pid: int) -> tuple[int, int, int]:
    """Return how many BPF objects, descriptors and threads a process has."""
    return len(kernel_ids(pid)), len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("kind", KINDS)
def test_starts_and_stops_under_load_leave_nothing(server: Server, opener: Callable[[], Opener], kind: str):
    pid = server.process.pid

    def cycle() -> None:
        made = server.ask("POST", "/v1/trackers", {"kind": kind, "duration": 60})
        assert made.status == 201, made
        server.ask("GET", f"/v1/trackers/{kind}/snapshot")
        assert server.ask("DELETE", f"/v1/trackers/{kind}").status == 200

    with opener().opening():
        cycle()
        before = held(pid)
        for _ in range(5):
            cycle()
        until(lambda: held(pid)[:2] <= before[:2], (held(pid), before))
        assert held(pid)[2] <= before[2] + 2  # workers for requests: there are sixteen at most
    assert Path(f"/proc/{pid}").exists()
