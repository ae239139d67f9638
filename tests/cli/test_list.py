# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia list`` tells what runs here because it has tried."""

import json
import subprocess
from contextlib import suppress

from eunomia import tracker
from tests import needs
from tests.cli.conftest import EUNOMIA
from tests.run.conftest import alive, kernel_ids


def test_it_shows_every_tracker_with_its_question(eunomia):
    out = eunomia("list").out
    for found in tracker.every():
        line = next(line for line in out.splitlines() if line.startswith(f"{found.name} "))
        assert line.endswith(found.tracker.title)


def test_as_json_it_names_the_hooks_that_were_taken(eunomia):
    needs.root()
    rows = [json.loads(line) for line in eunomia("list", "-o", "json").out.splitlines()]
    assert [row["tracker"] for row in rows] == [found.name for found in tracker.every()]
    for row, found in zip(rows, tracker.every(), strict=True):
        assert row["runs"] == "yes", row
        assert row["variant"] in [variant.name for variant in found.tracker.variants]


def test_who_is_not_root_is_told_that_only_root_can_tell(eunomia):
    done = eunomia("list", nobody=True)
    assert done.code == 0
    assert "sudo eunomia list" in done.out
    rows = [json.loads(line) for line in eunomia("list", "-o", "json", nobody=True).out.splitlines()]
    assert {row["runs"] for row in rows} == {"unknown"}


def test_it_leaves_nothing_in_the_kernel(eunomia):
    """Of what it loaded: others on this machine load and unload programs of the same names meanwhile."""
    needs.root()
    loaded = set()
    with subprocess.Popen([EUNOMIA, "list"], stdout=subprocess.DEVNULL) as listing:
        while listing.poll() is None:
            with suppress(OSError):  # it has ended
                loaded |= {(kind, number) for kind, number in kernel_ids(listing.pid) if kind == "prog"}
    assert loaded, "it tries the trackers"
    assert not alive(loaded)


def test_a_tracker_that_this_kernel_lacks_the_hooks_for_is_shown_with_the_reason(compiled, tmp_path):
    needs.root()
    from eunomia.cli.tracker_check import trials
    from tests.cli.conftest import GOOD

    compiled(GOOD.replace("tp/sched/sched_process_exec", "tp/nosuch/event"), name="odd.bpf.o")
    odd = tracker.Tracker("?", (tracker.Variant("tp", ("on_exec",)),))
    [(_, result)] = trials([tracker.FoundTracker("odd", odd, tmp_path)])
    assert (result.runs, result.why) == ("no", "this kernel lacks tracepoint nosuch/event")


def test_a_tracker_that_was_not_built_is_shown_as_such(tmp_path):
    from eunomia.cli.tracker_check import trials

    [(_, result)] = trials([tracker.FoundTracker("odd", tracker.Tracker("?", ()), tmp_path)])
    assert result.runs == "no"
    assert "odd.bpf.o does not exist: build it with make build" in result.why
