# SPDX-License-Identifier: BSD-2-Clause
"""Several handlers share one hook: each sees every event, and they come and go without a trace."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import needs
from tests.kernel import compiled

from eunomia.kernel.errors import Absent
from eunomia.kernel.hooks import shared
from eunomia.kernel.hooks.chain import LIMIT, Handler, TooManyHandlers
from eunomia.kernel.hooks.place import Place
from eunomia.kernel.libbpf import lib
from eunomia.kernel.loaded import Loaded


@pytest.fixture(autouse=True)
def _as_root():
    needs.root()


# Counts the calls of prctl(PR_SET_NAME) that this process makes, by the tracepoint that tells of new names.
COUNTER = """
#include <eunomia/hook.h>
char LICENSE[] SEC("license") = "Dual BSD/GPL";
const volatile __u32 target = 0;
const volatile __u32 step = 1;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
HANDLER(SECTION, count, void *task)
{
	__u32 zero = 0;
	__u64 *value = bpf_map_lookup_elem(&seen, &zero);

	if (value && bpf_get_current_pid_tgid() >> 32 == target)
		__sync_fetch_and_add(value, step);
}
"""
RAW = "raw_tp/task_rename"
PLACE = Place("raw_tp", "task_rename")


def counter(section: str = RAW, **settings: int) -> Loaded:
    source = COUNTER.replace("SECTION", f'"{section}"')
    return Loaded(compiled.spec(source), set_={"target": os.getpid(), **settings})


def seen(live: Loaded) -> int:
    return int.from_bytes(live.maps["seen"].lookup(bytes(4)) or b"", "little")


def rename(times: int = 1) -> None:
    for _ in range(times):
        Path("/proc/self/comm").write_text(Path("/proc/self/comm").read_text())


def hooked() -> list[str]:
    """Return the BPF programs, maps and links that this process holds, by what it calls them."""
    held = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(name for name in held if re.search("bpf|perf_event", name))


@contextlib.contextmanager
def attached(*objects: Loaded) -> Iterator[tuple[Loaded, ...]]:
    try:
        for live in objects:
            live.attach()
        yield objects
    finally:
        for live in objects:
            live.close()


@pytest.mark.parametrize("section", [RAW, "tp/task/task_rename"])
def test_each_handler_of_a_hook_sees_every_event(section: str):
    several = [counter(section) for _ in range(5)]
    with attached(*several):
        rename(7)
        assert [seen(live) for live in several] == [7] * 5


def test_one_program_hangs_on_the_hook_from_the_first_handler_to_the_last():
    before = hooked()
    first, second = counter(), counter()
    loaded = hooked()
    first.attach()
    alone = hooked()
    second.attach()
    assert hooked() == alone
    assert len(alone) == len(loaded) + 3  # the stub, its table, its link
    first.detach()
    assert hooked() == alone
    rename()
    assert (seen(first), seen(second)) == (0, 1)
    second.detach()
    assert hooked() == loaded
    first.close()
    second.close()
    assert hooked() == before


def test_handlers_leave_from_any_place_and_come_again():
    several = [counter() for _ in range(4)]
    with attached(*several):
        for gone in (1, 0, 3, 2):
            several[gone].detach()
            before = [seen(live) for live in several]
            rename(3)
            after = [seen(live) - was for live, was in zip(several, before, strict=True)]
            assert after == [0 if i == gone else 3 for i in range(4)]
            several[gone].attach()


def test_nothing_is_left_after_many_rounds():
    stays = counter()
    with attached(stays):
        before = hooked()
        for _ in range(100):
            live = counter()
            live.attach()
            live.close()
        assert hooked() == before
        rename()
        assert seen(stays) == 1


def test_an_event_meets_the_old_handler_or_the_new_one_and_never_both():
    """Each call is counted by one of two objects, while they take each other's place without end."""
    head, one, two, tail = (counter() for _ in range(4))
    handlers = [Handler(lib.bpf_program__fd(live.programs()[0]), live.maps["next_count"].fd) for live in (one, two)]
    with attached(head), contextlib.closing(one), contextlib.closing(two), contextlib.closing(tail):
        link = shared.attach(PLACE, handlers[0])
        tail.attach()
        over = threading.Event()

        def swap() -> None:
            at = 0
            while not over.is_set():
                at = 1 - at
                link.replace(handlers[at])

        swapping = threading.Thread(target=swap)
        swapping.start()
        rename(20_000)
        over.set()
        swapping.join()
        assert seen(one) + seen(two) == 20_000
        assert min(seen(one), seen(two)) > 0
        assert (seen(head), seen(tail)) == (20_000, 20_000)
        link.close()
        lib.eu_settle()


def test_more_handlers_than_the_kernel_calls_are_refused_and_the_others_go_on():
    several = [counter() for _ in range(LIMIT)]
    one_more = counter()
    with attached(*several), contextlib.closing(one_more):
        with pytest.raises(TooManyHandlers, match=f"raw_tp/task_rename has {LIMIT} handlers"):
            one_more.attach()
        assert not one_more.is_attached
        rename(2)
        assert [seen(live) for live in several] == [2] * LIMIT


def test_a_hook_that_the_kernel_has_not_is_named_and_nothing_is_left():
    live = counter("raw_tp/no_such_thing")
    before = hooked()
    with pytest.raises(Absent, match="no tracepoint no_such_thing"):
        live.attach()
    assert hooked() == before
    live.close()
