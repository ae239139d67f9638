# SPDX-License-Identifier: BSD-2-Clause
"""Sources that come and go while the engine runs: nothing of them stays in the kernel but their accounts."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from contextlib import suppress

import pytest

from eunomia.batch import Batch
from eunomia.engine import Engine
from eunomia.engine.sources import PythonSource
from eunomia.filters import Filters
from eunomia.identity import ON_HOST
from eunomia.kernel.errors import BadSetting
from eunomia.python_schema import ColumnDeclaration, declare
from eunomia.source import Options, open_source
from tests import needs
from tests.engine.conftest import Kept, Live, until
from tests.run.conftest import alive, kernel_ids
from tests.runtimes.docker import Docker

ROUNDS = 25  # bench/rounds.py does 500


def descriptors() -> Counter[str]:
    """What is open of the kernel's objects, by kind: ``anon_inode:bpf-map`` and the like.

    Directories of daemons are not counted, which come and go with the containers of other jobs on the machine, nor
    inotify, which is opened when the first container of the machine is to be watched.
    """
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists them
            if (target := os.readlink(f"/proc/self/fd/{number}")).startswith("anon_inode:"):
                found[target] += 1
    del found["anon_inode:inotify"]
    return found


def test_a_source_that_is_added_while_it_runs_is_seen_and_one_that_is_removed_leaves_its_account(live, opener):
    one = opener()
    sink = Kept()
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.start()
    before = kernel_ids(os.getpid())
    one.opens(10)
    live.call(lambda: live.engine.add(open_source("opensnoop")))
    one.opens(20)
    live.call(lambda: live.engine.remove("opensnoop"))
    one.opens(40)
    assert sink.pids == {one.pid: 20}
    (entry,) = live.engine.ledger()
    assert entry[:4] == ("opensnoop/open", 20, 0, 0)
    gc.collect()
    assert not alive(kernel_ids(os.getpid()) - before)
    live.end()
    assert [e.balanced for e in live.engine.accounts()] == [True]


def test_many_rounds_under_load_leave_nothing_behind(live, opener):
    one = opener()
    sink = Kept()
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.engine.add(open_source("process"))
    live.start()
    with one.opening():
        for _ in range(2):  # what is loaded once
            live.call(lambda: live.engine.add(open_source("opensnoop")))
            live.call(lambda: live.engine.remove("opensnoop"))
        before, opened, threads = kernel_ids(os.getpid()), descriptors(), threading.active_count()
        for number in range(ROUNDS):
            live.call(lambda: live.engine.add(open_source("opensnoop")))
            live.connect(f"extra {number}", Kept(), Filters(pids=(one.pid,)))
            live.call(lambda: live.engine.remove("opensnoop"))
            live.call(lambda n=number: live.engine.disconnect(f"extra {n}"))
        gc.collect()
        for _ in range(100):  # the engine has files of its own open at times
            if not (left := descriptors() - opened):
                break
            time.sleep(0.05)
        assert not left
        assert threading.active_count() == threads
        assert not alive(kernel_ids(os.getpid()) - before)
    live.end()
    seen = sum(e.emitted - e.filtered for e in live.engine.ledger() if e.stream == "opensnoop/open")
    accounts = [e for e in live.engine.accounts() if e.stream == "opensnoop/open"]
    assert all(e.balanced for e in accounts)
    assert sum(e.received for e in accounts if e.output == "sink") == seen


def test_a_replacement_goes_on_with_the_account(live, opener):
    one = opener()
    sink = Kept()
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.engine.add(open_source("opensnoop"))
    live.start()
    one.opens(10)
    live.call(lambda: live.engine.replace("opensnoop", open_source("opensnoop")))
    one.opens(20)
    until(lambda: sink.pids.total() == 30)
    assert [e[:3] for e in live.engine.ledger()] == [("opensnoop/open", 30, 0)]
    live.end()
    assert live.engine.accounts()[0][2:] == (30, 0, 30, {}, 0)


def test_what_cannot_take_a_sources_place_leaves_it_running(live, opener):
    one = opener()
    sink = Kept()
    live.connect("sink", sink, Filters(pids=(one.pid,)))
    live.engine.add(open_source("opensnoop"))
    live.start()
    with pytest.raises(BadSetting, match="no_such"):
        live.call(lambda: live.engine.replace("opensnoop", open_source("process"), Options({"no_such": 1})))
    with pytest.raises(KeyError):
        live.call(lambda: live.engine.replace("process", open_source("process")))
    one.opens(20)
    live.end()
    assert sink.pids == {one.pid: 20}


def test_a_name_is_given_once(live):
    live.engine.add(open_source("process"))
    source = open_source("process")
    with pytest.raises(ValueError, match="'process' already"):
        live.engine.add(source)
    live.start()
    with pytest.raises(ValueError, match="'process' already"):
        live.call(lambda: live.engine.add(source))
    source.spec.close()


# Rows made in user space

ALERT = declare(
    "alert", "something is wrong", [ColumnDeclaration("time", "time_ns_t"), ColumnDeclaration("pid", "pid_t")]
)


def alerts(*pids: int) -> Batch:
    return Batch.made(ALERT, [{"time": 1, "pid": pid} for pid in pids], [ON_HOST] * len(pids))


def test_rows_made_in_python_go_the_way_of_all_rows(live):
    made = PythonSource("rules", {"alert": ALERT})
    first, second = Kept(), Kept()
    live.engine.add(made)
    live.connect("first", first)
    live.connect("second", second, Filters(pids=(2,)))
    live.start()
    emitting = [threading.Thread(target=made.emit, args=("alert", alerts(1, 2, 2))) for _ in range(20)]
    for thread in emitting:
        thread.start()
    for thread in emitting:
        thread.join()
    until(lambda: first.pids.total() == 60)
    live.end()
    assert first.pids == {1: 20, 2: 40}
    assert second.pids == {2: 40}
    assert {b.identities[0].state for b in first.batches} == {"host"}
    assert live.engine.ledger()[0][:4] == ("rules/alert", 60, 0, 0)
    assert all(entry.balanced for entry in live.engine.accounts())


def test_rows_that_find_no_room_are_lost_and_counted():
    made = PythonSource("rules", {"alert": ALERT})
    assert made.emit("alert", alerts(*[1] * 65536))
    assert not made.emit("alert", alerts(1, 2))
    assert made.streams[0].count()[:2] == (65536, 2)
    with pytest.raises(KeyError):
        made.emit("profile", alerts(1))
    with pytest.raises(ValueError, match="'other'"):
        made.emit("alert", Batch.made(declare("other", "", [ColumnDeclaration("x", "__u32")]), [{"x": 1}]))


# Commands


def test_commands_are_called_by_the_engines_thread_in_their_order(live):
    live.start()
    order: list[int] = []
    futures = [live.engine.submit(lambda n=n: (order.append(n), threading.current_thread().name)[1]) for n in range(50)]
    assert {future.result(60) for future in futures} == {"engine"}
    assert order == list(range(50))
    failing = live.engine.submit(lambda: 1 / 0)
    assert isinstance(failing.exception(60), ZeroDivisionError)
    inner = live.engine.submit(lambda: live.engine.submit(lambda: 7).result(0)).result(60)
    assert inner == 7
    live.end()


def test_a_closed_engine_takes_no_commands():
    needs.root()
    opened = descriptors()
    with Engine() as engine:
        waiting = engine.submit(lambda: 1)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(lambda: 1)
    assert descriptors() == opened


def test_an_engine_without_sources_or_outputs_runs_until_it_is_stopped(live: Live):
    live.start()
    assert live.engine.submit(lambda: 3).result(60) == 3
    live.end()
    assert live.engine.ledger() == []


def test_a_tracker_that_makes_its_rows_may_come_later_and_knows_what_was_there(live, docker: Docker):
    sink = Kept()
    live.connect("sink", sink)
    live.start()
    name = f"late-{os.getpid()}"
    docker.run("run", "-d", "--name", name, docker.image, "sleep", "1000")
    live.call(lambda: live.engine.add(open_source("container")))
    docker.run("rm", "-f", name)
    until(lambda: any("exited" in batch.values("event") for batch in sink.batches))
    live.call(lambda: live.engine.remove("container"))
    live.end()
    rows = [
        (event, row)
        for batch in sink.batches
        for event, row in zip(batch.values("event"), batch.values("container.name"), strict=True)
        if row == name
    ]
    assert ("exited", name) in rows
    assert ("started", name) not in rows
    assert all(entry.balanced for entry in live.engine.accounts())
