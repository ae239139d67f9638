# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia list`` tells what runs here because it has tried."""

import json
import subprocess
import time

from eunomia import tracker
from tests import needs


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


def test_it_is_quick(eunomia):
    eunomia("list")
    start = time.monotonic()
    eunomia("list")
    assert time.monotonic() - start < 2


def test_who_is_not_root_is_told_that_only_root_can_tell(eunomia):
    done = eunomia("list", nobody=True)
    assert done.code == 0
    assert "sudo eunomia list" in done.out
    rows = [json.loads(line) for line in eunomia("list", "-o", "json", nobody=True).out.splitlines()]
    assert {row["runs"] for row in rows} == {"unknown"}


def test_it_leaves_nothing_in_the_kernel(eunomia):
    needs.root()
    bpftool = needs.program("bpftool", "bpftool")

    def of_ours():
        out = subprocess.run(
            [bpftool, "-j", "prog", "show"], capture_output=True, text=True, check=True
        ).stdout
        ours = {p.name[:15] for found in tracker.every() for p in _programs(found)}
        return [p["name"] for p in json.loads(out) if p.get("name") in ours]

    before = of_ours()
    eunomia("list")
    time.sleep(0.2)  # programs are freed after a grace period
    assert of_ours() == before


def _programs(found):
    from eunomia.kernel.spec import Spec

    spec = Spec.open(found.object)
    spec.close()
    return spec.programs


def test_a_tracker_that_this_kernel_lacks_the_hooks_for_is_shown_with_the_reason(compiled, tmp_path):
    needs.root()
    from eunomia.cli.trial import trials
    from tests.cli.conftest import GOOD

    compiled(GOOD.replace("tp/sched/sched_process_exec", "tp/nosuch/event"), name="odd.bpf.o")
    odd = tracker.Tracker("?", (tracker.Variant("tp", ("on_exec",)),))
    [(_, result)] = trials([tracker.Found("odd", odd, tmp_path)])
    assert (result.runs, result.why) == ("no", "this kernel lacks tracepoint nosuch/event")


def test_a_tracker_that_was_not_built_is_shown_as_such(tmp_path):
    from eunomia.cli.trial import trials

    [(_, result)] = trials([tracker.Found("odd", tracker.Tracker("?", ()), tmp_path)])
    assert result.runs == "no"
    assert "odd.bpf.o is not there: build it with make build" in result.why
