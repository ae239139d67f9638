# SPDX-License-Identifier: BSD-2-Clause
"""A source is replaced while it runs: no event is lost or doubled, and what does not work changes nothing."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from eunomia.batch import Batch
from eunomia.engine.trial import TrialFailed
from eunomia.filters import Filters
from eunomia.kernel.errors import KernelError, MapChanged, VerifierError
from eunomia.sinks import StreamInfo
from eunomia.source import Options, Source, open_source
from tests import needs
from tests.engine.conftest import Kept, Live, until
from tests.engine.test_sources import descriptors
from tests.kernel import compiled
from tests.run.conftest import alive, kernel_ids
from tests.runtimes.docker import Docker

SWAPS = 25  # bench/swap.py does 500

# Each call of getppid() is a record with a number of its own, which goes on from program to program.
FLOOD = """
#include <eunomia/probe.h>
const volatile __u32 target = 0;
const volatile __u32 factor = 1;
struct event { time_ns_t time; __u64 number; __u32 factor; };
STREAM(events, struct event, 1 << 24);
__u64 seen = 0;
SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct event event = {};

	if (bpf_get_current_pid_tgid() >> 32 != target)
		return 0;
	event.time = bpf_ktime_get_ns();
	event.number = __sync_fetch_and_add(&seen, 1);
	event.factor = factor;
	stream_output(events, &event, sizeof(event));
	return 0;
}
"""
WIDER = FLOOD.replace("__u32 factor; };", "__u32 factor; __u64 more; };").replace(
    "event.factor = factor;", "event.factor = factor;\n\tevent.more = 7;"
)
SILENT = FLOOD.replace("if (bpf_get", "if (1 || bpf_get")
REFUSED = FLOOD.replace("event.factor = factor;", "event.factor = *(__u32 *)(long)event.number;")
OTHER_STATE = FLOOD.replace(
    "__u64 seen = 0;",
    """__u64 seen = 0;
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, VALUE); } state SEC(".maps");
""",
).replace("event.factor = factor;", "event.factor = factor;\n\tbpf_map_lookup_elem(&state, &event.factor);")


class Numbers(Kept):
    """A sink that keeps the numbers of events, and hears of other columns."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Counter[int] = Counter()
        self.heard: list[Sequence[StreamInfo]] = []

    def write(self, batches: Sequence[Batch]) -> None:
        super().write(batches)
        for batch in batches:
            if "number" in batch.schema.fields:
                self.numbers.update(batch.raw("number"))

    def adapt(self, streams: Sequence[StreamInfo]) -> None:
        self.heard.append(streams)


def source(text: str, name: str = "flood") -> Source:
    return Source(name, compiled.spec(text, name))


def started(live: Live, text: str = FLOOD, **settings: object) -> Numbers:
    """Run the source, for the calls of this process; its own rows are asked for."""
    sink = Numbers()
    live.engine.add(source(text), Options({"target": os.getpid(), **settings}))
    live.connect("sink", sink, Filters(traces_itself=True))
    live.start()
    return sink


class Calling:
    """A thread that calls getppid, up to 100,000 times a second."""

    def __init__(self) -> None:
        self.count = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        getppid = ctypes.CDLL(None).getppid
        while not self._ending.is_set():
            for _ in range(100):
                getppid()
            self.count += 100
            time.sleep(0.001)  # the ring has room for seconds of this

    def __enter__(self) -> Calling:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._thread.join()


def calls(times: int) -> None:
    for _ in range(times):
        os.getppid()


def total(live: Live) -> tuple[int, int | None]:
    (entry,) = [e for e in live.engine.ledger() if e.stream == "flood/events"]
    return entry.emitted, entry.lost


@pytest.mark.parametrize("others", [(FLOOD,), (WIDER, FLOOD)], ids=["the same ring", "a new ring each time"])
def test_replacements_under_load_lose_and_double_nothing(live, others):
    sink = started(live)
    with Calling() as calling:
        for at in range(SWAPS):
            done = calling.count
            live.engine.replace("flood", source(others[at % len(others)]))
            until(lambda: calling.count > done)  # noqa: B023
    until(lambda: sink.numbers.total() == calling.count, (sink.numbers.total(), calling.count))
    live.end()
    assert sink.numbers == Counter(range(calling.count))
    assert total(live) == (calling.count, 0)
    assert all(e.balanced for e in live.engine.accounts())


def test_a_stream_with_other_columns_is_shown_with_them_and_its_account_goes_on(live):
    sink = started(live)
    calls(3)
    live.engine.replace("flood", source(WIDER))
    calls(4)
    until(lambda: sink.numbers.total() == 7)
    assert ["more" in streams[0].schema.fields for streams in sink.heard] == [True]
    assert next(b.values("more")[0] for b in sink.batches if "more" in b.schema.fields) == 7
    live.engine.replace("flood", source(WIDER))
    assert len(sink.heard) == 1
    assert total(live) == (7, 0)


def test_settings_go_on_until_others_are_given(live):
    sink = started(live, factor=3)
    calls(1)
    live.engine.replace("flood", source(FLOOD))
    calls(1)
    live.engine.replace("flood", source(FLOOD), Options({"target": os.getpid(), "factor": 4}))
    calls(1)
    until(lambda: sink.numbers.total() == 3)
    assert [x for b in sink.batches for x in b.raw("factor")] == [3, 3, 4]


def test_filters_go_on_and_change_what_the_new_programs_see(live, opener):
    one, other = opener(), opener()
    sink = Kept()
    live.engine.add(open_source("opensnoop"))
    live.connect("first", sink, Filters(pids=(one.pid,)))
    live.start()
    for _ in range(2):
        live.engine.replace("opensnoop", open_source("opensnoop"))
        one.opens(10)
        other.opens(10)
    until(lambda: sink.pids.total() == 20)
    second = Kept()
    live.connect("second", second, Filters(pids=(other.pid,)))
    one.opens(5)
    other.opens(5)
    live.engine.replace("opensnoop", open_source("opensnoop"))
    live.call(lambda: live.engine.disconnect("first"))
    one.opens(7)
    other.opens(7)
    until(lambda: second.pids.total() == 12)
    assert sink.pids == {one.pid: 25}
    assert second.pids == {other.pid: 12}


@pytest.mark.parametrize(("text", "error", "words"), [
    (REFUSED, VerifierError, "refused"),
    (FLOOD.replace("tp/syscalls/sys_enter_getppid", "tp/syscalls/sys_enter_nothing"), KernelError, "sys_enter_nothing"),
], ids=["the verifier", "no such hook"])  # fmt: skip
def test_what_cannot_run_changes_nothing(live, text, error, words):
    sink = started(live)
    before = kernel_ids(os.getpid())
    with Calling() as calling:
        for _ in range(3):
            with pytest.raises(error, match=words):
                live.engine.replace("flood", source(text))
    until(lambda: sink.numbers.total() == calling.count)
    assert sink.numbers == Counter(range(calling.count))
    assert not alive(kernel_ids(os.getpid()) - before)
    live.engine.replace("flood", source(FLOOD))


def test_a_map_that_differs_is_refused_unless_it_may_begin_empty(live):
    sink = started(live, OTHER_STATE.replace("VALUE", "__u32"))
    other = OTHER_STATE.replace("VALUE", "__u64")
    with pytest.raises(MapChanged, match="value of map state is __u64 and was __u32"):
        live.engine.replace("flood", source(other))
    calls(2)
    live.engine.replace("flood", source(other), fresh_maps=True)
    calls(2)
    until(lambda: sink.numbers == Counter(range(4)))


def test_an_output_whose_filter_the_new_records_cannot_serve_keeps_the_old_one(live):
    from eunomia.kernel.errors import BadSetting

    text = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { int PID; } *unused;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
SEC("tp/syscalls/sys_enter_getppid") int p(void *ctx)
{
	struct event event = { bpf_get_current_pid_tgid() >> 32 };
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
    sink = Kept()
    live.engine.add(source(text.replace("PID", "pid")))
    live.connect("sink", sink, Filters(pids=(os.getpid(),), traces_itself=True))
    live.start()
    with pytest.raises(BadSetting, match="pid"):
        live.engine.replace("flood", source(text.replace("PID", "other")))
    os.getppid()
    until(lambda: sink.pids.total() >= 1)


# Trials


def test_a_new_one_without_a_sign_of_life_gives_way_to_the_old_one(live):
    sink = started(live)
    with Calling() as calling:
        until(lambda: sink.numbers.total() > 1000)
        future = live.engine.replace("flood", source(SILENT), trial=0.5)
        with pytest.raises(
            TrialFailed, match=r"flood: the new one had no row in events for 0.5 s, and the old one [\d,]+ in"
        ):
            future.result(60 * needs.PATIENCE)
        done = sink.numbers.total()
        until(lambda: sink.numbers.total() > done + 1000)
    live.end()
    emitted, lost = total(live)
    assert lost == 0
    assert emitted == sink.numbers.total() < calling.count
    assert set(sink.numbers.values()) == {1}
    assert sorted(sink.numbers) == list(range(emitted))  # the count in .bss is the old one's still


@pytest.mark.parametrize("text", [FLOOD, WIDER], ids=["the same ring", "a new ring"])
def test_a_new_one_that_lives_stays(live, text):
    sink = started(live)
    with Calling() as calling:
        until(lambda: sink.numbers.total() > 1000)
        future = live.engine.replace("flood", source(text), trial=0.3)
        assert not future.done()
        with pytest.raises(ValueError, match="on trial"):
            live.engine.replace("flood", source(FLOOD))
        assert future.result(60 * needs.PATIENCE) == []
    until(lambda: sink.numbers.total() == calling.count)
    assert sink.numbers == Counter(range(calling.count))
    live.engine.replace("flood", source(FLOOD))


@pytest.mark.parametrize("text", [FLOOD, WIDER], ids=["the same ring", "a new ring"])
def test_where_nothing_happened_before_nothing_has_to_happen_now(live, text):
    started(live)
    calls(5)
    assert live.engine.replace("flood", source(text), trial=0.2).result(60 * needs.PATIENCE) == []


@pytest.mark.parametrize("text", [FLOOD, WIDER], ids=["the same ring", "a new ring"])
def test_accounts_go_on_when_the_old_one_runs_again(live, text):
    silent = text.replace("if (bpf_get", "if (seen > 20000 || bpf_get") + "/* silent after a while */"
    sink = started(live)
    with Calling() as calling:
        until(lambda: sink.numbers.total() > 1000)
        engine = live.engine
        future = engine.replace("flood", source(silent), trial=0.4)
        # what the new one saw counts, whatever becomes of it
        live.call(lambda: engine._go_back(engine._trials["flood"], "asked by the test"))
        with pytest.raises(TrialFailed, match="flood: asked by the test"):
            future.result(60)
    until(lambda: total(live)[0] == sink.numbers.total())
    live.end()
    assert total(live) == (sink.numbers.total(), 0)
    assert set(sink.numbers.values()) == {1}
    assert sink.numbers.total() <= calling.count
    assert [e.stream for e in live.engine.ledger()] == ["flood/events"]


def test_a_source_on_trial_may_be_removed_and_the_engine_may_end(live):
    started(live)
    before = kernel_ids(os.getpid())
    first = live.engine.replace("flood", source(FLOOD), trial=30)
    live.call(lambda: live.engine.remove("flood"))
    assert first.result(0) == []
    live.call(lambda: live.engine.add(source(FLOOD), Options({"target": os.getpid()})))
    second = live.engine.replace("flood", source(WIDER), trial=30)
    live.end()
    live.engine.close()
    assert second.done()
    assert not alive(before)


def test_many_replacements_leave_nothing_behind(live):
    started(live)
    live.engine.replace("flood", source(WIDER))
    live.engine.replace("flood", source(FLOOD))
    before = len(kernel_ids(os.getpid()))
    opened = descriptors()
    for at in range(10):
        live.engine.replace("flood", source(FLOOD if at % 2 else WIDER))
    assert len(kernel_ids(os.getpid())) == before
    until(lambda: not descriptors() - opened, descriptors() - opened)  # the engine has files of its own open at times


def test_a_tracker_that_makes_its_rows_is_replaced_and_tells_each_thing_once(live, docker: Docker):
    sink = Kept()
    live.engine.add(open_source("container"))
    live.connect("sink", sink)
    live.start()
    name = f"swapped-{os.getpid()}"
    docker.run("run", "-d", "--name", name, docker.image, "sleep", "1000")
    rows: Counter[str] = Counter()

    def told(event: str) -> bool:
        rows.clear()
        for batch in list(sink.batches):
            owners = zip(batch.values("event"), batch.values("container.name"), strict=True)
            rows.update(what for what, owner in owners if owner == name)
        return event in rows

    until(lambda: told("started"), rows)
    live.engine.replace("container", open_source("container"))
    docker.run("rm", "-f", name)
    until(lambda: told("exited") and told("removed"), rows)
    assert {event: n for event, n in rows.items() if event in {"started", "exited"}} == {"started": 1, "exited": 1}
    live.end()
    assert all(e.balanced for e in live.engine.accounts())


def test_the_table_of_a_tracker_goes_on(live):
    def syscalls(sink: Kept) -> int:
        return sum(
            c for b in sink.batches for c, p in zip(b.raw("count"), b.values("syscall"), strict=True) if p == "getppid"
        )

    sink = Kept()
    live.engine.add(open_source("syscall"))
    live.connect("sink", sink, Filters(pids=(os.getpid(),), traces_itself=True))
    live.start()
    for _ in range(5):
        calls(10)
        live.engine.replace("syscall", open_source("syscall"))
    live.end()
    assert syscalls(sink) == 50
