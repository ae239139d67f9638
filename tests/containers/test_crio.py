# SPDX-License-Identifier: BSD-2-Clause
"""CRI-O's bundles, written by the tests, valid and invalid; ``test_trees.py`` has whole trees."""

import json
import os
from pathlib import Path

import pytest

from eunomia.containers import conmon, storage
from eunomia.containers.daemons import Daemon, DataRoot
from eunomia.containers.runtimes import crio as module
from eunomia.containers.runtimes.crio import Crio
from eunomia.containers.storage import Store
from eunomia.identity import CREATED, EXITED, RUNNING, Container
from tests.containers.stage import DB, INNER, WEB

UID = "8678bf4a-f56b-4559-a201-2a6525cd2793"
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
PATH = f"{SLICE}/crio-{WEB}.scope"
IMAGE_ID = "38" * 32
POD_LABELS = {"app": "shop", "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID}


def bundle(top: Path, container_id: str, notes: dict, **more: object) -> Path:
    """Write a bundle as CRI-O lays it out."""
    directory = top / "overlay-containers" / container_id / "userdata"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"annotations": notes, "process": {"args": ["httpd"]}, **more}))
    return directory


def note(**values: object) -> dict:
    dotted = {key.replace("__", "."): value for key, value in values.items()}
    return {f"io.kubernetes.cri-o.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in dotted.items()}


@pytest.fixture
def tops(tmp_path):
    root, run = tmp_path / "root", tmp_path / "run"
    sandbox = note(
        ContainerType="sandbox", SandboxID=DB, KubeName="web-0", Namespace="shop", Labels=POD_LABELS,
        Annotations={"team": "red"}, IP__0="10.85.0.9", IP__1="fd00::9", HostNetwork="false", Image="registry.k8s.io/pause:3.9",
    )  # fmt: skip
    bundle(root, DB, sandbox)
    container = note(
        ContainerType="container", SandboxID=DB, ImageName="docker.io/library/httpd:2", Image="httpd:2", ImageRef=IMAGE_ID,
        Labels={"io.kubernetes.container.name": "app", **POD_LABELS}, Annotations={"io.kubernetes.container.hash": "5b"},
        Metadata={"name": "app", "attempt": 3}, Created="2026-11-23T23:44:17.5Z", SeccompProfilePath="runtime/default",
    )  # fmt: skip
    own = {"io.kubernetes.container.name": "app", "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID}
    bundle(run, WEB, container | own, linux={"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}})
    return root, run


@pytest.fixture
def crio(tops):
    return Crio([Store(DataRoot("/", str(tops[0])), str(tops[1]))])


def test_a_container_has_its_pod(crio, tops):
    (tops[0] / "overlay-images").mkdir()
    (tops[0] / "overlay-images/images.json").write_text(json.dumps([{"id": IMAGE_ID, "digest": "sha256:" + "25" * 32}]))
    found, pod = crio.lookup(WEB, PATH)
    assert (found.id, found.name, found.image, found.runtime) == (WEB, "app", "docker.io/library/httpd:2", "cri-o")
    assert (found.image_id, found.image_digest) == (f"sha256:{IMAGE_ID}", "sha256:" + "25" * 32)
    assert (found.command, found.seccomp, found.restarts, found.sandbox) == (("httpd",), "default", 3, False)
    assert found.annotations == (("io.kubernetes.container.hash", "5b"),)
    assert (found.network, found.addresses) == ("pod", ("10.85.0.9", "fd00::9"))
    assert found.created == 1795477457_500000000
    assert (pod.name, pod.namespace, pod.uid, pod.sandbox, pod.qos) == ("web-0", "shop", UID, DB, "Burstable")
    assert (pod.labels, pod.annotations) == ((("app", "shop"),), (("team", "red"),))
    assert pod.addresses == ("10.85.0.9", "fd00::9")


def test_a_sandbox_is_marked_as_one(crio):
    found, pod = crio.lookup(DB, f"{SLICE}/crio-{DB}.scope")
    assert (found.name, found.image, found.sandbox, found.restarts) == ("POD", "registry.k8s.io/pause:3.9", True, None)
    assert (pod.name, pod.namespace, pod.uid, pod.sandbox) == ("web-0", "shop", UID, DB)


def test_what_becomes_of_a_container_is_a_change_each_time(crio, tops):
    """The pid file exists before the start and after the end: it shows neither."""
    run, root = (top / "overlay-containers" / WEB / "userdata" for top in (tops[1], tops[0]))
    root.mkdir(parents=True)
    made, started = "2026-11-23T23:44:18.25Z", "2026-11-23T23:44:18.5Z"

    def told() -> Container:
        found, _ = crio.lookup(WEB, PATH)
        assert not crio.changed(found, PATH)
        return found

    def state(status: str, **more: str) -> None:
        (root / "state.json").write_text(json.dumps({"status": status, "created": made, **more}))

    found = told()
    assert (found.state, found.pid, found.started) == (CREATED, 0, 0)
    assert crio.watches(found, PATH) == [str(run), str(root)]
    (run / "pidfile").write_text("77")
    assert crio.changed(found, PATH)
    found = told()
    assert (found.state, found.pid, found.started) == (CREATED, 77, 0)
    state("created")
    assert (told().state, told().created) == (CREATED, 1795477458_250000000)
    state("running", started=started)
    assert crio.changed(found, PATH)
    found = told()
    assert (found.state, found.pid, found.started) == (RUNNING, 77, 1795477458_500000000)
    (root / "exit").write_text("0")
    assert crio.changed(found, PATH)
    found = told()
    assert (found.state, found.pid, found.started) == (EXITED, 0, 1795477458_500000000)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"status": 5}', b'{"status": []}', b'{"status": "?", "started": {}}'])
def test_a_state_of_any_kind_does_no_harm(crio, tops, data):
    (tops[1] / "overlay-containers" / WEB / "userdata/state.json").write_bytes(data)
    assert crio.lookup(WEB, PATH).container.state == CREATED


def test_the_list_of_containers_has_a_sandboxs_image(crio, tops):
    lists, digest = tops[0] / "overlay-containers/volatile-containers.json", "sha256:" + "26" * 32
    lists.write_text(json.dumps([{"id": DB, "image": IMAGE_ID, "names": ["k8s_POD_web-0_shop_x_0"]}]))
    (tops[0] / "overlay-images").mkdir()
    (tops[0] / "overlay-images/images.json").write_text(json.dumps([{"id": IMAGE_ID, "digest": digest}]))
    found = crio.lookup(DB, f"{SLICE}/crio-{DB}.scope").container
    assert (found.image_id, found.image_digest) == (f"sha256:{IMAGE_ID}", digest)


def test_conmon_leads_to_the_store_that_crio_keeps(tmp_path, tops, monkeypatch):
    """CRI-O's bundle lies in the run root; ``--persist-dir`` alone leads to the root."""
    monkeypatch.setattr(module, "roots_stores", lambda: iter(()))
    root, run = (f"{top}/overlay-containers/{WEB}/userdata" for top in tops)
    arguments = ["conmon", "-b", run, "-c", WEB, "-p", f"{run}/pidfile", "--persist-dir", root]
    monkeypatch.setattr(conmon, "pids", lambda comm: [str(os.getpid())])
    monkeypatch.setattr(conmon, "daemon_of", lambda pid: Daemon("/", arguments=arguments))
    stores = conmon.Stores(usual=lambda: iter(()))
    assert stores.look_again()
    assert [(s.root.path, s.run) for s in stores.for_cgroup(PATH)] == [(str(tops[0]), str(tops[1]))]


@pytest.mark.parametrize(
    ("parent", "name", "container_id"),
    [
        ("pod1", f"crio-{WEB}", WEB),
        ("x.slice", f"crio-{WEB}.scope", WEB),
        ("x.slice", f"crio-conmon-{WEB}.scope", ""),
        ("pod1", f"crio-conmon-{WEB}", ""),
        ("pod1", WEB, ""),
        ("pod1", f"cri-containerd-{WEB}.scope", ""),
        ("x.slice", "crio.service", ""),
    ],
)
def test_only_containers_cgroups_are_recognised(crio, parent, name, container_id):
    assert crio.recognises(parent, name) == container_id
    if not container_id:
        assert crio.lookup(WEB, f"/{parent}/{name}") is None


def test_pods_on_the_hosts_network_say_so(crio, tops):
    bundle(tops[0], DB, note(ContainerType="sandbox", SandboxID=DB, HostNetwork="true"))
    assert crio.lookup(WEB, PATH).container.network == "host"


@pytest.mark.parametrize(
    "notes",
    [
        {},
        note(ContainerType=5, SandboxID=["x"], Labels="[", Metadata="null", Annotations="{" * 100_000),
        note(ContainerType="container", SandboxID="../../../etc", Labels={"a": {"b": []}}, Metadata={"attempt": "x", "name": 5}, ImageRef="@sha256:"),
        {"io.kubernetes.cri-o.Labels": 5, "io.kubernetes.pod.name": [], "io.kubernetes.container.name": "\x1b[2J\x00"},
    ],
    ids=["none", "kinds", "values", "numbers"],
)  # fmt: skip
def test_annotations_of_any_kind_do_no_harm(crio, tops, notes):
    bundle(tops[1], WEB, notes)
    found = crio.lookup(WEB, PATH)
    assert found.container.id == WEB
    assert found.container.name


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff" * 10, b"[" * 100_000, b'{"annotations":' * 50_000])
def test_bundles_of_any_kind_do_no_harm(crio, tops, data):
    (tops[1] / "overlay-containers" / WEB / "userdata/config.json").write_bytes(data)
    found = crio.lookup(WEB, PATH)
    assert found is None or found.pod is None


def test_a_container_that_is_not_there_is_not_known(crio):
    assert crio.lookup(INNER, f"{SLICE}/crio-{INNER}.scope") is None


def test_the_configuration_says_where_the_store_is(tmp_path, tops, monkeypatch):
    machine = tmp_path / "machine"
    (machine / "etc/crio/crio.conf.d").mkdir(parents=True)
    (machine / "etc/crio/crio.conf").write_text("[crio]\nroot = '/other'\nrunroot = '/run/other'\n")
    (machine / "etc/crio/crio.conf.d/10.conf").write_text("[crio]\nroot = '/data/crio'\n")
    (machine / "etc/crio/crio.conf.d/20.conf").write_text("[crio")
    for where in (module, storage):
        monkeypatch.setattr(where, "host_bases", lambda: [str(machine)])
    monkeypatch.setattr(conmon, "pids", lambda comm: [])
    for top, name in zip(tops, ("data/crio", "run/other"), strict=True):
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        os.rename(top, machine / name)
    assert Crio().lookup(WEB, PATH).container.name == "app"


@pytest.mark.parametrize(
    ("asked", "filtered", "shown"),
    [
        ("RuntimeDefault", True, "default"),
        ("runtime/default", True, "default"),
        ("localhost/mine.json", True, "mine.json"),
        ("Unconfined", False, "unconfined"),
        ("RuntimeDefault", False, "unconfined"),
    ],
)
def test_a_profile_is_shown_as_it_is_applied(crio, tops, asked, filtered, shown):
    linux = {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}} if filtered else {}
    bundle(tops[1], WEB, note(SeccompProfilePath=asked), linux=linux)
    assert crio.lookup(WEB, PATH).container.seccomp == shown


def test_a_store_without_containers_of_crios_is_not_its(crio, tops):
    assert [store.run for store in crio.search()] == [str(tops[1])]
    for top, container_id in ((tops[0], DB), (tops[1], WEB)):
        bundle(top, container_id, {"io.container.manager": "libpod"})
    assert crio.search() == []
