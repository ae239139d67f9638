# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia run ./foo.bpf.o -o json`` for programs that know nothing of Eunomia."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from eunomia.kernel.loaded import Loaded
from eunomia.kernel.own_pid import host_pid
from eunomia.kernel.spec import Spec
from eunomia.kernel.wait import Waiter
from tests.foreign import activity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading BPF programs takes root")

EUNOMIA = [sys.executable, "-c", "import sys; from eunomia.cli import main; sys.exit(main())"]


def options(case):
    for flag, values in (("--set", case.set_), ("--attach", case.attach), ("--event", case.event)):
        for name, value in values.items():
            yield from (flag, f"{name}={value}")


def shown(case, line):
    row = json.loads(line)
    try:
        return row["stream"] == case.stream and case.shows(row)
    except KeyError:
        return False


@pytest.mark.parametrize("case", activity.CASES, ids=str)
def test_shows_what_happens(case, compiled):
    path = compiled(case.name, strip=case.strip)
    command = [*EUNOMIA, "run", str(path), "-o", "json", "--interval", "200ms", *options(case)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found, rows = threading.Event(), []

    def read():
        for line in started.stdout:
            rows[:] = [*rows[-2:], line]
            if not found.is_set() and shown(case, line):
                found.set()

    reading = threading.Thread(target=read)
    reading.start()
    deadline = time.monotonic() + 10
    while not found.is_set() and started.poll() is None and time.monotonic() < deadline:
        case.act()  # here, so that the acting thread is the one with the process's number
        found.wait(0.05)
    started.send_signal(signal.SIGINT)
    reading.join()
    errors = started.stderr.read()
    code = started.wait(timeout=20)
    if "not supported" in errors:
        pytest.skip(errors)
    assert found.is_set(), f"exit code {code}, last rows {rows}, errors {errors!r}"
    assert code == 0
    assert f'"ledger":"{case.name}/{case.stream}"' in errors


def test_a_ring_that_wakes_nobody_is_looked_at(compiled):
    with Loaded.attached(Spec.open(compiled("unwaking")), set_={"target": host_pid()}) as live:
        waiter = Waiter()
        waiter.take(live)
        threading.Timer(0.1, os.getppid).start()
        start = time.monotonic()
        waiter.wait(60_000)
        assert time.monotonic() - start < 30
        assert live.readers["events"].drain()
        waiter.close()


def test_says_what_to_add_where_a_buffer_does_not_tell_what_it_carries(compiled):
    done = subprocess.run(
        [*EUNOMIA, "run", compiled("unknowable"), "-o", "json", "--duration", "200ms"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--event blobs=header" in done.stderr


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--event", "blobs=heder"], "did you mean header?"),
        (["--event", "blob=header"], "did you mean blobs?"),
        (["--set", "every=1"], "no setting 'every'"),
    ],
)
def test_refuses_what_the_object_does_not_have_in_one_sentence(compiled, extra, words):
    command = [*EUNOMIA, "run", compiled("unknowable"), "--duration", "1s", *extra]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def ended(*arguments):
    return subprocess.run([*EUNOMIA, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_each_cpu_has_a_row_where_that_is_asked_for(compiled):
    command = ["run", compiled("percpu"), "-o", "json", "--duration", "500ms", "--interval", "200ms", "--per-cpu", "total"]
    done = ended(*command, "--streams", "total")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows, done.stderr
    assert {row["cpu"] for row in rows} <= set(range(os.cpu_count() * 64))
    times = [row["time"] for row in rows]
    assert len({(row["time"], row["cpu"]) for row in rows}) == len(times)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--per-cpu", "nothing"], "no per-CPU map is shown for 'nothing': there are by_syscall, total"),
        (["--cpus", "total"], "not of the form MAP.COLUMN=sum|max|min|one"),
        (["--cpus", "total=sum"], "'total' is not of the form MAP.COLUMN=sum|max|min|one"),
        (["--cpus", "total.value=add"], "'add' is not one of sum, max, min, one"),
        (["--cpus", "total.n=sum"], "no value called 'n': there are value"),
        (["--cpus", "total.value=sum", "--per-cpu", "total"], "each CPU has its own row"),
    ],
)
@pytest.mark.parametrize("command", ["run", "info"])
def test_refuses_what_cannot_be_said_of_cpus(compiled, command, extra, said):
    done = ended(command, compiled("percpu"), *extra)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_info_says_how_each_column_becomes_one(compiled):
    told = ended("info", compiled("percpu"), "--cpus", "total.value=max").stdout
    assert "number, summed over CPUs" in told
    assert told.count("greatest of all CPUs") == 2  # last_ns, and the total as it was told


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--histogram", "hists.slots=log10"], "'log10' is neither log2 nor linear"),
        (["--histogram", "hists.key=log2"], "no array of numbers called 'key': there are slots"),
        (["--histogram", "nothing.slots=log2"], "there is no stream for 'nothing.slots'"),
        (["--histogram", "hists.slots"], "not of the form STREAM.COLUMN=log2|linear"),
    ],
)
def test_refuses_what_cannot_be_said_of_histograms(compiled, extra, said):
    done = ended("run", compiled("histograms"), *extra)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
