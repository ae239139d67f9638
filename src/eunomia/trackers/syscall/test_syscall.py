# SPDX-License-Identifier: BSD-2-Clause
"""What the syscall tracker counts, against loops of known length."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from setup import CLANG, probe_flags
from tests import needs
from tests.harness import Seen, batch_of, schema_of, tracked
from tests.runtimes.docker import Docker

from eunomia.kernel.spec import Spec
from eunomia.source import Options, Source, open_source

ROOT = Path(__file__).resolve().parents[4]


def counted(seen: Seen, **columns) -> tuple[int, int]:
    """Return calls and errors of a kind, of all intervals."""
    rows = seen.rows("syscall", **columns)
    return sum(r["count"] for r in rows), sum(r["errors"] for r in rows)


# Bytes to rows


def test_a_record_reads_as_a_row():
    batch = batch_of(
        schema_of("syscall", "syscall"),
        {"pid": 7, "comm": b"nginx", "syscall": 39, "count": 3, "errors": 1, "total_ns": 99},
    )
    row = next(iter(batch.rows()))
    expected = "getpid" if os.uname().machine == "x86_64" else "umount2"
    assert (row.pid, row.comm, row.syscall) == (7, "nginx", expected)
    assert (row.count, row.errors, row.total_ns) == (3, 1, 99)


def test_numbers_without_a_name_are_shown():
    schema = schema_of("syscall", "syscall")
    batch = batch_of(schema, {"syscall": 5000}, {"syscall": 0xFFFFFFFF}, {"syscall": 1 << 32 | 64})
    names = list(batch.values("syscall"))
    assert names[:2] == ["5000", "-1"]
    assert names[2].endswith(":64"), "of the 32-bit ABI"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is no x32 ABI but on x86_64")
def test_each_abi_has_names_of_its_own_for_any_number_that_can_be_asked_for():
    asked = (0x4000006E, 0x40000208, 0x4000000D, 0x7FFFFFFF, 1 << 32 | 0x4000006E, 1 << 32 | 0xFFFFFFFF, 0x20000040)
    names = list(batch_of(schema_of("syscall", "syscall"), *({"syscall": n} for n in asked)).values("syscall"))
    # 13 is rt_sigaction of the 64-bit ABI alone: x32 has it as 512
    assert names == [
        "x32:getppid", "x32:execve", "x32:13", "x32:1073741823", "ia32:1073741934", "ia32:-1", "536870976",
    ]  # fmt: skip


# Counts


@pytest.mark.parametrize(("count", "threads"), [(1, 1), (5000, 1), (5000, 8)])
def test_counts_are_exact(count: int, threads: int, acts: str):
    with tracked("syscall") as seen:
        child = subprocess.Popen([acts, "getppid", str(count), str(threads)])
        assert child.wait() == 0
    row = seen.row("syscall", pid=child.pid, syscall="getppid")
    assert (row["count"], row["errors"], row["comm"]) == (count * threads, 0, "acts")
    assert 0 < row["total_ns"] / row["count"] < 1e6
    assert row["identity"] == "host"
    assert seen.ledger("syscall").balanced
    assert seen.ledger("syscall").lost == 0


def test_calls_are_counted_but_not_timed_if_no_times_are_asked_for(acts: str):
    with tracked("syscall", options=Options(settings={"latency": "false"})) as seen:
        child = subprocess.Popen([acts, "getppid", "5000", "8"])
        assert child.wait() == 0
    row = seen.row("syscall", pid=child.pid, syscall="getppid")
    assert (row["count"], row["errors"], row["total_ns"]) == (40_000, 0, None)
    assert "-1" not in {r["syscall"] for r in seen.rows("syscall", pid=child.pid)}


def test_calls_that_fail_are_counted_as_errors(acts: str):
    with tracked("syscall") as seen:
        child = subprocess.Popen([acts, "close-nothing", "3000"])
        child.wait()
    count, errors = counted(seen, pid=child.pid, syscall="close")
    assert errors == 3000
    assert count > errors


def test_calls_that_seccomp_refuses_are_counted_as_errors(acts: str):
    with tracked("syscall") as seen:
        child = subprocess.Popen([acts, "refused", "100"])
        assert child.wait() == 0
    assert counted(seen, pid=child.pid, syscall="getuid") == (100, 100)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the 32-bit ABI is tried on x86_64 alone")
def test_calls_of_the_32_bit_abi_are_not_called_by_other_names(acts: str):
    with tracked("syscall") as seen:
        child = subprocess.Popen([acts, "ia32", "100"])
        assert child.wait() == 0
    assert counted(seen, pid=child.pid, syscall="ia32:64") == (100, 0)
    assert counted(seen, pid=child.pid, syscall="ia32:5") == (100, 100)
    assert counted(seen, pid=child.pid, syscall="semget") == (0, 0)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is no x32 ABI but on x86_64")
def test_calls_of_the_x32_abi_are_named_by_its_own_table(acts: str):
    with tracked("syscall") as seen:
        child = subprocess.Popen([acts, "x32", "100"])
        assert child.wait() == 0
    called = {r["syscall"]: r["count"] for r in seen.rows("syscall", pid=child.pid)}
    assert (called["x32:getppid"], called["x32:rt_sigpending"]) == (100, 100)
    assert not [name for name in called if name.startswith("ia32:")]
    assert "getppid" not in called


def test_counts_of_intervals_add_up(acts: str):
    with tracked("syscall") as seen:
        child = subprocess.Popen([acts, "getppid", "1000000", "2"])
        while child.poll() is None:
            seen.read_tables()
            time.sleep(0.02)
    rows = seen.rows("syscall", pid=child.pid, syscall="getppid")
    assert len(rows) > 1, "of several intervals"
    assert sum(r["count"] for r in rows) == 2_000_000
    assert seen.ledger("syscall").balanced


def test_many_processes_have_a_row_each():
    with tracked("syscall") as seen:
        children = [subprocess.Popen(["/bin/true"]) for _ in range(100)]
        for child in children:
            child.wait()
    for child in children:
        assert seen.row("syscall", pid=child.pid, syscall="arch_prctl" if os.uname().machine == "x86_64" else "brk")


def test_a_call_that_began_before_is_not_counted_and_the_next_is():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert child.stdin
    child.stdin.write(b"started\n")
    child.stdin.flush()
    time.sleep(0.2)  # for cat to wait in read(2) again
    with tracked("syscall") as seen:
        child.stdin.write(b"one\n")
        child.stdin.flush()
        time.sleep(0.1)
        child.stdin.close()
        child.wait()
    # of its two reads the first was under way; that it waits for is no time of ours
    assert counted(seen, pid=child.pid, syscall="read") == (1, 0)
    assert counted(seen, pid=child.pid, syscall="write") == (1, 0)


def test_a_call_that_has_not_ended_is_not_counted():
    with tracked("syscall") as seen:
        child = subprocess.Popen(["sleep", "100"])
        time.sleep(0.2)
        seen.finish()
        child.kill()
        child.wait()
    assert seen.rows(pid=child.pid, syscall="execve")
    assert not seen.rows(pid=child.pid, syscall="clock_nanosleep")


def test_a_full_table_loses_and_says_so(tmp_path: Path):
    needs.root()
    source = ROOT / "src/eunomia/trackers/syscall/syscall.bpf.c"
    small = tmp_path / "small.bpf.o"
    headers = f"-I{ROOT / 'src/eunomia/bpf'}"
    needs.program(CLANG[0], "clang")
    command = [*CLANG, *probe_flags(), headers, "-DSYSCALL_ENTRIES=8", "-c", str(source), "-o", str(small)]
    subprocess.run(command, check=True)
    found = open_source("syscall").found
    assert found is not None
    with tracked(Source("syscall", Spec.open(small), found)) as seen:
        for _ in range(5):
            subprocess.run(["/bin/true"], check=True)
    account = seen.ledger("syscall")
    assert account.emitted == 8
    assert account.lost > 100
    assert account.balanced


# Containers


def test_a_container_has_its_identity_on_every_row(docker: Docker):
    with tracked("syscall") as seen:
        docker.run("run", "--name", "caller", docker.image, "sh", "-c", "/bin/sleep 0.05")
        container = docker.run("inspect", "-f", "{{.Id}}", "caller").stdout.strip()
        docker.run("rm", "caller")
    rows = seen.rows(**{"container.id": container})
    assert {r["syscall"] for r in rows} >= {"execve", "close"}
    assert {(r["identity"], r["container.name"], r["container.image"]) for r in rows} == {
        ("resolved", "caller", docker.image)
    }


def test_a_container_that_ran_before_is_known(docker: Docker):
    container = docker.run("run", "-d", "--name", "earlier", docker.image, "sleep", "1000").stdout.strip()
    try:
        with tracked("syscall") as seen:
            docker.run("exec", "earlier", "mkdir", "/tmp/sub")
    finally:
        docker.run("rm", "-f", "earlier")
    row = seen.row(syscall="mkdir", **{"container.id": container})
    assert (row["identity"], row["container.name"]) == ("resolved", "earlier")
