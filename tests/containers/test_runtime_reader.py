# SPDX-License-Identifier: BSD-2-Clause
"""Errors in readers of untrusted files are caught, counted, and reported once."""

import struct
import subprocess
import sys

import pytest

from eunomia.containers.registry import Registry
from eunomia.containers.runtime import Metadata
from eunomia.containers.runtimes.docker import DataRoot, Docker
from eunomia.faults import KINDS, Faults
from eunomia.identity import PENDING, RESOLVED, Container
from tests import needs
from tests.containers.stage import DB, WEB, Clock, batch, write_config

ERRORS = [OverflowError, RecursionError, MemoryError, UnicodeError, struct.error, KeyError, ZeroDivisionError]
METHODS = ["recognises", "lookup", "watches", "changed", "places", "records", "has_record"]


class Broken:
    """A runtime, and keeper of records, one of whose methods always raises."""

    name = "broken"
    quick = True

    def __init__(self, method: str, error: Exception) -> None:
        def fail(*_: object) -> None:
            raise error

        setattr(self, method, fail)

    def recognises(self, parent: str, name: str) -> str:
        return ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        return Metadata(Container(container_id, "b", runtime="broken")) if container_id == DB else None

    def watches(self, container: Container, path: str) -> list[str]:
        return []

    def changed(self, container: Container, path: str) -> bool:
        return False

    def places(self) -> list[str]:
        return ["/nowhere"]

    def records(self, place: str) -> list[str]:
        return [DB]

    def has_record(self, container: Container, path: str) -> bool:
        return True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", ERRORS)
def test_a_runtime_that_raises_takes_nothing_from_the_others(tmp_path, method, error):
    told = []
    (tmp_path / "cgroup").mkdir()
    write_config(tmp_path, WEB)
    faults = Faults(lambda sentence, _: told.append(sentence))
    every = [Broken(method, error("here")), Docker([DataRoot("/", str(tmp_path))])]
    registry = Registry(every, mount=str(tmp_path / "cgroup"), clock=Clock(), faults=faults)
    registry.listen()
    registry.start()
    registry.feed([batch("made", (7, f"/docker/{WEB}"), (8, f"/x/{DB}"))])
    registry.recheck()
    registry.feed([batch("removed", (8, f"/x/{DB}"))])
    registry.recheck_entry(registry.container_of(7))
    assert (registry[7].state, registry[7].container.name) == (RESOLVED, "web")
    assert registry[8].state == (PENDING if method == "lookup" else RESOLVED)
    assert len(told) == 1
    assert error.__name__ in told[0]
    assert "the reader of broken" in told[0]
    assert sum(faults.counts.values()) >= 1


class Enricher:
    def enrich(self, *_: object) -> None:
        raise RecursionError


def test_an_enricher_that_raises_leaves_what_the_runtime_said(tmp_path):
    write_config(tmp_path, WEB)
    registry = Registry([Docker([DataRoot("/", str(tmp_path))])], mount=str(tmp_path), clock=Clock())
    registry.enrich(Enricher())
    registry.feed([batch("made", (7, f"/docker/{WEB}"))])
    assert registry[7].container.name == "web"
    assert registry.faults.counts


def test_kinds_of_faults_are_reported_once_each_and_are_limited():
    told = []
    faults = Faults(lambda sentence, _: told.append(sentence))
    for i in range(1000):
        faults.note(f"reader {i}", KeyError(i))
        faults.note("one", KeyError(i))
    assert len(faults.counts) <= 2 * KINDS
    assert sum(faults.counts.values()) == 2000
    assert sum("one failed" in sentence for sentence in told) == 1


def test_a_run_goes_on_beside_a_reader_that_raises_and_gives_account_of_it():
    script = f"""
from eunomia.containers.runtimes import docker
def fail(self, container_id, path):
    raise OverflowError("Python int too large to convert to C long")
docker.Docker.lookup = fail
import os
from eunomia.cli import main
from eunomia.containers import cgroup_files
path = cgroup_files.mount_point() + "/{WEB}"
os.mkdir(path)
try:
    code = main(["run", "process", "-o", "json", "--duration", "1s"])
finally:
    os.rmdir(path)
raise SystemExit(code)
"""
    needs.root()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60 * needs.PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("OverflowError: Python int too large") == 1
    assert "the run goes on" in done.stderr
    assert '"remark":"the reader of docker failed"' in done.stderr
    assert "fault of eunomia's own" not in done.stderr
