# SPDX-License-Identifier: BSD-2-Clause
"""Whose a stranger's row is: by the process that it is about, not by another that it names."""

import os
import struct
import threading

import pytest

from eunomia.batch import Batch
from eunomia.containers.process_cgroups import AGAIN, STEADY, ProcessCgroups
from eunomia.identity import UNKNOWN_IDENTITY
from eunomia.process_field import ProcessField, candidates, of_process, of_us, process_field
from eunomia.processes.running_processes import process_of
from tests.kernel.test_schema import schema_of

HEAD = "#include <linux/bpf.h>\ntypedef int pid_t;\nstruct proc { __u32 pid, tid; char comm[16]; };\n"


def schema(members):
    return schema_of(f"{HEAD}struct event {{ {members} }};")


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ("__u32 pid;", ProcessField("pid", threads=True)), ("__u32 pid, tid;", ProcessField("pid")), ("__u32 pid, tgid;", ProcessField("tgid")),
        ("__u32 tgid, pid;", ProcessField("tgid")), ("__u64 pid_tgid;", ProcessField("pid_tgid", pair=True)),
        ("__u64 pid;", ProcessField("pid", threads=True, pair=True)), ("__u32 tid;", ProcessField("tid", threads=True)),
        ("struct proc proc; __u32 what;", ProcessField("proc.pid")), ("struct proc parent, proc;", ProcessField("proc.pid")),
        ("struct proc parent, who_did;", ProcessField("who_did.pid")), ("__u32 ppid; struct { int a; struct proc task; } x;", ProcessField("x.task.pid")),
        ("__u32 pid; struct proc proc;", ProcessField("pid", threads=True)), ("struct { pid_t pid; } next, prev; struct proc hdr;", ProcessField("hdr.pid")),
        ("__u32 prev_pid, next_pid, ppid, child_pid;", None), ("struct proc one, two;", None), ("char pid[8];", None),
        ("struct proc parent;", None), ("struct proc procs[2];", None), ("__u16 pid;", None),
    ],
)  # fmt: skip
def test_the_field_is_chosen_by_what_says_most(members, found):
    assert process_field(schema(members)) == found


def test_where_two_may_be_it_both_are_told():
    assert [one.field for one in candidates(schema("struct proc one, two;"))] == ["one.pid", "two.pid"]


def test_of_a_pair_the_upper_half_is_the_process():
    shape = schema("__u64 pid_tgid;")
    batch = Batch(shape, struct.pack("=QQ", 42 << 32 | 43, 7))
    assert list(process_field(shape).ids(batch)) == [42, 7]


@pytest.fixture
def thread():
    """The id of a thread of this process that runs."""
    there, over = threading.Event(), threading.Event()
    running = threading.Thread(target=lambda: (there.set(), over.wait()))
    running.start()
    there.wait()
    yield running.native_id
    over.set()
    running.join()


def test_a_thread_is_its_processs(thread):
    me = os.getpid()
    assert process_of(thread) == process_of(me) == me
    assert of_process(frozenset({me}), True)(thread)
    assert of_us(me, True)(thread)
    assert of_us(me, True)(me)
    assert not of_process(frozenset({me}), False)(thread)
    assert not of_us(me, True)(1)
    assert not of_process(frozenset({me}), True)(os.getppid())
    assert process_of(2**31 - 1) == 2**31 - 1


class Looks:
    """A registry that counts how often it looks into /proc."""

    def __init__(self):
        self.cgroups = {}
        self.times = 0

    def cgroup_of(self, pid):
        self.times += 1
        return self.cgroups.get(pid)

    def __getitem__(self, cgroup_id):
        return f"of {cgroup_id}"


class TestLately:
    @pytest.fixture
    def now(self):
        return [0]

    @pytest.fixture
    def looks(self):
        return Looks()

    @pytest.fixture
    def lately(self, looks, now):
        return ProcessCgroups(looks, lambda: now[0])

    def test_a_process_that_stays_is_looked_up_once_in_a_while(self, lately, looks, now):
        looks.cgroups[5] = 1
        for now[0] in range(0, STEADY + 1, STEADY // 100):
            assert lately.identities([5]) == {5: "of 1"}
        assert looks.times == 101
        for now[0] in range(STEADY, 2 * STEADY, STEADY // 100):
            assert lately.identities([5]) == {5: "of 1"}
        assert looks.times <= 101 + STEADY // AGAIN

    def test_a_young_process_that_moves_is_told_at_once(self, lately, looks, now):
        looks.cgroups[5] = 1
        assert lately.identities([5]) == {5: "of 1"}
        now[0] += 1
        looks.cgroups[5] = 2
        assert lately.identities([5]) == {5: "of 2"}

    def test_one_that_moves_later_is_told_soon(self, lately, looks, now):
        looks.cgroups[5] = 1
        for now[0] in (0, STEADY // 2, STEADY):
            lately.identities([5])
        looks.cgroups[5] = 2
        now[0] += AGAIN
        assert lately.identities([5]) == {5: "of 2"}
        now[0] += 1
        looks.cgroups[5] = 3
        assert lately.identities([5]) == {5: "of 3"}, "it may be another process"

    def test_one_that_has_ended_is_nobodys(self, lately, looks, now):
        assert lately.identities([5]) == {5: UNKNOWN_IDENTITY}
