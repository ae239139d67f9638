# SPDX-License-Identifier: BSD-2-Clause
"""A flood of one stream while there is little of a processor: rows of the others are not lost for it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence

from eunomia.batch import Batch
from eunomia.engine import Engine, step
from eunomia.engine.output import Output
from eunomia.kernel.ring import ROWS
from eunomia.kernel_clock import monotonic_ns
from eunomia.source import open_source
from tests import needs

OPENS = 12000
FLOOD = f"for i in range({OPENS}): open('/dev/null').close()"


class Slow:
    """A sink for which time passes with each write."""

    wants: frozenset[str] = frozenset()
    closed = False

    def __init__(self) -> None:
        self.behind = 0
        self.last: list[Batch] = []
        self.delivered: dict[tuple[str, str], int] = {}
        self.dropped: dict[tuple[str, str], dict[str, int]] = {}
        self.waiting: dict[tuple[str, str], int] = {}

    def clock(self) -> int:
        return monotonic_ns() + self.behind

    def write(self, batches: Sequence[Batch]) -> None:
        self.last = list(batches)
        self.behind += 10**9

    def flush(self) -> None: ...

    def close(self) -> None: ...


def flood(word: str) -> None:
    subprocess.run([sys.executable, "-S", "-c", FLOOD], check=True)
    subprocess.run(["true", word], check=True)


def test_the_loop_comes_before_what_it_watches_unless_it_was_started_with_another_priority(start):
    assert os.getpriority(os.PRIO_PROCESS, start("process", stdout=subprocess.DEVNULL).attached().pid) < 0
    nice = start("process", stdout=subprocess.DEVNULL, wrap=("nice", "-n", "3")).attached()
    assert os.getpriority(os.PRIO_PROCESS, nice.pid) == 3


def test_a_step_that_took_long_is_followed_by_shorter_ones_in_which_other_streams_lack_nothing(monkeypatch):
    needs.root()
    sink = Slow()
    monkeypatch.setattr(step, "monotonic_ns", sink.clock)
    with Engine() as engine:
        for name in ("process", "opensnoop"):
            engine.add(open_source(name))
        engine.connect(Output("slow", lambda _: sink))
        engine.start()
        for _ in range(12):
            word = uuid.uuid4().hex
            flood(word)
            engine.step()
            opens = sum(batch.count for batch in sink.last if batch.stream == "open")
            argvs = [argv for batch in sink.last if batch.stream == "exec" for argv in batch.values("argv")]
            assert ["true", word] in argvs
            assert opens
    assert opens <= ROWS // 16
