# SPDX-License-Identifier: BSD-2-Clause
"""Handlers of system calls see the calls that they name, by every ABI, and nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading

import pytest
from tests import needs
from tests.kernel import compiled
from tests.kernel.hooks.test_handlers import attached, hooked

from eunomia.kernel.errors import BadObject
from eunomia.kernel.hooks import functions, syscalls
from eunomia.kernel.hooks.chain import TooManyHandlers
from eunomia.kernel.loaded import Loaded

_libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"


@pytest.fixture(autouse=True)
def _as_root():
    needs.root()


HEAD = """
#include <eunomia/syscall_time.h>
#include <eunomia/stream.h>
char LICENSE[] SEC("license") = "Dual BSD/GPL";
const volatile __u32 target = 0;
struct ended { __u64 now, begun; __s64 ret; __u64 args[6]; __u32 index, number; };
STREAM(ended, struct ended, 1 << 20);
static __always_inline void tell(const struct syscall *call)
{
	struct ended event = {};

	if (target && bpf_get_current_pid_tgid() >> 32 != target)
		return;
	event.now = bpf_ktime_get_ns();
	event.begun = syscall_begun(call);
	event.ret = call->ret;
	event.index = call->index;
	event.number = syscall_number(call);
	event.args[0] = syscall_arg(call, 0);
	event.args[1] = syscall_arg(call, 1);
	event.args[2] = syscall_arg(call, 2);
	event.args[3] = syscall_arg(call, 3);
	event.args[4] = syscall_arg(call, 4);
	event.args[5] = syscall_arg(call, 5);
	stream_output(ended, &event, sizeof(event));
}
"""
ON_GETPGID = HEAD + "SYSCALL_EXIT(on_getpgid, getpgid) { tell(call); }"
ON_SEVERAL = HEAD + "SYSCALL_EXIT(on_several, getpgid, getsid) { if (syscall_is(call, getsid)) tell(call); }"
ON_ANY = HEAD + "SYSCALL_ANY_EXIT(on_any) { tell(call); }"


def load(source: str, target: int | None = None) -> Loaded:
    return Loaded(compiled.spec(source), set_={"target": os.getpid() if target is None else target})


def ended(live: Loaded) -> list:
    rows = []
    while batches := live.readers["ended"].drain():
        rows += [row for batch in batches for row in batch.rows()]
    return rows


def test_a_handler_sees_the_call_that_it_names_with_its_arguments_and_result():
    with attached(live := load(ON_GETPGID)):
        os.getpgid(0)
        os.getsid(0)
        with contextlib.suppress(OSError):
            os.getpgid(999_999_999)
        rows = ended(live)
    assert [(r.args[0], r.ret) for r in rows] == [(0, os.getpgid(0)), (999_999_999, -3)]
    assert all(r.index == r.number for r in rows)


def test_when_the_call_began_is_known_to_each_handler_once():
    several = [load(ON_GETPGID) for _ in range(3)]
    with attached(*several):
        for _ in range(100):
            os.getpgid(0)
        for live in several:
            rows = ended(live)
            assert len(rows) == 100
            assert all(0 < r.now - r.begun < 10**9 for r in rows)
            assert len({r.begun for r in rows}) == 100


REFUSED = """
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, code };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	for (int i = 0; i < 3; i++) { syscall(SYS_getpgid, 0); syscall(SYS_getpgid, 7); }
	return 0;
}
"""


def test_a_call_that_seccomp_refused_has_no_beginning_and_not_that_of_the_one_before():
    with attached(live := load(ON_GETPGID, 0)):
        child = subprocess.Popen([compiled.native(REFUSED)])
        assert child.wait() == 0
        rows = [r for r in ended(live) if r.args[0] == 7]
    assert len(rows) == (0 if functions.works() else 3)  # the function of the call is not reached then
    assert all((r.ret, r.begun) == (-1, 0) for r in rows)


def test_handlers_of_a_call_and_of_any_call_see_it_each_once():
    with attached(load(ON_GETPGID), load(ON_ANY), load(ON_SEVERAL), load(ON_ANY)) as lives:
        for _ in range(10):
            os.getpgid(0)
            os.getsid(0)
        one, any_, other, second = (ended(live) for live in lives)
    assert len(one) == len(other) == 10
    getpgid, getsid = one[0].number, other[0].number
    for rows in (any_, second):
        assert [r.number for r in rows if r.number in {getpgid, getsid}] == [getpgid, getsid] * 10


def test_handlers_of_any_call_see_numbers_that_no_call_has():
    with attached(live := load(ON_ANY)):
        for number in (1029, 5000, 0xFFFFFFFF, 9999):
            _libc.syscall(ctypes.c_long(number))
        rows = ended(live)
    odd = [(r.number, r.index) for r in rows if r.number > 1000]
    assert odd == [(1029, 3072), (5000, 3072), (0xFFFFFFFF, 3072), (9999, 3072)]


FOREIGN = """
#include <unistd.h>
static long ia32(long number, long a, long b, long c)
{
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "0"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return ret;
}
int main(void)
{
	ia32(132, 0, 11, 12);			/* getpgid */
	syscall(0x40000000 | 121, 0, 21, 22);	/* getpgid by x32 */
	ia32(121, 0, 0, 0);			/* setdomainname: the number of getpgid by the native ABI */
	syscall(132, 0, 0);			/* utime: the number of getpgid by the 32-bit one */
	return 0;
}
"""


@pytest.mark.skipif(not X86, reason="x86_64 alone has these ABIs")
def test_other_abis_calls_are_seen_under_their_own_numbers():
    with attached(live := load(ON_GETPGID, 0)):
        child = subprocess.Popen([compiled.native(FOREIGN)])
        assert child.wait() == 0
        rows = [r for r in ended(live) if r.index != r.number]
    by_x32 = [] if functions.works() and not rows[1:] else [(2048 + 121, [21, 22])]  # a kernel may not have it
    assert [(r.index, list(r.args[1:3])) for r in rows] == [(1024 + 132, [11, 12]), *by_x32]


def test_nothing_hangs_on_system_calls_before_the_first_handler_and_after_the_last():
    before = hooked()
    for _ in range(20):
        with attached(load(ON_GETPGID), load(ON_ANY), load(ON_SEVERAL)):
            pass
        assert hooked() == before


def test_handlers_come_and_go_while_calls_are_made_and_the_others_miss_none():
    stays, over = load(ON_GETPGID), threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            for source in (ON_GETPGID, ON_ANY):
                live = load(source, 1)
                live.attach()
                live.close()

    with attached(stays):
        moving = threading.Thread(target=come_and_go)
        moving.start()
        count = 0
        for _ in range(100):
            for _ in range(50):
                os.getpgid(0)
            count += len(ended(stays))
        over.set()
        moving.join()
    assert count == 5000


def test_too_many_handlers_of_a_call_are_refused_by_name():
    most = 32 if functions.works() else 23
    several = [load(ON_GETPGID) for _ in range(most + 1)]
    with attached(*several[:-1]):
        with pytest.raises(TooManyHandlers, match=f"{most} handlers"):
            several[-1].attach()
        os.getpgid(0)
        assert [len(ended(live)) for live in several[:-1]] == [1] * most
    several[-1].close()


@pytest.mark.parametrize("section", ["syscall_exit/open", "syscall_exit/open:1,2", "syscall_exit/open:a,2,3"])
def test_a_section_that_names_no_numbers_is_refused(section: str):
    with pytest.raises(BadObject, match="not NAME:NATIVE,COMPAT,X32"):
        syscalls.calls(section)


# Where the kernel has fentry


@pytest.fixture
def _fentry():
    if not functions.works():
        pytest.skip("not supported by this kernel: fexit programs on the functions of system calls")


@pytest.mark.usefixtures("_fentry")
def test_handlers_hang_on_the_functions_of_their_calls_and_nothing_hangs_on_the_others():
    before = hooked()
    with attached(load(ON_GETPGID), load(ON_SEVERAL)) as (one, other):
        assert [key for key in syscalls._hosts if not key[1]] == []
        for _ in range(10):
            os.getpgid(0)
            os.getsid(0)
        rows = ended(one)
        assert len(rows) == len(ended(other)) == 10
        assert all(0 < r.now - r.begun < 10**10 for r in rows)
    assert syscalls._hosts == {}
    assert hooked() == before


@pytest.mark.usefixtures("_fentry")
def test_calls_without_such_a_function_are_seen_by_the_program_on_all_calls():
    """getppid takes no arguments, so its function is of another prototype."""
    getppid = "getppid:110,64,110" if X86 else "getppid:173,64,9999"
    assert not functions.usable(syscalls.calls(f"syscall_exit/{getppid}"))
    with attached(live := load(HEAD + "SYSCALL_EXIT(on_getppid, getppid, getpgid) { tell(call); }")):
        assert ("sys_exit", False) in syscalls._hosts
        os.getppid()
        os.getpgid(0)
        assert len(ended(live)) == 2
