# SPDX-License-Identifier: BSD-2-Clause
"""Rows whose container's name is not known yet: they wait for it, a moment."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eunomia.containers import cgroup_files
from eunomia.containers import runtimes as known
from eunomia.containers.registry import Registry
from eunomia.containers.runtime import Metadata
from eunomia.containers.selectors import Selectors
from eunomia.engine import held
from eunomia.filters import Filters
from eunomia.identity import Container
from tests import needs
from tests.containers.stage import hex_id
from tests.harness import tracked


class Late:
    """A runtime that names a container when it is told to."""

    name = "late"
    quick = True

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.asked = 0

    def recognises(self, parent: str, name: str) -> str:
        return ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        self.asked += 1
        name = self.names.get(container_id)
        return Metadata(Container(container_id, name, runtime="late")) if name else None

    def watches(self, container: Container, path: str) -> tuple[str, ...]:
        return ()

    def changed(self, container: Container, path: str) -> bool:
        return False


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Late:
    needs.root()
    runtime = Late()
    monkeypatch.setattr(known, "every", lambda: [runtime])
    return runtime


@pytest.fixture
def unheard(late, monkeypatch: pytest.MonkeyPatch) -> Late:
    """The same, and no record tells of new cgroups."""
    monkeypatch.setattr(Registry, "feed", lambda registry, batches: None)
    return late


@contextmanager
def container(container_id: str) -> Iterator[Path]:
    path = Path(f"{cgroup_files.mount_point()}/{container_id}")
    path.mkdir()
    try:
        yield path
    finally:
        while path.exists():
            with suppress(OSError):  # the last one in it is still ending
                path.rmdir()
            time.sleep(0.01)


def run_in(path: Path, word: str) -> None:
    def enter() -> None:
        (path / "cgroup.procs").write_text(str(os.getpid()))

    subprocess.run(["/bin/true", word], check=True, preexec_fn=enter)


def test_a_row_waits_for_its_containers_name(late, monkeypatch):
    monkeypatch.setattr(held, "HOLD", 10**12)
    container_id = hex_id()
    with container(container_id) as path, tracked("process") as seen:
        run_in(path, "one")
        seen.until(lambda _: late.asked > 2)
        late.names[container_id] = "web"
        seen.until(lambda s: s.rows("exec", argv=["/bin/true", "one"]))
    row = seen.row("exec", argv=["/bin/true", "one"])
    assert (row["identity"], row["container.name"]) == ("resolved", "web")
    assert seen.ledger("exec").balanced


def test_a_row_is_shown_by_the_name_that_its_container_gets(late, monkeypatch):
    monkeypatch.setattr(held, "HOLD", 10**12)
    container_id, other = hex_id(), hex_id()
    wanted = Filters(selectors=Selectors(("web",)), traces_itself=True)
    with tracked("process", filters=wanted) as seen, container(container_id) as path, container(other) as beside:
        run_in(path, "one")
        run_in(beside, "two")
        seen.until(lambda _: late.asked > 4)
        late.names |= {container_id: "web", other: "db"}
        seen.until(lambda s: s.rows("exec", argv=["/bin/true", "one"]))
    assert not seen.rows("exec", argv=["/bin/true", "two"])
    assert seen.ledger("exec").balanced


def test_a_row_whose_container_gets_no_name_is_shown_all_the_same(late):
    container_id = hex_id()
    with container(container_id) as path, tracked("process") as seen:
        run_in(path, "one")
        seen.until(lambda s: s.rows("exec", argv=["/bin/true", "one"]))
    row = seen.row("exec", argv=["/bin/true", "one"])
    assert (row["identity"], row["container.id"]) == ("pending", container_id)


def test_rows_that_wait_at_the_end_are_shown(late):
    container_id = hex_id()
    with container(container_id) as path:
        with tracked("process") as seen:
            run_in(path, "one")
        assert seen.row("exec", argv=["/bin/true", "one"])["identity"] == "pending"
        assert seen.ledger("exec").balanced


def test_a_row_of_a_cgroup_that_no_record_told_of_waits_until_it_was_looked_for(unheard, monkeypatch):
    monkeypatch.setattr(held, "HOLD", 10**12)
    container_id = hex_id()
    unheard.names[container_id] = "web"
    with tracked("process") as seen, container(container_id) as path:
        run_in(path, "one")
        seen.until(lambda s: s.rows("exec", argv=["/bin/true", "one"]))
    row = seen.row("exec", argv=["/bin/true", "one"])
    assert (row["identity"], row["container.name"]) == ("resolved", "web")
    assert seen.ledger("exec").balanced


def test_a_row_of_a_cgroup_that_is_gone_and_no_record_told_of_is_unknown(unheard):
    container_id = hex_id()
    with tracked("process") as seen:
        with seen._lock, container(container_id) as path:
            run_in(path, "one")
        seen.until(lambda s: s.rows("exec", argv=["/bin/true", "one"]))
    row = seen.row("exec", argv=["/bin/true", "one"])
    assert (row["identity"], row["container.id"]) == ("unknown", "")
    assert seen.ledger("exec").balanced


def test_cgroups_that_no_record_told_of_are_looked_for_at_the_end(unheard):
    container_id = hex_id()
    unheard.names[container_id] = "web"
    with container(container_id) as path:
        with tracked("process") as seen, seen._lock:
            run_in(path, "one")
        row = seen.row("exec", argv=["/bin/true", "one"])
    assert (row["identity"], row["container.name"]) == ("resolved", "web")
    assert seen.ledger("exec").balanced
