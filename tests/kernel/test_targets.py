# SPDX-License-Identifier: BSD-2-Clause
"""What the words behind ``--attach PROGRAM=`` mean."""

import ctypes.util
import os

import pytest

from eunomia.kernel import binaries, perf_events, targets
from eunomia.kernel.errors import BadSetting, NoPlace
from eunomia.kernel.spec import Program


@pytest.mark.parametrize(
    ("word", "event"),
    [
        ("99", ("cpu-clock", 1, 0, 99, True)),
        ("cpu-clock", ("cpu-clock", 1, 0, 49, True)),
        ("cpu-clock:1000000", ("cpu-clock", 1, 0, 1000000, False)),
        ("page-faults", ("page-faults", 1, 2, 1, False)),
        ("software:context-switches:10", ("context-switches", 1, 3, 10, False)),
        ("hardware:cache-misses:100000", ("cache-misses", 0, 3, 100000, False)),
        ("cycles:99HZ", ("cycles", 0, 0, 99, True)),
        ("cache:LLC-load-misses", ("LLC-load-misses", 3, 0x10002, 100000, False)),
        ("L1-dcache-stores:7", ("L1-dcache-stores", 3, 0x100, 7, False)),
        ("dTLB-prefetch-misses:7", ("dTLB-prefetch-misses", 3, 0x10203, 7, False)),
        ("raw:0x1c2:1000", ("raw:0x1c2", 4, 0x1C2, 1000, False)),
    ],
)
def test_perf_events_are_named_as_perf_names_them(word, event):
    assert perf_events.parse(word) == event


@pytest.mark.parametrize(
    "word",
    ["", ":", "nonsense", "cpu-clock:0hz", "cpu-clock:0", "cpu-clock:x", "cpu-clock:100001hz", "hardware:page-faults",
     "raw:x", "raw:-1", "raw:0x10000000000000000", "a:b:c:d", "0", "9" * 5000],
)  # fmt: skip
def test_what_is_no_perf_event_is_refused(word):
    with pytest.raises(ValueError, match=r"perf event|rate|raw event"):
        perf_events.parse(word)


def test_libraries_and_programs_are_found_by_their_names():
    assert os.path.basename(binaries.find("libc")) == ctypes.util.find_library("c")
    assert binaries.find("c") == binaries.find("libc") == binaries.find("libc.so.6")
    assert binaries.find("sh").endswith("/sh")
    assert binaries.find("/bin/sh") == "/bin/sh"
    assert binaries.find("/nowhere/sh") is binaries.find("no-such-thing") is None


def test_a_place_in_a_binary_has_a_function_an_offset_and_a_process():
    program = Program("p", "uprobe", 2)
    path = binaries.find("libc")
    assert targets.place(program, "libc:malloc") == (path, "malloc", 0, "", -1)
    assert targets.place(program, f"{path}:malloc+0x10,pid={os.getpid()}") == (path, "malloc", 16, "", os.getpid())
    assert targets.place(program, "libc:0x400") == (path, "", 0x400, "", -1)
    usdt = Program("p", "usdt", 2)
    assert targets.place(usdt, "libc:libc:setjmp") == (path, "setjmp", 0, "libc", -1)


@pytest.mark.parametrize(
    "word", ["malloc", "libc:", ":malloc", "libc:malloc,pid=0", "libc:malloc,pid=x", "libc:malloc+x", ""]
)
def test_what_is_no_place_in_a_binary_is_refused(word):
    with pytest.raises(BadSetting, match=r"BINARY:FUNCTION|offset"):
        targets.place(Program("p", "uprobe", 2), word)


def test_a_file_that_holds_no_functions_is_named():
    with pytest.raises(NoPlace, match="/etc/passwd is not an ELF file"):
        targets.place(Program("p", "uprobe", 2), "/etc/passwd:root")


@pytest.mark.parametrize("name", ["on_cache_miss", "on_ref", "count_instructions", "llc", "page_faults", "hw_event"])
def test_a_clock_does_not_stand_in_for_what_a_name_counts(name):
    program = Program(name, "perf_event", 7)
    assert f"--attach {name}=EVENT" in targets.needs_target(program, [program])


def test_a_lone_sampler_runs_by_the_clock_and_several_do_not():
    one, other = Program("do_sample", "perf_event", 7), Program("do_other", "perf_event", 7)
    assert targets.needs_target(one, [one]) == ""
    assert "with several" in targets.needs_target(one, [one, other])
