# SPDX-License-Identifier: BSD-2-Clause
"""Which programs of an object run, what they hang on, and what is said of the others."""

import ctypes
import gc
import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.foreign.conftest import ARCH
from tests.run.conftest import compiled, run, start  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading BPF programs takes root")

COUNTED = "__u64 count; static __always_inline int add(void) { __sync_fetch_and_add(&count, 1); return 0; }\n"
GETPPID = "tp/syscalls/sys_enter_getppid"


def program(name, section, body="return add();"):
    return f'SEC("{section}") int {name}(void *ctx) {{ {body} }}\n'


def mine(section):
    """A program that counts what this process alone does."""
    return COUNTED + "const volatile int me = 0;\n" + program(
        "p", section, "return bpf_get_current_pid_tgid() >> 32 == me ? add() : 0;"
    )  # fmt: skip


@pytest.fixture
def counted(start, compiled):
    """counted(source, act, *arguments) -> how often its programs ran while act() did."""

    def counted_(source, act, *arguments):
        path = compiled("p", source)
        settings = ["--set", f"me={os.getpid()}"] if " me = " in source else []
        running = start(path, "-o", "json", "--interval", "100ms", *settings, *arguments)
        assert b'"count"' in running.process.stdout.readline(), running.end().err  # rows come when all is attached
        act()
        ended = running.end()
        assert ended.code == 0, ended.err
        counted_.err = ended.err
        return ended.rows[-1]["count"] if ended.rows else 0

    return counted_


def twenty_getppid():
    for _ in range(20):
        os.getppid()


def test_of_twins_one_counts_and_the_other_is_named(counted):
    source = mine("raw_tp/sys_enter").replace(
        "? add() : 0", f"&& ((unsigned long *)ctx)[1] == {needs_number('getppid')} ? add() : 0"
    )
    twin = source.rpartition("SEC(")[2].replace("raw_tp", "tp_btf").replace("int p(", "int q(")
    assert counted(source + f"SEC({twin}", twenty_getppid) == 20
    assert "p is left out: q (tp_btf/sys_enter) does the same" in counted.err
    assert counted(source + f"SEC({twin}", twenty_getppid, "--program", "p", "--program", "q") == 40


@pytest.mark.skipif(not Path("/sys/bus/event_source/devices/kprobe").exists(), reason="this kernel lacks kprobes")
@pytest.mark.parametrize(("better", "worse"), [("fentry", "kprobe"), ("fexit", "kretprobe")])
def test_of_twins_at_a_function_of_the_kernel_one_counts(counted, better, worse):
    source = mine(f"{worse}/do_nanosleep")
    twin = source.rpartition("SEC(")[2].replace(worse, better).replace("int p(", "int q(")
    usleep = ctypes.CDLL(None).usleep
    assert counted(source + f"SEC({twin}", lambda: [usleep(1) for _ in range(20)]) == 20
    assert f"p is left out: q ({better}/do_nanosleep) does the same" in counted.err


def needs_number(call):
    if platform.machine() != "x86_64":
        pytest.skip(f"the number of {call} is written here for x86-64 alone")
    return {"getppid": 110}[call]


def test_one_absent_hook_does_not_stop_the_others(counted):
    source = (
        mine(GETPPID)
        + program("no_tp", "tp/syscalls/sys_enter_no_such_call")
        + program("no_raw", "raw_tp/no_such_tracepoint")
        + program("no_btf", "tp_btf/no_such_tracepoint")
        + program("no_function", "fentry/no_such_function_at_all")
        + program("no_file", "uprobe//no/such/file:main")
        + program("no_symbol", "uprobe//proc/self/exe:no_such_symbol")
        + program("no_device", "xdp")
        + program("no_kind", "sk_skb/stream_parser", "return 1;")
    )
    assert counted(source, twenty_getppid) == 20
    for words in (
        "no_tp is left out: this kernel has no tracepoint syscalls/sys_enter_no_such_call",
        "no_raw, no_btf are left out: this kernel has no tracepoint no_such_tracepoint",
        "this kernel has no function no_such_function_at_all",
        "no_file is left out: there is no file '/no/such/file'",
        "no_symbol is left out: /proc/self/exe has no function 'no_such_symbol'",
        "no_device is left out: it needs a network device: --attach PROGRAM=DEVICE",
        "no_kind is left out: eunomia attaches no programs of this kind (sk_skb/stream_parser)",
    ):
        assert words in counted.err


def test_a_half_without_its_other_half_is_told(counted):
    source = mine("tp/syscalls/sys_enter_getppid") + program("end", "?tp/syscalls/sys_exit_getppid")
    assert counted(source, twenty_getppid) == 20
    assert "end is left out" in counted.err
    assert "p runs without it" in counted.err


def test_what_the_section_leaves_off_runs_when_asked_for(counted):
    source = mine(GETPPID).replace('SEC("tp', 'SEC("?tp') + program("q", "tp/sched/no_such_event")
    assert counted(source, twenty_getppid, "--program", "p") == 20


@pytest.mark.parametrize(
    ("section", "target"),
    [("tp", "syscalls/sys_enter_getppid"), ("raw_tp", "no"), ("uprobe", "libc:getppid"), ("uretprobe", "libc:getppid"),
     ("uprobe//no/such/file:x", "libc:getppid"), ("kprobe/dummy_getppid", "libc:getppid"),
     ("uprobe", f"libc:getppid,pid={os.getpid()}")],
)  # fmt: skip
def test_a_program_hangs_on_what_it_is_told_to(counted, section, target):
    if section == "raw_tp":
        source, target = mine("raw_tp").replace("== me ?", "== me && ((unsigned long *)ctx)[1] == 110 ?"), "sys_enter"
        needs_number("getppid")
    else:
        source = mine(section)
    libc = ctypes.CDLL(None)
    assert counted(source, lambda: [libc.getppid() for _ in range(20)], "--attach", f"p={target}") == 20


def test_several_targets_count_together(counted):
    targets = ["--attach", "p=libc:getppid", "--attach", "p=libc:getpgrp"]
    libc = ctypes.CDLL(None)
    assert counted(mine("uprobe"), lambda: (libc.getppid(), libc.getpgrp()), *targets) == 2


def send(number):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _ in range(number):
            one.sendto(b"twelve bytes", ("127.0.0.1", 9))


@pytest.fixture
def network():
    """A network namespace of our own, entered: nobody else's packets are on its loopback."""
    ip = needs.program("ip", "iproute2")
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x40000000) == 0
    try:
        subprocess.run([ip, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        libc.setns(home, 0x40000000)
        os.close(home)


def qdiscs():
    return subprocess.run([needs.program("tc", "iproute2"), "qdisc"], capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("section", "target", "least"),
    [("tc", "lo:ingress", 10), ("tc/egress", "lo", 10), ("tcx/ingress", "lo", 10), ("classifier", "lo:egress", 10),
     ("xdp", "lo", 10), ("xdp", "lo:generic", 10), ("socket", "lo", 10)],
)  # fmt: skip
@pytest.mark.usefixtures("network")
def test_packets_are_counted_and_the_device_is_left_as_it_was(counted, section, target, least):
    verdict = {"xdp": 2, "socket": 0}.get(section, 0)
    source = COUNTED + program("p", section, f"add(); return {verdict};")
    before = qdiscs()
    assert counted(source, lambda: send(10), "--attach", f"p={target}") >= least
    assert qdiscs() == before
    link = subprocess.run(["ip", "link", "show", "lo"], capture_output=True, text=True, check=True).stdout
    assert "xdp" not in link


@pytest.mark.usefixtures("network")
def test_where_the_kernel_has_no_links_for_tc_a_filter_and_its_qdisc_are_deleted_at_the_end(compiled, monkeypatch):
    from eunomia.kernel import attach
    from eunomia.kernel.loaded import Loaded
    from eunomia.kernel.spec import Spec

    monkeypatch.setattr(attach, "_TCX", {"ingress": 9999, "egress": 9999})  # as before Linux 6.6
    path, before = compiled("p", COUNTED + program("p", "tc", "add(); return 0;")), qdiscs()
    with Loaded.attached(Spec.open(path), targets={"p": ["lo:ingress", "lo:egress"]}) as live:
        assert "clsact" in qdiscs()
        send(10)
        (batch,) = live.readers["bss"].drain()
        assert next(batch.rows()).count >= 20
    assert qdiscs() == before


def test_a_usdt_probe_of_a_program_is_found_by_its_name(counted):
    python = os.path.realpath(sys.executable)
    if b"gc__start" not in Path(python).read_bytes():
        pytest.skip(f"{python} has no USDT probes")
    head = "#include <linux/ptrace.h>\n#define bool _Bool\n#include <bpf/usdt.bpf.h>\n"
    source = f"#define __TARGET_ARCH_{ARCH}\n{head}{mine('usdt')}"
    target = f"p={python}:python:gc__start"
    assert counted(source, lambda: [gc.collect() for _ in range(5)], "--attach", target) >= 5


def test_faults_are_sampled_where_they_are_asked_for(counted):
    import mmap

    def touch():
        with mmap.mmap(-1, 100 * mmap.PAGESIZE) as fresh:
            fresh.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(100):
                fresh[page * mmap.PAGESIZE] = 1

    assert counted(mine("perf_event"), touch, "--attach", "p=page-faults:1") >= 100


def test_a_clock_that_nobody_asked_for_is_told(counted):
    counted(COUNTED + program("do_sample", "perf_event"), lambda: None)
    assert "do_sample samples cpu-clock, 49 times a second: --attach do_sample=EVENT[:RATE]" in counted.err


XDP = program("count_all", "xdp", "return 2;") + program("pass", "xdp", "return 2;")
COUNTERS = program("on_miss", "perf_event", "return 0;") + program("on_ref", "perf_event", "return 0;")


@pytest.mark.parametrize(
    ("source", "arguments", "code", "words"),
    [
        (XDP, [], 2, "count_all, pass: it needs a network device: --attach PROGRAM=DEVICE"),
        (XDP, ["--attach", "count_all=lo", "--attach", "pass=lo"], 2, "lo takes one XDP program"),
        (XDP, ["--attach", "pass=lo:sideways"], 2, "is not of the form DEVICE"),
        (XDP, ["--attach", "pass=nowhere0"], 2, "no network device 'nowhere0'"),
        (COUNTERS, [], 2, "on_miss, on_ref: the section does not say which event it samples"),
        (COUNTERS, ["--attach", "on_miss=cash-misses"], 2, "there is no perf event 'cash-misses'"),
        (COUNTERS, ["--program", "on_miss"], 2, "suggests an event other than a clock"),
        (program("f", "uprobe"), [], 2, "--attach f=BINARY:FUNCTION"),
        (program("f", "uprobe/readline"), [], 2, "names no file: --attach f=BINARY:FUNCTION"),
        (program("f", "usdt"), [], 2, "--attach f=BINARY:PROVIDER:NAME"),
        (program("f", "kprobe/dummy_read"), [], 2, "placeholder"),
        (program("f", "uprobe"), ["--attach", "f=libc:no_such_function"], 1, "libc has no function 'no_such_function'"),
        (program("f", "uprobe"), ["--attach", "f=nolib:f"], 2, "no file 'nolib' among the libraries and in PATH"),
        (program("f", "usdt"), ["--attach", "f=libc:libc:setjmp"], 1, "lacks the maps of <bpf/usdt.bpf.h>"),
        (program("f", "tc"), ["--attach", "f=lo"], 2, "lo:ingress or lo:egress"),
        (program("f", "raw_tp"), ["--attach", "f=nope"], 1, "this kernel has no tracepoint nope"),
        (program("f", "sk_skb/stream_parser", "return 1;"), ["--attach", "f=lo"], 2, "takes no target"),
        (program("f", "iter/bpf_map"), ["--attach", "f=1"], 2, "iterators of bpf_map take no target"),
        (program("f", GETPPID), ["--program", "g"], 2, "--program: there is no program 'g': there are f"),
        (program("f", GETPPID), ["--skip-program", "g*"], 2, "--skip-program: there is no program 'g*'"),
        (program("f", GETPPID), ["--skip-program", "*"], 2, "leaves none of its programs"),
        (program("f", GETPPID), ["--attach", "g=lo"], 2, "there is no program 'g'"),
        (program("f", "tp/a/b") + program("g", "raw_tp/c"), [], 1, "f: this kernel has no tracepoint a/b; g: this kernel"),
        (program("f", "raw_tp/sched_switch", "return ((long *)ctx)[11] != 0;"), [], 1, "reads more arguments"),
        ("extern int nothing(void) __ksym;" + program("f", GETPPID, "return nothing();"), [], 1, "function nothing"),
        ("extern int no_such_variable __ksym;" + program("f", GETPPID, "return (long)&no_such_variable != 1;"), [], 1,
         "variable no_such_variable"),
        ("extern int CONFIG_NO_SUCH_THING __kconfig;" + program("f", GETPPID, "return CONFIG_NO_SUCH_THING;"), [], 1,
         "onfig"),
    ],
    ids=lambda v: "",
)  # fmt: skip
def test_what_cannot_run_is_refused_with_the_reason(run, compiled, source, arguments, code, words):
    run(compiled("p", COUNTED + source), "--duration", "300ms", *arguments).refused(code, words)


def test_counters_of_a_machine_without_them_are_refused_rightly(run, compiled):
    ended = run(compiled("p", COUNTERS), "--duration", "300ms", "--attach", "on_miss=hardware:cache-misses:100000",
                "--attach", "on_ref=cache:LLC-loads:100000")  # fmt: skip
    if ended.code == 0:
        pytest.skip("this machine has hardware counters")
    ended.refused(1, "this machine cannot count hardware:cache-misses:100000")


def test_info_says_what_would_run_and_why_not(compiled, capsys):
    from eunomia.cli import main

    path = compiled("p", COUNTED + program("a", "tp_btf/sched_switch") + program("b", "raw_tp/sched_switch"))
    assert main(["info", path, "-o", "json"]) == 0
    programs = {p["name"]: p for p in json.loads(capsys.readouterr().out)["programs"]}
    assert (programs["a"]["runs"], programs["b"]["runs"]) == (True, False)
    assert programs["b"]["why"] == "a (tp_btf/sched_switch) does the same"
    assert main(["info", path]) == 0
    assert "b is left out: a (tp_btf/sched_switch) does the same" in capsys.readouterr().out
