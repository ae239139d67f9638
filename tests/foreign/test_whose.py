# SPDX-License-Identifier: BSD-2-Clause
"""Whose the rows of strangers' objects are, and that to find out makes no rows."""

import os
import subprocess
import sys
import threading

from eunomia.containers.registry import Registry
from eunomia.filters import Filters
from eunomia.identity import UNKNOWN
from eunomia.source import Options
from tests.harness import tracked

# tells its thread's id, and has the thread call getppid() when it is told to
IN_A_THREAD = """
import os, threading
def work():
    print(threading.get_native_id(), flush=True)
    input()
    os.getppid()
    input()
one = threading.Thread(target=work); one.start(); one.join()
"""


def test_the_process_is_found_within_a_struct_and_within_a_number(compiled):
    with tracked(str(compiled("nested"))) as seen:
        for _ in range(20):
            os.getppid()
        seen.until(lambda seen: seen.rows("events", **{"process_.pid": os.getpid()}))
        seen.read_tables()
        row = seen.rows("events", **{"process_.pid": os.getpid()})[0]
        (count,) = [r for r in seen.rows("calls") if r["pid_tgid"] >> 32 == os.getpid()]
    assert row["identity"] != UNKNOWN
    assert count["identity"] == row["identity"]


def test_filters_by_process_take_its_threads_in(compiled):
    command = [sys.executable, "-c", IN_A_THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        thread = int(child.stdout.readline())
        filters, options = Filters(pids=(child.pid,)), Options(streams=("threads",))
        with tracked(str(compiled("nested")), filters=filters, options=options, added=["process.argv"]) as seen:
            os.getppid()
            child.stdin.write("\n")
            child.stdin.flush()
            seen.until(lambda seen: seen.rows("threads", pid=thread))
        child.communicate("\n")
    assert {row["pid"] for row in seen.rows()} == {thread}
    assert seen.rows()[0]["identity"] != UNKNOWN
    assert seen.rows()[0]["process.argv"] == command


def test_no_row_is_shown_of_what_eunomia_opens_to_find_out(compiled, monkeypatch):
    asked, look = set(), Registry.cgroup_of

    def cgroup_of(registry, pid):
        asked.add(pid)
        return look(registry, pid)

    monkeypatch.setattr(Registry, "cgroup_of", cgroup_of)
    options = Options(streams=("opens",))
    with tracked(str(compiled("tails")), filters=Filters(), options=options) as seen:
        opener = threading.Thread(target=lambda: open("/etc/hostname").close())
        opener.start()
        opener.join()
        with subprocess.Popen(["sh", "-c", "read line </etc/hostname; read line"], stdin=subprocess.PIPE) as child:
            seen.until(lambda seen: seen.rows("opens", pid=child.pid, path="/etc/hostname"))
            child.communicate(b"\n")
    assert child.pid in asked
    assert os.getpid() not in asked
    assert not seen.rows("opens", pid=os.getpid())
