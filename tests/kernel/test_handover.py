# SPDX-License-Identifier: BSD-2-Clause
"""One object takes another's place on its hooks: no event is seen by both, or by neither."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from tests import needs
from tests.kernel import compiled
from tests.run.conftest import alive, kernel_ids

from eunomia.kernel.errors import KernelError, Unsupported
from eunomia.kernel.handover import Handover
from eunomia.kernel.loaded import Loaded

SWAPS = 40


@pytest.fixture(autouse=True)
def _as_root():
    needs.root()


# Counts events of one process, by the generation of the program that saw each.
COUNTS = """
#include <eunomia/probe.h>
const volatile __u32 target = 0;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
static int count(void)
{
	__u32 generation = GENERATION;
	__u64 *value = bpf_map_lookup_elem(&seen, &generation);

	if (value && bpf_get_current_pid_tgid() >> 32 == target)
		__sync_fetch_and_add(value, 1);
	return 0;
}
SEC(SECTION) int on_event(void *ctx) { return count(); }
"""

LIBC = ctypes.CDLL(None)


def loaded(section: str, generation: int, before: Loaded | None = None, source: str = COUNTS, **options) -> Loaded:
    text = source.replace("SECTION", f'"{section}"').replace("GENERATION", str(generation % 2))
    live = Loaded(compiled.spec(text), set_={"target": os.getpid()}, before=before, swappable=True, **options)
    try:
        live.attach()
    except BaseException:
        live.close()
        raise
    return live


def seen(live: Loaded) -> tuple[int, int]:
    handle = live.maps["seen"]
    one, other = (int.from_bytes((handle.lookup(bytes([n, 0, 0, 0])) or b"")[:8], "little") for n in (0, 1))
    return one, other


class Calls:
    """A thread that does something over and over; ``count`` is how often."""

    def __init__(self, call) -> None:
        self.count = 0
        self._call = call
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._call()
            self.count += 1

    def __enter__(self) -> Calls:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._thread.join()


def swapped(live: Loaded, calls: Calls, section: str = "", **options) -> Loaded:
    """Replace an object again and again while it is called; return the last one."""
    for generation in range(1, SWAPS + 1):
        new = loaded(section, generation, live, **options)
        handover = Handover(live, new)
        handover.swap()
        assert not handover.twice
        live.close()
        live = new
        done = calls.count
        while calls.count < done + 2:
            pass
    return live


HOOKS = {
    "tp/syscalls/sys_enter_getppid": os.getppid,
    "tp/syscalls/sys_enter_{getppid,umask}": os.getppid,
    "raw_tp/task_rename": lambda: rename(),
    "tp_btf/task_rename": lambda: rename(),
    "kprobe/do_nanosleep": lambda: LIBC.usleep(1),
    "fentry/do_nanosleep": lambda: LIBC.usleep(1),
    "fexit/do_nanosleep": lambda: LIBC.usleep(1),
}


@pytest.fixture
def libc() -> Iterator[str]:
    """The file of the C library that this process uses."""
    with open("/proc/self/maps", encoding="utf-8") as file:
        yield next(line.split()[-1] for line in file if "/libc.so.6" in line)


@pytest.mark.parametrize("section", ["uprobe", "uretprobe", *HOOKS])
def test_swaps_under_load_lose_nothing_and_double_nothing(section, libc):
    call = HOOKS.get(section, LIBC.getppid)
    if section not in HOOKS:
        section = f"{section}/{libc}:getppid"
    try:
        live = loaded(section, 0)
    except Unsupported as error:
        pytest.skip(str(error))
    with Calls(call) as calls:
        live = swapped(live, calls, section)
    live.detach()
    assert sum(seen(live)) == calls.count
    assert min(seen(live)) > SWAPS // 2
    live.close()


def test_the_old_object_gets_its_hooks_back():
    old = loaded("tp/syscalls/sys_enter_getppid", 0)
    new = loaded("tp/syscalls/sys_enter_getppid", 1, old)
    handover = Handover(old, new)
    os.getppid()
    handover.swap()
    os.getppid()
    os.getppid()
    assert not old.is_attached
    handover.back()
    for _ in range(4):
        os.getppid()
    assert not new.is_attached
    new.close()
    assert seen(old) == (5, 2)
    old.close()
    os.getppid()


TWO = (
    COUNTS
    + """
SEC("raw_tp/task_rename") int on_rename(void *ctx) { return count(); }
"""
)


def rename() -> None:
    assert LIBC.prctl(15, b"renamed") == 0


def test_hooks_that_only_one_of_the_two_has_come_and_go():
    old = loaded("tp/syscalls/sys_enter_getppid", 0)
    new = loaded("tp/syscalls/sys_enter_getpgid", 1, old, source=TWO)
    rename()
    os.getpgid(0)
    assert seen(old) == (0, 0)  # attached, and empty yet
    handover = Handover(old, new)
    handover.swap()
    os.getppid()
    os.getpgid(0)
    rename()
    assert seen(new) == (0, 2)
    handover.back()
    os.getpgid(0)
    rename()
    os.getppid()
    assert seen(old) == (1, 2)
    new.close()
    old.close()


def test_a_program_of_another_name_takes_over_what_hangs_on_the_same_hook():
    old = loaded("raw_tp/task_rename", 0)
    new = loaded("raw_tp/task_rename", 1, old, source=COUNTS.replace("on_event", "on_another"))
    assert list(new.to_take) == ["on_another"]
    handover = Handover(old, new)
    handover.swap()
    rename()
    assert seen(new) == (0, 1)
    assert not handover.twice
    old.close()
    new.close()


def test_what_was_swapped_leaves_nothing_in_the_kernel():
    before = kernel_ids(os.getpid())
    live = loaded("raw_tp/task_rename", 0)
    for generation in range(1, 6):
        new = loaded("raw_tp/task_rename", generation, live)
        Handover(live, new).swap()
        live.close()
        live = new
        last = kernel_ids(os.getpid()) - before
    live.close()
    assert not alive(last)
    assert kernel_ids(os.getpid()) == before


def test_what_cannot_be_swapped_is_attached_beside_the_old_and_says_so(libc):
    section = f"uprobe.s/{libc}:getppid"
    old = loaded(section, 0)
    new = loaded(section, 1, old)
    handover = Handover(old, new)
    handover.swap()
    assert handover.twice == ["on_event"]
    LIBC.getppid()
    assert seen(new) == (0, 1)
    handover.back()
    LIBC.getppid()
    assert seen(old) == (1, 1)
    new.close()
    old.close()


# What the kernel refuses when a program is attached it refuses when one takes another's place


def test_a_program_that_reads_more_of_a_record_than_there_is_is_refused():
    reads = COUNTS.replace("return count(); }", "return ((volatile char *)ctx)[PLACE] == 77 ? 1 : count(); }")
    section = "tp/task/task_rename"
    old = loaded(section, 0, source=reads.replace("PLACE", "12"))
    new = loaded(section, 1, old, source=reads.replace("PLACE", "20"))
    Handover(old, new).swap()
    for before in (None, new):
        with pytest.raises(KernelError):
            loaded(section, 0, before, source=reads.replace("PLACE", "500"))
    rename()
    assert seen(new)[1] == 1
    new.close()
    old.close()


@pytest.mark.parametrize(("words", "fits"), [(1, True), (2, True), (3, False), (12, False)])
def test_a_program_that_reads_more_arguments_than_a_raw_tracepoint_has_is_refused(words, fits):
    section = "raw_tp/task_rename"  # (task, comm)
    reads = COUNTS.replace("return count(); }", "return ((volatile __u64 *)ctx)[PLACE] == 77 ? 1 : count(); }")
    old = loaded(section, 0)
    source = reads.replace("PLACE", str(words - 1))
    if fits:
        new = loaded(section, 1, old, source=source)
        Handover(old, new).swap()
        rename()
        assert seen(new)[1] == 1
        new.close()
    else:
        for before in (None, old):
            with pytest.raises(KernelError):
                loaded(section, 1, before, source=source)
        rename()
        assert seen(old)[0] == 1
    old.close()


# Kinds whose links the kernel updates

PACKETS = COUNTS.replace(
    "SEC(SECTION) int on_event(void *ctx) { return count(); }",
    """
SEC(SECTION) int on_event(struct __sk_buff *ctx)
{
	__u32 generation = GENERATION;
	__u64 *value = bpf_map_lookup_elem(&seen, &generation);

	if (value && ctx->len == 333)
		__sync_fetch_and_add(value, 1);
	return RESULT;
}
""",
)
PAYLOAD = {"cgroup_skb": 305, "tcx": 291, "tc": 291, "socket": 291, "xdp": 291}  # bytes, with headers 333
XDP = COUNTS.replace(
    "SEC(SECTION) int on_event(void *ctx) { return count(); }",
    """
SEC(SECTION) int on_event(struct xdp_md *ctx)
{
	__u32 generation = GENERATION;
	__u64 *value = bpf_map_lookup_elem(&seen, &generation);

	if (value && (long)ctx->data_end - (long)ctx->data == 333)
		__sync_fetch_and_add(value, 1);
	return 2;
}
""",
)


@pytest.mark.parametrize(("section", "target"), [
    ("cgroup_skb/egress", ""), ("tc", "lo:egress"), ("socket", "lo"), ("xdp", "lo:generic"),
])  # fmt: skip
def test_links_that_the_kernel_updates_lose_nothing_either(section, target):
    kind = section.partition("/")[0]
    result = {"cgroup_skb": "1", "tc": "-1", "socket": "0"}.get(kind, "")
    source = XDP if kind == "xdp" else PACKETS.replace("RESULT", result)
    options = {"targets": {"on_event": [target]}} if target else {}
    try:
        live = loaded(section, 0, source=source, **options)
    except Unsupported as error:
        pytest.skip(str(error))
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(receiver.getsockname())
    data = b"x" * PAYLOAD[kind]

    def packet() -> None:
        sender.send(data)
        receiver.recv(1000)

    with Calls(packet) as calls:
        live = swapped(live, calls, section, source=source, **options)
    times = 2 if kind == "socket" else 1  # it sees what leaves lo, and what comes
    assert sum(seen(live)) == times * calls.count
    live.close()
    receiver.close()
    sender.close()


# Handlers on shared hooks

CALLS = """
#include <eunomia/syscall.h>
#include <eunomia/stream.h>
char LICENSE[] SEC("license") = "Dual BSD/GPL";
const volatile __u32 target = 0;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
HANDLER
{
	__u32 generation = GENERATION;
	__u64 *value = bpf_map_lookup_elem(&seen, &generation);

	if (value && bpf_get_current_pid_tgid() >> 32 == target)
		__sync_fetch_and_add(value, 1);
}
"""


def handling(calls: str) -> str:
    return CALLS.replace("HANDLER", calls)


def test_handlers_of_system_calls_are_swapped_under_load():
    source = handling("SYSCALL_EXIT(on_calls, getpgid, getsid)")
    live, beside = loaded("", 0, source=source), loaded("", 0, source=source)
    with Calls(lambda: os.getpgid(0)) as calls:
        live = swapped(live, calls, source=source)
    live.detach()
    assert sum(seen(live)) == seen(beside)[0] == calls.count
    live.close()
    beside.close()


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("SYSCALL_EXIT(on_calls, getpgid)", "SYSCALL_EXIT(on_calls, getpgid, getsid)", (1, 2)),
        ("SYSCALL_EXIT(on_calls, getpgid, getsid)", "SYSCALL_EXIT(on_calls, getsid)", (2, 1)),
        ("SYSCALL_EXIT(on_calls, getsid)", "SYSCALL_EXIT(on_calls, getpgid)", (1, 1)),
    ],
)
def test_a_handler_may_name_other_calls_than_the_one_that_it_replaces(before, after, counts):
    def act() -> None:
        os.getpgid(0)
        os.getsid(0)

    old = loaded("", 0, source=handling(before))
    act()
    new = loaded("", 1, old, source=handling(after))
    handover = Handover(old, new)
    handover.swap()
    act()
    assert seen(new) == counts
    handover.back()
    act()
    assert seen(old) == (2 * counts[0], counts[1])
    new.close()
    old.close()
