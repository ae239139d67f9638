# SPDX-License-Identifier: BSD-2-Clause
"""A plan does what is missing and no more: applied once, there is nothing left to do."""

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eunomia.server import plan
from eunomia.server.config import Declared
from eunomia.server.models import Filters, OutputRequest, Tracker, TrackerRequest
from eunomia.server.plan import Change, diff, rollback, waves

ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def request(id_: str = "web", **fields) -> TrackerRequest:
    return TrackerRequest(
        id=id_, **({"kind": "process"} if "object" not in fields and "kind" not in fields else {}), **fields
    )


def tracker(of: TrackerRequest, state: str = "running", object_: str = "") -> Tracker:
    ran = object_ or of.object or f"sha256:{'f' * 64}"
    return Tracker(of.id, of.kind, state, ran, 1, "2026-11-27T12:00:00Z", of)


def never(_: str) -> bool:
    return False


def only(change: list[Change]) -> Change:
    (one,) = change
    return one


class TestOneTracker:
    def test_that_is_not_there_is_created(self):
        assert only(diff([request()], [], never)) == Change("create", "web", request=request())

    def test_that_runs_as_requested_is_unchanged(self):
        assert only(diff([request()], [tracker(request())], never)).action == "unchanged"

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"filters": Filters(pids=[1, 2])}, {"filters": Filters(pids=[2, 1, 2])}),
            ({"streams": ["exec", "exit"]}, {"streams": ["exit", "exec"]}),
            ({"duration": 30}, {"duration": 30.0}),
            ({"settings": {"a": 1, "b": 2}}, {"settings": {"b": 2, "a": 1}}),
            ({"filters": Filters()}, {}),
        ],
    )
    def test_that_is_written_in_another_way_is_unchanged(self, before, after):
        assert only(diff([request(**after)], [tracker(request(**before))], never)).action == "unchanged"

    @pytest.mark.parametrize(
        ("before", "after", "how", "fields"),
        [
            ({}, {"filters": Filters(uids=[0])}, "patch", {"filters": (None, {"uids": [0]})}),
            ({"duration": 5}, {}, "patch", {"duration": (5.0, None)}),
            ({"settings": {"a": 1}}, {"settings": {"a": True}}, "patch", {"settings": ({"a": 1}, {"a": True})}),
            ({}, {"outputs": [OutputRequest("/a")]}, "patch", {"outputs": (None, [{"file": "/a"}])}),
            ({"object": ONE}, {"object": TWO}, "object", {"object": (ONE, TWO)}),
            ({"object": ONE}, {"object": TWO, "duration": 5}, "object", {"object": (ONE, TWO), "duration": (None, 5.0)}),
            ({}, {"coalesce": 1}, "restart", {"coalesce": (None, 1.0)}),
            ({"add": ["a", "b"]}, {"add": ["b", "a"]}, "restart", {"add": (["a", "b"], ["b", "a"])}),
            ({"kind": "process"}, {"kind": "syscall"}, "restart", {"kind": ("process", "syscall")}),
            ({"kind": "process"}, {"object": ONE}, "restart", {"kind": ("process", None), "object": (None, ONE)}),
            ({"object": ONE, "events": {"rb": "a"}}, {"object": TWO, "events": {"rb": "b"}}, "restart",
             {"object": (ONE, TWO), "events": ({"rb": "a"}, {"rb": "b"})}),
        ],
    )  # fmt: skip
    def test_that_differs_is_updated_by_the_least(self, before, after, how, fields):
        change = only(diff([request(**after)], [tracker(request(**before))], never))
        assert (change.action, change.how) == ("update", how)
        assert {d.field: (d.before, d.after) for d in change.fields} == fields

    def test_whose_object_was_updated_by_somebody_is_brought_back(self):
        change = only(diff([request(object=ONE)], [tracker(request(object=ONE), object_=TWO)], never))
        assert (change.action, change.how) == ("update", "object")

    def test_that_was_updated_to_what_is_declared_is_unchanged(self):
        assert (
            only(diff([request(object=TWO)], [tracker(request(object=ONE), object_=TWO)], never)).action == "unchanged"
        )

    @pytest.mark.parametrize("state", ["failed", "stopped"])
    def test_that_does_not_run_any_more_is_created_again(self, state):
        change = only(diff([request()], [tracker(request(), state)], never))
        assert (change.action, change.why) == ("create", f"it has {state}")

    def test_that_has_run_for_its_duration_is_not_started_again_and_again(self):
        done = request(duration=5)
        assert only(diff([done], [tracker(done, "stopped")], never)).action == "unchanged"
        assert only(diff([done], [tracker(done, "failed")], never)).action == "create"
        assert only(diff([request(duration=6)], [tracker(done, "stopped")], never)).action == "create"


class TestTrackersThatAreNotDeclared:
    def test_go_on(self):
        assert diff([], [tracker(request("mine"))], never) == [Change("keep", "mine")]

    def test_are_stopped_if_they_may_be_after_the_others_were_created(self):
        found = diff([request("new")], [tracker(request("a")), tracker(request("b"))], lambda id_: id_ == "b")
        assert [(c.action, c.id) for c in found] == [("create", "new"), ("keep", "a"), ("stop", "b")]

    def test_that_do_not_run_are_not_mentioned(self):
        assert diff([], [tracker(request("old"), "stopped")], lambda _: True) == []


def applied(changes, there) -> list[Tracker]:
    """Return what a server reports that has done what a plan says."""
    now = {t.id: t for t in there}
    for change in changes:
        if change.action in {"create", "update"}:
            now[change.id] = tracker(change.request)
        elif change.action == "stop":
            now[change.id] = msgspec.structs.replace(now[change.id], state="stopped")
    return list(now.values())


requests = st.builds(
    request,
    st.sampled_from("abcd"),
    object=st.sampled_from([ONE, TWO]),
    duration=st.sampled_from([0, 5]),
    settings=st.dictionaries(st.sampled_from("xy"), st.sampled_from([1, True, "1", 1.0]), max_size=2),
    filters=st.builds(Filters, pids=st.lists(st.integers(1, 3), max_size=3), host_only=st.booleans()),
    coalesce=st.sampled_from([0, 1]),
)
sets = st.lists(requests, max_size=4, unique_by=lambda r: r.id)


at_leisure = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared


@at_leisure
@given(sets, sets, st.booleans())
def test_applied_once_there_is_nothing_left_to_do(before, after, prune):
    there = [tracker(one) for one in before]
    first = diff(after, there, lambda _: prune)
    second = diff(after, applied(first, there), lambda _: prune)
    assert not [change for change in second if change.changes]


@at_leisure
@given(sets, sets, st.booleans(), st.integers(0, 8))
def test_rolled_back_a_server_runs_what_it_ran_however_far_the_plan_had_come(before, after, prune, done):
    there = [tracker(one) for one in before]
    changes = diff(after, there, lambda _: prune)[:done]
    now = applied(changes, there)
    back = applied(rollback(there, now, changes), now)
    running = [t for t in back if t.state == "running"]
    assert {t.id for t in running} == {one.id for one in before}
    assert not [c for c in diff(before, running, lambda _: True) if c.changes]


def test_rollback_stops_what_was_created_and_leaves_others_alone():
    there = [tracker(request("old", duration=5)), tracker(request("other"))]
    changes = diff([request("old"), request("new")], there, never)
    now = applied(changes, there)
    now.append(tracker(request("meanwhile")))
    assert [(c.action, c.id) for c in rollback(there, now, changes)] == [("update", "old"), ("stop", "new")]


def test_declared_trackers_become_requests_with_the_digests_of_their_objects():
    declared = [Declared(id="a", kind="process"), Declared(id="b", object="/b.o")]
    found = plan.wanted(declared, {"/b.o": ONE}.__getitem__)
    assert found == [TrackerRequest(id="a", kind="process"), TrackerRequest(id="b", object=ONE)]


class TestHosts:
    def test_are_given_by_comma_in_one_or_several_words(self):
        assert plan.hosts_of(["a, b", "c"]) == ["a", "b", "c"]

    @pytest.mark.parametrize(
        ("word", "said"), [("a,,b", "a host is empty"), ("", "a host is empty"), ("a,b,a", "'a' is there twice")]
    )
    def test_are_given_once_and_not_empty(self, word, said):
        with pytest.raises(ValueError, match=said):
            plan.hosts_of([word])

    @pytest.mark.parametrize(
        ("steps", "sizes"),
        [
            ("", [10]), ("100%", [10]), ("1", [1, 9]), ("1,25%,100%", [1, 2, 7]), ("1%,50%", [1, 4, 5]),
            ("3,3,2,5", [3, 2, 5]), ("50", [10]), ("10", [10]), (" 1 , 2 ", [1, 1, 8]),
        ],
    )  # fmt: skip
    def test_are_taken_in_waves_that_grow(self, steps, sizes):
        hosts = [f"h{i}" for i in range(10)]
        found = waves(hosts, steps)
        assert [len(wave) for wave in found] == sizes
        assert [host for wave in found for host in wave] == hosts

    @pytest.mark.parametrize("steps", ["0", "-1", "101%", "a", "1,,2", "1.5", "%", "9" * 5000])
    def test_are_not_taken_in_waves_that_are_none(self, steps):
        with pytest.raises(ValueError, match="write waves as in 1,25%,100%"):
            waves(["a"], steps)

    def test_may_be_none(self):
        assert waves([], "1,50%") == []


def test_a_plan_is_a_table():
    plans = {
        "a.example.com": diff(
            [request("new"), request("web", duration=60, filters=Filters(uids=[0]))],
            [tracker(request("web")), tracker(request("mine")), tracker(request("old"))],
            lambda id_: id_ == "old",
        ),
        "b": diff([request("new")], [tracker(request("new"))], never),
        "c": [],
    }
    assert plan.table(plans).splitlines() == [
        "HOST           TRACKER  ACTION          DETAILS",
        "a.example.com  new      create",
        'a.example.com  web      update (patch)  filters: as usual -> {"uids":[0]}',
        "                                        duration: as usual -> 60.0",
        "a.example.com  mine     keep",
        "a.example.com  old      stop",
        "b              new      unchanged",
        "c                       nothing to do",
        "1 to create, 1 to update, 1 to stop, 1 unchanged, 1 not declared, which go on",
    ]


def test_a_plan_is_json():
    found = json.loads(plan.as_json({"a": diff([request("web", duration=60)], [tracker(request("web"))], never)}))
    assert found["summary"] == {"create": 0, "update": 1, "stop": 0, "unchanged": 0, "keep": 0}
    (host,) = found["hosts"]
    assert host["host"] == "a"
    (change,) = host["changes"]
    assert (change["action"], change["id"], change["how"]) == ("update", "web", "patch")
    assert change["fields"] == [{"field": "duration", "before": None, "after": 60.0}]


def test_what_a_server_reports_cannot_forge_a_line():
    evil = msgspec.structs.replace(tracker(request()), id="x\n\x1b[2Jb  stop")
    lines = plan.table({"a": diff([], [evil], never)}).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(r"a     x\n\x1b[2Jb  stop")
