# SPDX-License-Identifier: BSD-2-Clause
"""Lists and watches with failures in between: no loss, no duplicates, no request storm."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest

from tests.kubernetes.fake import NODE, PODS, SERVICES

# Pauses are of at least 10, 20, 40 ... 200 ms here, 25 times that for users: so many requests take so many seconds.
MANY, AT_LEAST = 12, 1.4


def pod(name: str = "web-1", **labels: str) -> dict:
    return {
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {"nodeName": NODE},
        "status": {"podIP": "10.0.0.7", "qosClass": "Burstable"},
    }


def test_pods_are_listed_once_and_watched_from_there(api, follow):
    api.apply(PODS, "a", **pod("web-1", app="web"))
    seen = follow()
    seen.until(lambda: seen.pod("a") and api.watching)
    api.apply(PODS, "b", **pod("web-2"))
    api.apply(PODS, "a", **pod("web-1", app="shop"))
    seen.until(lambda: seen.pod("b") and dict(seen.pod("a").labels) == {"app": "shop"})
    listing, watching = api.asked(watch=False), api.asked(watch=True)
    assert len(listing) == len(watching) == 1
    assert listing[0].query == {"fieldSelector": f"spec.nodeName={NODE}", "limit": "500", "resourceVersion": "0"}
    asked = watching[0].query
    assert (asked["fieldSelector"], asked["allowWatchBookmarks"]) == (f"spec.nodeName={NODE}", "true")
    assert (asked["resourceVersion"], int(asked["timeoutSeconds"]) >= 300) == ("101", True)
    assert seen.said == []


def test_a_long_list_is_read_by_pages(api, follow):
    for n in range(1203):
        api.apply(PODS, f"u{n}", **pod(f"p{n}"))
    seen = follow()
    seen.until(lambda: len(seen.watcher.pods) == 1203)
    pages = [r.query.get("continue", "").rpartition(":")[2] for r in api.asked(watch=False)]
    assert pages == ["", "500", "1000"]


@pytest.mark.parametrize("at_once", [True, False])
def test_long_objects_hide_no_others(api, follow, monkeypatch, at_once):
    """Whoever may make pods makes as many as a server takes, and each as long."""
    monkeypatch.setattr("eunomia.kubernetes.access.PAGE_LIMIT", 100_000)
    api.ignores_limit = at_once
    for n in range(100):
        api.apply(PODS, f"u{n}", metadata={"name": f"p{n}", "annotations": {"a": "x" * 9000}})
    seen = follow()
    seen.until(lambda: len(seen.watcher.pods) == 100 and api.watching == 2)
    sizes = [int(r.query["limit"]) for r in api.asked(watch=False)]
    assert sizes[:3] == [500, 500, 62]
    assert set(sizes[3:]) == {7}
    assert "resourceVersion" not in api.asked(watch=False)[1].query, "the newest, which comes by pages"
    assert seen.said == []
    api.apply(PODS, "late", **pod("late"))
    seen.until(lambda: seen.pod("late"))


def test_an_answer_without_an_end_is_said_once(api, follow, monkeypatch):
    monkeypatch.setattr("eunomia.kubernetes.access.PAGE_LIMIT", 5000)
    api.apply(PODS, "a", metadata={"name": "a", "annotations": {"a": "x" * 9000}})
    seen = follow()
    seen.until(lambda: seen.said)
    time.sleep(1)
    assert len(api.asked()) <= 15
    assert len(seen.said) == 1
    assert "an answer of more than 5000 bytes" in seen.said[0]


@pytest.mark.parametrize("bytes_", [0, 1, 150, 400])
def test_a_watch_cut_in_an_event_resumes_without_a_list(api, follow, bytes_):
    seen = follow()
    seen.until(lambda: api.watching == 2)
    api.cut_at = bytes_
    for n in range(5):
        api.apply(PODS, f"u{n}", **pod(f"p{n}"))
    seen.until(lambda: len(seen.watcher.pods) == 5)
    assert len(api.asked(watch=False)) == 1
    assert len(api.asked(watch=True)) == 2
    assert sorted(seen.changes) == [(f"u{n}", str(101 + n)) for n in range(5)], "each once"
    assert seen.said == []


def test_a_server_that_accepts_and_does_not_answer_is_asked_again(api, follow, monkeypatch):
    """A balancer may hold connections to a server that is gone: another one may be there for the next."""
    monkeypatch.setattr("eunomia.kubernetes.follower.PATIENCE", 0.3)
    api.hangs = True
    seen = follow()
    seen.until(lambda: len(api.asked(watch=True)) >= 2)
    api.hangs = False
    api.apply(PODS, "a", **pod())
    seen.until(lambda: seen.pod("a"))
    time.sleep(1)
    assert api.watching == 2, "one that has begun may be silent for longer"
    assert len(api.asked(watch=False)) == 1


def test_a_bookmark_is_where_a_watch_resumes(api, follow):
    seen = follow()
    seen.until(lambda: api.watching == 2)
    api.version = 5000
    api.bookmark()
    api.apply(PODS, "a", **pod())
    seen.until(lambda: seen.pod("a"))
    api.version = 7000
    api.bookmark()
    time.sleep(0.3)
    api.forget()  # everything before: only who has read the bookmark can resume
    api.hang_up()
    seen.until(lambda: len(api.asked(watch=True)) >= 2 and api.watching >= 1)
    assert len(api.asked(watch=False)) == 1
    assert [r.query["resourceVersion"] for r in api.asked(watch=True)][:2] == ["100", "7000"]


@pytest.mark.parametrize("told", ["in the watch", "at its start"])
def test_after_410_a_list_is_compared_with_what_is_known(api, follow, told):
    for uid in "abc":
        api.apply(PODS, uid, **pod(uid))
    seen = follow()
    seen.until(lambda: len(seen.watcher.pods) == 3 and api.watching == 2)
    seen.changes.clear()
    with api.changed:  # all of it unseen by the watch
        history, api.history[PODS] = api.history[PODS], []
    api.delete(PODS, "a")
    api.apply(PODS, "b", **pod("b", changed="yes"))
    api.apply(PODS, "d", **pod("d"))
    with api.changed:
        api.history[PODS] = history
    api.forget()
    if told == "in the watch":
        api.send("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})
    else:
        api.hang_up()
    seen.until(lambda: len(api.asked(watch=False)) == 2 and len(seen.changes) >= 3)
    time.sleep(0.1)
    assert sorted(seen.changes) == [("a", "gone"), ("b", "105"), ("d", "106")], "c is as it was, so nothing is said of it"
    again = api.asked(watch=False)[1].query
    assert int(again["resourceVersion"]) >= 103, "not older than what was seen"
    assert again["resourceVersionMatch"] == "NotOlderThan"
    assert seen.said == []


def test_410_after_an_outage_is_followed_by_a_list_immediately(api, follow):
    """The pauses have grown without answers, up to 45 s for users; a server that was restarted answers 410."""
    api.apply(PODS, "a", **pod())
    seen = follow()
    seen.until(lambda: api.watching == 2)
    seen.watcher._pods._pause_limit = 60.0
    api.refuse_watches = 503
    api.hang_up()
    seen.until(lambda: len(api.asked(watch=True)) >= 9)  # pauses of 1.3 s and more by now
    assert "changes of pods will be missing" in "".join(seen.said)
    api.apply(SERVICES, "s")
    api.forget()
    api.refuse_watches = 0
    seen.until(lambda: len(api.asked(watch=False)) == 2, 20)
    listed = api.asked(watch=False)[1].at
    assert listed - max(r.at for r in api.asked(watch=True) if r.at < listed) < 1


def test_pods_deleted_while_a_list_is_read_are_not_kept(api, follow):
    for n in range(700):
        api.apply(PODS, f"u{n:03}", **pod(f"p{n}"))
    api.after_page = lambda: [api.delete(PODS, f"u{n:03}") for n in range(5)]
    seen = follow()
    seen.until(lambda: ("u004", "gone") in seen.changes)
    time.sleep(0.1)
    assert [c for c in seen.changes if c[1] == "gone"] == [(f"u{n:03}", "gone") for n in range(5)]


def test_a_next_page_that_is_forgotten_begins_the_list_again(api, follow):
    for n in range(700):
        api.apply(PODS, f"u{n}", **pod(f"p{n}"))
    api.refuse_pages = 410
    seen = follow()
    seen.until(lambda: len(api.asked(watch=False)) >= 4)
    api.refuse_pages = 0
    seen.until(lambda: len(seen.watcher.pods) == 700 and api.watching == 2)
    assert not [c for c in seen.changes if c[1] == "gone"]
    assert len(seen.changes) == 700, "pods of the first page are passed on once"


@pytest.mark.parametrize("status", [429, 500, 503, 401])
def test_a_server_in_trouble_is_not_stormed(api, follow, status):
    api.refuse[PODS] = api.refuse[SERVICES] = status
    seen = follow()
    seen.until(lambda: len(api.asked()) >= MANY, 60)
    requests = api.asked()
    gaps = [b.at - a.at for a, b in pairwise(requests)]
    assert requests[MANY - 1].at - requests[0].at > AT_LEAST, gaps
    assert min(gaps[-3:]) > 0.15
    assert len([s for s in seen.said if "pods" in s]) == 1, seen.said
    api.refuse.clear()
    api.apply(PODS, "a", **pod())
    seen.until(lambda: seen.pod("a"))


def test_retry_after_is_waited_for(api, follow):
    api.refuse[PODS], api.retry_after = 429, "1"
    follow()
    time.sleep(1.5)
    assert len(api.asked()) == 2


@pytest.mark.parametrize("trouble", ["closes", "410", "broken"])
def test_watches_that_end_immediately_cause_no_request_storm(api, follow, trouble):
    api.apply(PODS, "a", **pod())
    if trouble == "closes":
        api.closes = True
    elif trouble == "410":
        api.refuse_watches = 410
    seen = follow()

    def asked():
        if trouble == "broken":
            api.hang_up()
        return api.asked(watch=True)

    seen.until(lambda: len(asked()) >= MANY, 60)
    requests = asked()
    assert requests[MANY - 1].at - requests[0].at > AT_LEAST, [round(r.at - requests[0].at, 2) for r in requests]
    assert seen.changes == [("a", "101")]


def test_what_may_not_be_read_is_said_once_and_the_rest_goes_on(api, follow):
    api.refuse[SERVICES] = 403
    api.apply(PODS, "a", **pod())
    seen = follow()
    seen.until(lambda: seen.pod("a") and seen.said)
    time.sleep(1)
    assert len(seen.said) == 1
    assert "does not let us read services" in seen.said[0]


def test_no_server_at_the_address_is_one_sentence(api, follow, kubeconfig):
    kubeconfig.write_text(kubeconfig.read_text().replace(api.host, "http://127.0.0.1:9"))
    seen = follow()
    seen.until(lambda: len(seen.said) >= 2)
    time.sleep(0.5)
    assert len(seen.said) == 2, "one for pods, one for services"
    assert all("cannot be reached" in s and "refused" in s for s in seen.said)


def test_a_node_that_does_not_exist_is_named_with_those_that_do(api, follow):
    api.objects["/api/v1/nodes"] = {
        "metadata": {"resourceVersion": "1"},
        "items": [{"metadata": {"name": "node-1"}}, {"metadata": {"name": "node-2"}}],
    }
    seen = follow("other")
    seen.until(lambda: seen.said)
    assert "no node other" in seen.said[0]
    assert "--node" in seen.said[0]
    assert "node-1, node-2" in seen.said[0]


def test_a_node_that_does_not_exist_is_named_though_there_was_no_answer_at_first(api, follow):
    api.refuse[PODS] = 503
    seen = follow("other")
    seen.until(lambda: len(api.asked()) >= 3)
    assert not api.asked("/api/v1/nodes/other")
    api.refuse.clear()
    seen.until(lambda: [s for s in seen.said if "no node other" in s])
    assert len(api.asked("/api/v1/nodes/other")) == 1


def test_a_node_with_pods_is_not_asked_for(api, follow):
    api.apply(PODS, "a", **pod())
    seen = follow()
    seen.until(lambda: seen.pod("a") and api.watching == 2)
    assert not api.asked(f"/api/v1/nodes/{NODE}")


def test_watches_that_a_server_drops_together_do_not_come_back_together(api, follow, monkeypatch):
    """All nodes' watches end when a server does; together they would all be at the next one."""
    monkeypatch.setattr("eunomia.kubernetes.follower.LASTED", 0.0)
    seen = follow()
    seen.watcher._pods._pause = 0.4
    seen.until(lambda: api.watching == 2)
    time.sleep(0.1)
    at = time.monotonic()
    api.hang_up()
    seen.until(lambda: len(api.asked(watch=True)) == 2)
    assert api.asked(watch=True)[1].at - at >= 0.2
    seen.until(lambda: api.watching == 2)
    api.hang_up()
    seen.until(lambda: len(api.asked(watch=True)) == 3)
    assert api.asked(watch=True)[2].at - at < 3, "a watch that has lasted is no failure, so pauses stay short"
    assert seen.said == [], "nor is its end anything to say"


HOSTILE = [
    b"{}\n",
    b"\n\n",
    b"not json\n",
    b"\xff\xfe\n",
    b'{"type": "ADDED"}\n',
    b'{"type": 1, "object": {}}\n',
    b'{"type": "ADDED", "object": []}\n',
    b'{"type": "ADDED", "object": {"metadata": {"uid": 7}}}\n',
    b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "150"}}}\n',
    b'{"type": "ADDED", "object": {"metadata": {"uid": "x", "labels": {"a": 1}, "resourceVersion": "151"}}}\n',
    b'{"type": "DELETED", "object": null}\n',
    b'{"type": "BOOKMARK", "object": {}}\n',
    b'{"type": "ERROR", "object": "no"}\n',
    b'{"type": "ERROR", "object": {"code": 500, "message": "\\u001b[31mred"}}\n',
    b'{"type": "UNHEARD-OF", "object": {"metadata": {"resourceVersion": "9"}}}\n',
    b'{"type": "ADDED", "object": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}\n",
    b"[" * 100_000 + b"\n",
    b"x" * (9 << 20),
]


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: ascii(line[:40]))
def test_after_any_line_of_a_watch_the_next_event_is_read(api, follow, line):
    api.version = 200
    seen = follow()
    seen.until(lambda: api.watching == 2)
    api.send_raw(line)
    time.sleep(0.05)
    api.apply(PODS, "a", **pod())
    seen.until(lambda: seen.pod("a"))
    assert not [s for s in seen.said if "not followed" in s]


def test_hostile_texts_are_cut(api, follow):
    api.apply(
        PODS, "big",
        metadata={
            "name": "n" * 100_000, "namespace": "shop",
            "labels": {f"k{n}": "v" * 500 for n in range(2000)},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "secret", "a": "\x1b[31m"},
        },
        status={"containerStatuses": [{"name": "c", "containerID": f"containerd://{n}"} for n in range(5000)]},
    )  # fmt: skip
    seen = follow()
    seen.until(lambda: seen.pod("big"))
    found = seen.pod("big")
    assert len(found.name) == 4096
    assert sum(len(k) + len(v) for k, v in found.labels) < 20_000
    assert found.labels[-1][0] == "..."
    assert "secret" not in str(found.annotations)
    assert len(seen.watcher._facts._containers) == 256
    assert json.dumps(found)


def test_more_pods_than_any_node_has_are_left_out_and_said(api, follow, monkeypatch):
    monkeypatch.setattr("eunomia.kubernetes.watcher.PODS_LIMIT", 10)
    for n in range(20):
        api.apply(PODS, f"u{n}", **pod(f"p{n}"))
    seen = follow()
    seen.until(lambda: seen.said)
    assert len(seen.watcher.pods) == 10
    assert "more than 10 pods" in seen.said[0]


@pytest.mark.parametrize("later", [True, False])
def test_pods_that_are_over_make_room_for_those_that_run(api, follow, monkeypatch, later):
    """A pod that kubelet has no room for fails, and stays: a user who may make pods can make thousands, on any node."""
    monkeypatch.setattr("eunomia.kubernetes.watcher.PODS_LIMIT", 10)
    for n in range(20):
        api.apply(PODS, f"over{n}", **pod(f"over{n}") | {"status": {"phase": ("Failed", "Succeeded")[n % 2]}})
    seen = follow() if later else None
    if seen:
        seen.until(lambda: len(seen.watcher.pods) == 10 and api.watching == 2)
    for n in range(9):
        api.apply(PODS, f"u{n}", **pod(f"p{n}") | {"status": {"phase": ("Pending", "Running")[n % 2]}})
    seen = seen or follow()
    seen.until(lambda: seen.watcher.pods.keys() >= {f"u{n}" for n in range(9)})
    assert [uid for uid, change in seen.changes if change == "gone"] == [f"over{n}" for n in range(9)]
    assert len([s for s in seen.said if "more than 10 pods" in s]) == 1
