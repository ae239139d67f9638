# SPDX-License-Identifier: BSD-2-Clause
"""Outputs that come and go while the engine runs, each with its own wishes, queue and account."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import pytest

from eunomia.batch import Batch
from eunomia.engine.output import BLOCK, DROP_NEWEST, DROP_OLDEST, FULL, STALLED, Output, Queue
from eunomia.engine.sources import PythonSource
from eunomia.faults import Faults
from eunomia.filters import Filters
from eunomia.kernel.errors import BadSetting
from eunomia.ledger import OutputEntry
from eunomia.sinks import StreamInfo
from eunomia.source import open_source
from eunomia.stream_schema import Field, Schema
from tests.engine.conftest import Kept, Live, until

OPENS = ("opensnoop", "open")
ONE = Schema("one", 4, [Field("x", 0, 4, "i")])


class Raises(Kept):
    """A sink that takes some rows of each batch, and then raises."""

    def write(self, batches: Sequence[Batch]) -> None:
        super().write([batch[:1] for batch in batches])
        raise RuntimeError("no more")


class Stalls(Kept):
    """A sink that takes nothing before it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def write(self, batches: Sequence[Batch]) -> None:
        self.entered.set()
        self.go_on.wait()
        super().write(batches)


def account(live: Live, name: str) -> OutputEntry:
    return next(entry for entry in live.engine.accounts() if entry.output == name)


def test_each_output_gets_what_it_wants_and_the_kernel_passes_no_more_than_all_want(live, opener):
    one, other, third = opener(), opener(), opener()
    live.engine.add(open_source("opensnoop"))
    first, second = Kept(), Kept()
    live.connect("first", first, Filters(pids=(one.pid,)))
    live.connect("second", second, Filters(pids=(other.pid,)))
    live.start()
    one.opens(300)
    other.opens(500)
    third.opens(700)
    live.end()
    assert first.pids == {one.pid: 300}
    assert second.pids == {other.pid: 500}
    (source,) = live.engine.ledger()
    assert (source.emitted, source.lost, source.filtered) == (800, 0, 0)
    accounts = {entry.output: entry for entry in live.engine.accounts()}
    assert accounts["first"][2:] == (800, 500, 300, {}, 0)
    assert accounts["second"][2:] == (800, 300, 500, {}, 0)


def test_an_output_that_comes_later_widens_what_the_kernel_passes_and_one_that_goes_narrows_it(live, opener):
    one, other = opener(), opener()
    live.engine.add(open_source("opensnoop"))
    first, second = Kept(), Kept()
    live.connect("first", first, Filters(pids=(one.pid,)))
    live.start()
    other.opens(10)
    live.connect("second", second, Filters(pids=(other.pid,)))
    one.opens(20)
    other.opens(30)
    until(lambda: second.pids.total() == 30 and first.pids.total() == 20, (first.pids, second.pids))
    live.call(lambda: live.engine.disconnect("second"))
    one.opens(40)
    other.opens(50)
    live.end()
    assert second.is_closed
    assert first.pids == {one.pid: 60}
    assert second.pids == {other.pid: 30}
    (source,) = live.engine.ledger()
    assert source.emitted == 20 + 30 + 40
    assert all(entry.balanced for entry in live.engine.accounts())
    assert account(live, "second").delivered == 30


def test_what_is_filtered_by_one_field_and_by_another_passes_both(live, opener):
    one, other = opener(), opener()
    live.engine.add(open_source("opensnoop"))
    by_pid, by_name, by_user = Kept(), Kept(), Kept()
    live.connect("pid", by_pid, Filters(pids=(one.pid,)))
    live.connect("comm", by_name, Filters(comms=("python3",)))
    live.connect("uid", by_user, Filters(uids=(os.getuid() + 1,)))
    live.start()
    one.opens(5)
    other.opens(7)
    live.end()
    assert by_pid.pids == {one.pid: 5}
    assert by_name.pids[one.pid] + by_name.pids[other.pid] in {0, 12}  # as the interpreter is called
    assert not by_user.pids[one.pid]
    assert all(entry.balanced for entry in live.engine.accounts())


def test_a_sink_that_raises_is_named_once_and_counted_and_others_lack_nothing(live, opener):
    one = opener()
    live.engine.add(open_source("opensnoop"))
    broken, whole = Raises(), Kept()
    filters = Filters(pids=(one.pid,))
    live.connect("broken", broken, filters)
    live.connect("whole", whole, filters)
    live.start()
    for _ in range(3):
        before = whole.pids.total()
        one.opens(100)
        until(lambda: whole.pids.total() == before + 100, whole.pids)  # noqa: B023
    live.end()
    entry = account(live, "broken")
    assert entry.received == 300
    assert entry.delivered == broken.pids.total()
    assert entry.dropped == {"failed: RuntimeError": 300 - entry.delivered}
    assert entry.balanced
    assert [s for s in live.said if "broken" in s] == [
        "output broken failed (RuntimeError: no more): its rows are dropped and counted, the run goes on"
    ]


@pytest.mark.parametrize("policy", [DROP_NEWEST, DROP_OLDEST])
def test_a_sink_in_a_thread_hears_of_other_columns_between_the_rows_before_and_after(policy):
    class Hears(Stalls):
        def adapt(self, streams: Sequence[StreamInfo]) -> None:
            self.batches.append(streams)

    def rows(number: int) -> Batch:
        return Batch(ONE, bytes([number]) * 4, tracker="t", stream="s")

    sink = Hears()
    output = Output("hears", lambda _: sink, queue=Queue(4, policy))
    stream = PythonSource("t", {"s": ONE}).streams[0]
    output.open([stream.info], Faults())
    output.plan(stream, filtered=True)
    output.take([(stream, rows(0))])
    assert sink.entered.wait(30)
    for number in range(1, 6):
        if number == 3:
            output.adapt([stream.info])
        output.take([(stream, rows(number))])
    sink.go_on.set()
    output.close()
    heard = [b.raw("x")[0] & 0xFF if isinstance(b, Batch) else "adapt" for b in sink.batches]
    assert heard == ([0, 1, 2, "adapt", 3] if policy == DROP_NEWEST else [0, "adapt", 3, 4, 5])


@pytest.mark.parametrize("policy", [DROP_NEWEST, DROP_OLDEST])
def test_a_sink_that_stalls_loses_rows_of_its_own_alone(live, opener, policy):
    one = opener()
    live.engine.add(open_source("opensnoop"))
    slow, whole = Stalls(), Kept()
    filters = Filters(pids=(one.pid,))
    live.connect("slow", slow, filters, Queue(100, policy))
    live.connect("whole", whole, filters)
    live.start()
    total = 0
    for count in (1, 60, 70, 80):
        one.opens(count)
        total += count
        until(lambda: whole.pids.total() == total, whole.pids)  # noqa: B023
        assert slow.entered.wait(30)
    slow.go_on.set()
    until(lambda: not account(live, "slow").waiting)
    entry = account(live, "slow")
    assert entry.received == total
    assert entry.dropped[FULL] >= 60
    assert entry.delivered == slow.pids.total() == total - entry.dropped[FULL]
    assert any("output slow failed (Stalled: it is too slow" in s for s in live.said)
    live.end()
    assert account(live, "slow").balanced
    assert slow.is_closed


def test_an_output_that_asks_for_it_holds_up_the_engine_and_loses_nothing(live, opener):
    one = opener()
    live.engine.add(open_source("opensnoop"))
    slow = Stalls()
    live.connect("slow", slow, Filters(pids=(one.pid,)), Queue(10, BLOCK))
    live.start()
    for _ in range(5):
        one.opens(20)
    assert slow.entered.wait(30)
    slow.go_on.set()
    live.end()
    assert slow.pids == {one.pid: 100}
    assert account(live, "slow")[2:] == (100, 0, 100, {}, 0)


def test_a_sink_that_never_ends_is_given_up_and_said(live, opener, monkeypatch):
    from eunomia.engine import output

    monkeypatch.setattr(output, "_PATIENCE", 0.2)
    one = opener()
    live.engine.add(open_source("opensnoop"))
    stuck, whole = Stalls(), Kept()
    live.connect("stuck", stuck, Filters(pids=(one.pid,)), Queue())
    live.connect("whole", whole, Filters(pids=(one.pid,)))
    live.start()
    one.opens(30)
    until(lambda: whole.pids.total() == 30)
    assert stuck.entered.wait(30)
    live.call(lambda: live.engine.disconnect("stuck"))
    entry = account(live, "stuck")
    assert (entry.received, entry.delivered, entry.waiting) == (30, 0, 0)
    assert set(entry.dropped) <= {STALLED, "failed: Stalled"}  # those in the queue, and those in its hands
    assert entry.balanced
    assert any("stuck failed (Stalled: it did not end" in s for s in live.said)
    stuck.go_on.set()


def test_an_output_whose_sink_cannot_be_made_leaves_all_as_it_was(live, opener):
    one, other = opener(), opener()
    live.engine.add(open_source("opensnoop"))
    first = Kept()
    live.connect("first", first, Filters(pids=(one.pid,)))
    live.start()

    def fail(_streams):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        live.call(lambda: live.engine.connect(Output("second", fail)))
    with pytest.raises(ValueError, match="'first' already"):
        live.call(lambda: live.engine.connect(Output("first", lambda _: Kept())))
    with pytest.raises(BadSetting, match="1024"):
        live.call(lambda: live.engine.connect(Output("many", lambda _: Kept(), Filters(pids=tuple(range(1, 2000))))))
    with pytest.raises(KeyError):
        live.call(lambda: live.engine.disconnect("second"))
    other.opens(10)
    one.opens(10)
    live.end()
    assert first.pids == {one.pid: 10}
    assert live.engine.ledger()[0].emitted == 10


def test_an_output_may_take_some_streams_and_what_none_takes_is_filtered(live, opener):
    live.engine.add(open_source("process"))
    sink = Kept()
    live.engine.connect(Output("exits", lambda _: sink, streams=("process/exit",)))
    live.start()
    opener()
    live.end()
    ledger = {entry.stream: entry for entry in live.engine.ledger()}
    assert {batch.stream for batch in sink.batches} <= {"exit"}
    assert ledger["process/exec"].emitted
    assert ledger["process/exec"].filtered == ledger["process/exec"].emitted
    assert ledger["process/exit"].filtered == 0


def test_policies_and_filters_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="drop-newest, drop-oldest, block"):
        Output("x", lambda _: Kept(), queue=Queue(10, "lose"))
    with pytest.raises(ValueError, match="--host-only"):
        Output("x", lambda _: Kept(), Filters(host_only=True, containers_only=True))
