# SPDX-License-Identifier: BSD-2-Clause
"""Facts from the API's objects: owners, services, static pods, and identities that are updated."""

from __future__ import annotations

import json
import os
import select
import time

import pytest

from eunomia.containers.registry import Registry
from eunomia.identity import PENDING, RESOLVED, Container, Pod
from eunomia.kubernetes import objects
from eunomia.kubernetes.facts import Facts
from eunomia.kubernetes.objects import Owner, PodContainer, PodObject, ServiceObject
from tests.containers.stage import Clock, batch
from tests.kubernetes.fake import NODE, PODS, SERVICES

CID = "c" * 64
PAUSE = "f" * 64
UID = "0125bb86-8ca9-4141-95e3-ee78da97ada1"
HASH = "d41d8cd98f00b204e9800998ecf8427e"
REPLICASET = "/apis/apps/v1/namespaces/shop/replicasets/web-5d4f"
JOB = "/apis/batch/v1/namespaces/shop/jobs/report-277"


def owned(kind: str, name: str, uid: str, api: str = "apps/v1") -> dict:
    return {"kind": kind, "name": name, "uid": uid, "apiVersion": api, "controller": True}


def controlled(uid: str, owner: dict) -> dict:
    return {"metadata": {"uid": uid, "ownerReferences": [owner]}}


def pod(name: str, owner: dict | None = None, **labels: str) -> dict:
    metadata = {"name": name, "namespace": "shop", "labels": labels, "ownerReferences": [owner] if owner else None}
    return {"metadata": metadata, "spec": {"nodeName": NODE}}


def made(uid: str = UID, labels: tuple = (("app", "web"),), **more: object) -> PodObject:
    nothing = PodObject(uid, "web-1", "shop", "1", labels, (), NODE, Owner(), ("10.0.0.7",), "Burstable", "", ())
    return nothing._replace(**more)


def status(container_id: str = CID, restarts: int = 2) -> PodContainer:
    return PodContainer(container_id, "containerd", "app", "shop/app:1.2", "sha256:abc", restarts)


def owner_of(seen, uid: str) -> tuple[str, str]:
    found = seen.pod(uid)
    return (found.owner_kind, found.owner_name) if found else ("", "")


# Owners


def test_pods_show_the_deployment_and_the_cronjob_that_made_them(api, follow):
    api.objects[REPLICASET] = controlled("r", owned("Deployment", "web", "d"))
    api.objects[JOB] = controlled("j", owned("CronJob", "report", "c", "batch/v1"))
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    api.apply(PODS, "b", **pod("web-2", owned("ReplicaSet", "web-5d4f", "r")))
    api.apply(PODS, "c", **pod("report-1", owned("Job", "report-277", "j", "batch/v1")))
    api.apply(PODS, "d", **pod("db-0", owned("StatefulSet", "db", "s")))
    api.apply(PODS, "e", **pod("alone"))
    seen = follow()
    seen.until(lambda: owner_of(seen, "a") == owner_of(seen, "b") == ("Deployment", "web"))
    seen.until(lambda: owner_of(seen, "c") == ("CronJob", "report"))
    assert owner_of(seen, "d") == ("StatefulSet", "db")
    assert owner_of(seen, "e") == ("", "")
    assert len(api.asked(REPLICASET)) == len(api.asked(JOB)) == 1, "each is asked for once"


def test_owners_that_may_not_be_read_leave_the_nearest(api, follow):
    api.refuse[REPLICASET] = 403
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    seen = follow()
    seen.until(lambda: owner_of(seen, "a") == ("ReplicaSet", "web-5d4f"))
    api.apply(PODS, "b", **pod("web-2", owned("ReplicaSet", "web-5d4f", "r")))
    seen.until(lambda: owner_of(seen, "b") == ("ReplicaSet", "web-5d4f"))
    assert len(api.asked(REPLICASET)) == 1
    assert len(seen.said) == 1
    assert "does not let us read ReplicaSets" in seen.said[0]


def test_an_owner_that_is_gone_leaves_the_nearest(api, follow):
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    seen = follow()
    seen.until(lambda: owner_of(seen, "a") == ("ReplicaSet", "web-5d4f"))
    assert seen.said == []


def test_an_owner_that_is_not_in_a_servers_cache_yet_is_asked_for_again(api, follow):
    api.cache_lacks.add(REPLICASET)
    api.objects[REPLICASET] = controlled("r", owned("Deployment", "web", "d"))
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    seen = follow()
    seen.until(lambda: owner_of(seen, "a") == ("Deployment", "web"))


def test_an_owner_asked_for_in_bad_times_is_learned_later(api, follow):
    api.objects[REPLICASET] = controlled("r", owned("Deployment", "web", "d"))
    api.refuse[REPLICASET] = 503
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    seen = follow()
    seen.until(lambda: seen.pod("a") and api.asked(REPLICASET))
    assert owner_of(seen, "a") == ("", "")
    api.refuse.clear()
    seen.until(lambda: owner_of(seen, "a") == ("Deployment", "web"))


def test_an_owner_of_the_same_name_is_not_the_one_that_is_gone(api, follow):
    """The ReplicaSet was deleted and another made with its name, of another Deployment; its pods linger."""
    api.objects[REPLICASET] = controlled("new", owned("Deployment", "shop", "d"))
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "old")))
    api.apply(PODS, "b", **pod("web-2", owned("ReplicaSet", "web-5d4f", "new")))
    seen = follow()
    seen.until(lambda: owner_of(seen, "b") == ("Deployment", "shop"))
    seen.until(lambda: owner_of(seen, "a") == ("ReplicaSet", "web-5d4f"))


def test_a_pod_that_claims_anothers_owner_changes_nothing_for_that(api, follow):
    """Whoever makes a pod writes its owner references: here with the uid of another namespace's ReplicaSet."""
    api.objects["/apis/apps/v1/namespaces/shop/replicasets/liar"] = controlled("l", owned("Deployment", "liar", "d"))
    api.objects[REPLICASET] = controlled("r", owned("Deployment", "web", "d"))
    api.apply(PODS, "a", **pod("liar-1", owned("ReplicaSet", "liar", "r")))
    seen = follow()
    seen.until(lambda: owner_of(seen, "a") == ("ReplicaSet", "liar"))
    api.apply(PODS, "b", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    seen.until(lambda: owner_of(seen, "b") == ("Deployment", "web"))
    assert owner_of(seen, "a") == ("ReplicaSet", "liar")


@pytest.mark.parametrize("status", [401, 429, 503])
def test_owners_are_not_stormed_for_and_learned_however_long_it_takes(api, follow, status):
    for n in range(50):
        path = f"/apis/apps/v1/namespaces/shop/replicasets/web-{n}"
        api.objects[path] = controlled(f"r{n}", owned("Deployment", f"web{n}", "d"))
        api.refuse[path] = status
        api.apply(PODS, f"u{n}", **pod(f"web-{n}-1", owned("ReplicaSet", f"web-{n}", f"r{n}")))

    def questions() -> list:
        return [r for r in list(api.requests) if "replicasets" in r.path]

    seen = follow()
    # Pauses of at least 40, 80, 160 ms and then 200 here, for all questions together.
    seen.until(lambda: len(questions()) >= 9)
    asked = questions()
    assert asked[-1].at - asked[0].at > 1.0, [round(r.at - asked[0].at, 2) for r in asked]
    assert [owner_of(seen, f"u{n}") for n in (0, 49)] == [("ReplicaSet", "web-0"), ("ReplicaSet", "web-49")]
    api.refuse.clear()
    seen.until(lambda: all(owner_of(seen, f"u{n}") == ("Deployment", f"web{n}") for n in range(50)))


def test_owners_are_asked_for_again_when_the_server_says(api, follow):
    api.objects[REPLICASET] = controlled("r", owned("Deployment", "web", "d"))
    api.refuse[REPLICASET], api.retry_after = 429, "1"
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "web-5d4f", "r")))
    seen = follow()
    seen.until(lambda: api.asked(REPLICASET))
    api.refuse.clear()
    seen.until(lambda: owner_of(seen, "a") == ("Deployment", "web"))
    first, second = api.asked(REPLICASET)
    assert second.at - first.at >= 1


def test_names_that_would_lead_elsewhere_are_not_asked_for(api, follow):
    api.apply(PODS, "a", **pod("web-1", owned("ReplicaSet", "../../../secrets", "r")))
    seen = follow()
    seen.until(lambda: owner_of(seen, "a") == ("ReplicaSet", "../../../secrets"))
    assert {r.path for r in api.requests} <= {PODS, SERVICES, f"/api/v1/nodes/{NODE}"}


# Services


def service(name: str, namespace: str = "shop", **selector: str) -> dict:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"selector": selector or None}}


def test_pods_show_the_services_that_select_them_as_both_change(api, follow):
    api.apply(PODS, "a", **pod("web-1", app="web", tier="front"))
    api.apply(SERVICES, "s1", **service("web", app="web"))
    api.apply(SERVICES, "s2", **service("front", app="web", tier="front"))
    api.apply(SERVICES, "s3", **service("other", app="db"))
    api.apply(SERVICES, "s4", **service("elsewhere", "bank", app="web"))
    api.apply(SERVICES, "s5", **service("external"))
    seen = follow()
    seen.until(lambda: seen.pod("a") and seen.pod("a").services == ("front", "web"))
    api.apply(PODS, "a", **pod("web-1", app="web"))
    seen.until(lambda: seen.pod("a").services == ("web",))
    api.apply(SERVICES, "s3", **service("other", app="web"))
    seen.until(lambda: seen.pod("a").services == ("other", "web"))
    api.delete(SERVICES, "s1")
    seen.until(lambda: seen.pod("a").services == ("other",))


def selecting(n: int, **selector: str) -> ServiceObject:
    return ServiceObject(f"uid-{n:04}", f"s{n:04}", "shop", "1", tuple(sorted(selector.items())))


def test_of_too_many_services_the_first_are_shown_and_others_take_the_place_of_what_goes(facts):
    facts.put(made())
    for n in reversed(range(70)):
        facts.put_service(selecting(n, app="web"))
    assert facts.pods[UID].services == tuple(f"s{n:04}" for n in range(64))
    facts.drop_service("uid-0003")
    assert facts.pods[UID].services == tuple(f"s{n:04}" for n in range(65) if n != 3)


def test_a_service_made_again_is_shown_though_the_old_one_is_removed_later(facts):
    """In a list that is compared with what was known, what is new comes first."""
    facts.put(made())
    facts.put_service(selecting(1, app="web"))
    facts.put_service(selecting(1, app="web")._replace(uid="another"))
    facts.drop_service("uid-0001")
    assert facts.pods[UID].services == ("s0001",)


def test_a_namespace_of_thousands_of_services_and_a_full_node_is_read_quickly(facts):
    """Each service once looked at all of them for each pod: minutes of what the rows need."""
    for n in range(110):
        facts.put(made(f"u{n}", labels=(("app", f"a{n}"), ("tier", "front"))))
    began = time.thread_time()
    for n in range(3000):
        facts.put_service(selecting(n, app=f"a{n}"))
    facts.put_service(selecting(9000, tier="front"))
    assert time.thread_time() - began < 5
    assert facts.pods["u7"].services == ("s0007", "s9000")


# Identities


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def facts():
    facts = Facts()
    yield facts
    facts.close()


@pytest.fixture
def registry(tmp_path, clock, facts) -> Registry:
    registry = Registry([], mount=str(tmp_path), clock=clock)
    registry.enrich(facts)
    return registry


def refreshed(registry: Registry, facts: Facts) -> Registry:
    registry.refresh(facts.news())
    return registry


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{UID}/{CID}",
        f"/kubelet/kubepods/pod{UID}/{CID}",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/{CID}",
    ],
)
def test_a_container_is_named_by_the_api_where_no_runtime_knows_it(registry, facts, path):
    registry.feed([batch("made", (7, path))])
    assert registry[7].state != RESOLVED
    facts.put(made(containers=(status(),)))
    identity = refreshed(registry, facts)[7]
    assert identity.state == RESOLVED
    assert identity.container == Container(
        CID, "app", "shop/app:1.2", "containerd", image_digest="sha256:abc", restarts=2
    )
    assert identity.pod == Pod(
        "web-1", "shop", UID, (("app", "web"),), addresses=("10.0.0.7",), node=NODE, qos="Burstable"
    )


def test_a_pause_container_has_its_pod_by_the_cgroups_path(registry, facts):
    registry.feed([batch("made", (7, f"/kubepods/besteffort/pod{UID}/{PAUSE}"))])
    facts.put(made(containers=(status(),)))
    identity = refreshed(registry, facts)[7]
    assert identity.state == PENDING
    assert identity.pod.name == "web-1"


def test_a_static_pod_is_found_by_its_hash_and_by_its_containers(registry, facts):
    registry.feed([batch("made", (7, f"/kubepods/pod{HASH}/{PAUSE}"), (8, f"/kubepods/pod{HASH}/{CID}"))])
    facts.put(made(hash=HASH, containers=(status(),)))
    refreshed(registry, facts)
    assert registry[7].pod.uid == registry[8].pod.uid == UID
    assert registry[8].container.name == "app"


def test_a_mirror_pod_made_again_keeps_its_containers(registry, facts):
    now = [0.0]
    facts._clock = lambda: now[0]
    registry.feed([batch("made", (8, f"/kubepods/pod{HASH}/{CID}"))])
    facts.put(made(hash=HASH, containers=(status(),)))
    facts.drop(UID)
    again = UID.replace("0", "1")
    facts.put(made(again, hash=HASH, containers=(status(),)))
    now[0] = 1000.0
    facts.put(made("another", containers=()))  # what was deleted is forgotten now
    assert UID not in facts.pods
    assert refreshed(registry, facts)[8].pod.uid == again


@pytest.mark.parametrize("first", ["the liar", "the other"])
def test_a_pod_that_says_anothers_uid_as_its_hash_is_not_taken_for_it(registry, facts, first):
    """Annotations are whatever the pod's maker wrote: a static pod's hash must not be believed over a uid."""
    owner = Owner("StatefulSet", "web", "s", "apps")
    liar = made("liar", name="liar", namespace="evil", hash=UID, owner=owner._replace(uid="l"))
    pods = [liar, made(owner=owner, containers=(status(),))]
    registry.feed([batch("made", (7, f"/kubepods/pod{UID}/{CID}"), (8, f"/kubepods/pod{UID}/{PAUSE}"))])
    for pod in pods if first == "the liar" else reversed(pods):
        facts.put(pod)
    facts.put(liar._replace(labels=(("app", "liar"),)))
    refreshed(registry, facts)
    assert {registry[7].pod.name, registry[8].pod.name} == {"web-1"}
    now = time.monotonic() + 1000
    facts._clock = lambda: now
    facts._leaving["liar"] = 0.0  # it was deleted, long ago
    facts.drop("never heard of")
    assert set(facts.pods) == {UID}
    facts.learned("s")  # all that is kept of the other is there yet
    assert refreshed(registry, facts)[8].pod.owner_name == "web"


def test_a_hash_is_that_of_mirror_pods_alone():
    metadata = {"uid": UID, "annotations": {"kubernetes.io/config.hash": HASH}}
    assert objects.pod(json.dumps({"metadata": metadata}).encode()).hash == ""
    metadata["annotations"]["kubernetes.io/config.mirror"] = HASH
    assert objects.pod(json.dumps({"metadata": metadata}).encode()).hash == HASH


def test_a_pod_that_comes_back_is_not_forgotten(facts):
    now = [0.0]
    facts._clock = lambda: now[0]
    facts.put(made())
    facts.drop(UID)
    facts.put(made(version="2"))
    now[0] = 200.0
    facts.put(made("another"))
    assert set(facts.pods) == {UID, "another"}


def test_a_label_that_changes_is_passed_on_to_subscribers(registry, facts):
    told = []
    registry.feed([batch("made", (7, f"/kubepods/pod{UID}/{CID}"))])
    facts.put(made(containers=(status(),)))
    refreshed(registry, facts)
    registry.subscribe(lambda cgroup, identity, path: told.append(identity))
    told.clear()
    facts.put(made(labels=(("app", "shop"),), containers=(status(),)))
    refreshed(registry, facts)
    assert [identity.pod.labels for identity in told] == [(("app", "shop"),)]


def test_what_did_not_change_is_no_news(facts):
    facts.put(made(containers=(status(),)))
    assert facts.news() == {UID, CID}
    facts.put(made(version="2", containers=(status(),)))
    assert facts.news() == frozenset()


def test_news_wake_a_loop_that_sleeps(facts):
    poll = select.poll()
    poll.register(facts.descriptor, select.POLLIN)
    assert not poll.poll(0)
    facts.put(made())
    assert poll.poll(0)
    facts.news()
    assert not poll.poll(0)


def test_a_deleted_pod_is_known_while_its_containers_end(facts):
    now = [0.0]
    facts._clock = lambda: now[0]
    facts.put(made(containers=(status(),)))
    facts.drop(UID)
    now[0] = 59.0
    facts.drop("never heard of")
    assert facts.enrich(Container(CID), None, UID)[1] is not None
    now[0] = 200.0
    facts.drop("never heard of")
    assert facts.enrich(Container(CID), None, UID) == (Container(CID), None)
    assert (facts._pods, facts._containers, facts._owned) == ({}, {}, {}), "nothing is kept of it"


def test_pods_that_come_and_go_leave_no_memory(facts):
    now = [0.0]
    facts._clock = lambda: now[0]
    for n in range(2000):
        now[0] += 10
        owner = Owner("ReplicaSet", f"r{n}", f"r{n}", "apps")
        facts.put(made(f"u{n}", owner=owner, containers=(status(f"c{n}"),)))
        facts.put_service(ServiceObject(f"s{n}", "s", f"ns{n}", "1", (("a", "b"),)))
        facts.drop(f"u{n}")
        facts.drop_service(f"s{n}")
    assert max(map(len, (facts._pods, facts._containers, facts._owned, facts._leaving, facts._neighbours))) < 10
    assert not facts._services
    assert not facts._selectors


def test_the_loop_never_waits_for_the_api(api, follow):
    """Each answer of the API takes a second here; asking the watcher takes none of it."""
    before = api.refuse
    api.refuse = type("Slow", (dict,), {"get": lambda self, *a: time.sleep(1) or before.get(*a)})()
    seen = follow()
    began = time.monotonic()
    for _ in range(1000):
        seen.watcher.enrich(Container(CID), None, UID)
        seen.watcher.news()
    assert time.monotonic() - began < 0.3


def test_descriptors_and_threads_are_given_back(api, kubeconfig):
    from tests.kubernetes.conftest import Following

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = None
    for _ in range(3):
        seen = Following(kubeconfig)
        seen.until(lambda: api.watching == 2)
        began = time.monotonic()
        seen.watcher.close()
        assert time.monotonic() - began < 1, "closing wakes threads that wait for the server"
        assert not any(thread.is_alive() for thread in seen.watcher._threads)
        seen.until(lambda: api.watching == 0)
        before = before or descriptors()
    seen.until(lambda: descriptors() <= before)  # the server's side closes when it will
