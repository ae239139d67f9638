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
    command = [
        *EUNOMIA,
        "run",
        str(path),
        "-o",
        "json",
        "--interval",
        "200ms",
        "--duration",
        "10s",
        *options(case),
    ]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = threading.Event()
    acting = threading.Thread(target=keep_acting, args=(case, done))
    acting.start()
    try:
        last = ""
        for last in started.stdout:
            if shown(case, last):
                return
        errors = started.stderr.read()
        if "not supported" in errors:
            pytest.skip(errors)
        pytest.fail(f"exit code {started.wait()}, last row {last!r}, errors {errors!r}")
    finally:
        done.set()
        acting.join()
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=20)


def keep_acting(case, done):
    while not done.is_set():
        case.act()
        time.sleep(0.05)


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
        (["--set", "every=1"], "has no setting 'every'"),
    ],
)
def test_refuses_what_the_object_does_not_have_in_one_sentence(compiled, extra, words):
    command = [*EUNOMIA, "run", compiled("unknowable"), "--duration", "1s", *extra]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
