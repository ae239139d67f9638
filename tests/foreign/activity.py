# SPDX-License-Identifier: BSD-2-Clause
"""What each foreign program must show of activity that really happens."""

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ME = os.getpid()
GETPPID = {"x86_64": 110}.get(os.uname().machine, 173)


def getppid():
    for _ in range(50):
        os.getppid()


CHILDREN: set[int] = set()


def execute():
    child = subprocess.Popen(["/bin/true"])
    CHILDREN.add(child.pid)
    assert child.wait() == 0


def write():
    with open("/dev/null", "wb", buffering=0) as file:
        file.write(b"x" * 100)


def open_():
    os.close(os.open("/etc/hostname", os.O_RDONLY))


def allocate():
    bytearray(100_003)  # by malloc, being more than Python's own pools hold


def spin():
    sum(range(2_000_000))


def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x" * 72, ("127.0.0.1", 9))


class Case(NamedTuple):
    """``shows`` must hold for some row of ``stream`` after ``act``; all rows are dicts."""

    name: str
    stream: str
    act: Callable[[], None]
    shows: Callable[[dict[str, Any]], bool]
    set_: Mapping[str, str] = {}
    attach: Mapping[str, str] = {}
    event: Mapping[str, str] = {}
    strip: bool = False

    def __str__(self) -> str:
        how = [f"{k}={v}" for k, v in {**self.set_, **self.event}.items()] + ["stripped"] * self.strip
        return "-".join([self.name, self.stream, *how])


def hexdump(row, size):
    return row["size"] == size and len(bytes.fromhex(row["data"])) == size


CASES = [
    Case("bootstrap", "rb", execute, lambda r: r["comm"] == "true" and r["filename"] == "/bin/true"),
    Case("bootstrap", "rb", execute, lambda r: r["exit_event"] is True and r["duration_ns"] > 10_000),
    Case(
        "bootstrap", "rb", execute, lambda r: r["exit_event"] is True and r["duration_ns"] > 1000,
        set_={"min_duration_ns": "1000"},
    ),
    Case("bootstrap", "rb", execute, lambda r: hexdump(r, 168), strip=True),
    Case("hello_perf", "output", execute, lambda r: r["message"] == "Hello World" and r["uid"] == 0),
    Case("hello_map", "counter_table", getppid, lambda r: r["pid"] == ME and r["value"] >= 50),
    Case("percpu", "by_syscall", getppid, lambda r: r["key"] == GETPPID and r["last_ns"] > 0),
    Case("percpu", "total", getppid, lambda r: r["key"] == 0 and r["value"] >= 50),
    Case("histograms", "dist", write, lambda r: r["key"] == 6 and r["value"] > 0),
    Case("histograms", "hists", write, lambda r: r["key"] == ME and r["slots"][6] > 0 == r["slots"][26]),
    Case(
        "uprobe", "allocs", allocate, lambda r: r["tid"] == ME and r["size"] >= 100_003 and r["latency"] > 0,
        set_={"target_pid": str(ME), "min_size": "100000"},
    ),
    Case(
        "raw_output", "calls", getppid, lambda r: r["pid"] == ME and r["tid"] == ME and r["nr"] == GETPPID,
        set_={"every": "1"},
    ),
    Case("profile", "counts", spin, lambda r: r["pid"] == ME and r["value"] > 0),
    Case("cgroup_bytes", "flows", send, lambda r: r["protocol"] == 17 and r["egress"] and r["bytes"] >= 100),
    Case("unused_pointer", "events", execute, lambda r: r["pid"] > 0 and r["uid"] == os.getuid()),
    Case("unused_pointer", "events", execute, lambda r: r["uid"] == os.getuid(), strip=True),
    Case("several_rings", "forks", execute, lambda r: r["parent"] == ME),
    Case("several_rings", "exits", execute, lambda r: r["pid"] in CHILDREN and r["ts"] > 0),
    Case("several_rings", "opens", open_, lambda r: r["pid"] == ME and r["name"] == "/etc/hostname"),
    Case("multi_type", "records", execute, lambda r: r["kind"] == 1 and r["comm"] == "true"),
    Case("multi_type", "records", execute, lambda r: r["kind"] == 2 and r["ended_ns"] > 0),
    Case(
        "shapes", "seen", getppid,
        lambda r: (r["verdict"], r["urgent"], r["level"], r["delta"]) == ("ASK", 1, 5, -3)
        and (r["raw"], r["where"]) == ("01020304", "0xffff888000000000")
        and r["grid"] == [[0, -2, 0], [0, 0, 6]],
    ),
    Case("sizes_only", "counts", getppid, lambda r: r["key"] == ME and r["value"] >= 50),
    Case("sizes_only", "pids", getppid, lambda r: r["value"] == ME),
    Case("sizes_only", "times", getppid, lambda r: r["value"] > 0, strip=True),
    Case("globals", "bss", getppid, lambda r: r["calls"] >= 50 and sum(r["by_uid"]) >= 50),
    Case("globals", "data", getppid, lambda r: r["last_pid"] == ME, set_={"only_pid": str(ME)}),
    Case("scratch_heap", "events", open_, lambda r: r["pid"] == ME and r["path"] == "/etc/hostname"),
    Case("unknowable", "blobs", write, lambda r: r["size"] == 116 and r["data"].startswith("edfe0000")),
    Case(
        "unknowable", "blobs", write, lambda r: r["magic"] == 0xFEED and r["length"] == 100,
        event={"blobs": "header"},
    ),
    Case("vmlinux_exec", "rb", execute, lambda r: r["ppid"] == ME and r["comm"] == "true" and r["start_ns"]),
    Case("tails", "opens", open_, lambda r: (r["pid"], r["length"], r["path"]) == (ME, 14, "/etc/hostname")),
    Case("tails", "headed", getppid, lambda r: (r["pid"], r["kind"], r["rest"]) == (ME, 7, "deadbeef")),
    Case("tails", "said", getppid, lambda r: (r["pid"], r["args"]) == (ME, ["ls", "-l", "/tmp"])),
    Case("xdp_count", "packets", send, lambda r: r["key"] == 17 and r["value"] > 0, attach={"count": "lo"}),
]  # fmt: skip
