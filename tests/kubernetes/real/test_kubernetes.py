# SPDX-License-Identifier: BSD-2-Clause
"""A real Kubernetes: the pods' metadata in rows of `eunomia run --kubernetes`. Run by `make test-k8s`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.real.cluster import NODE, Cluster

COLUMNS = (
    "comm,identity,container.id,container.name,container.image,container.restarts,"
    "pod.name,pod.namespace,pod.uid,pod.labels,pod.annotations,pod.node,pod.owner_kind,pod.owner_name,"
    "pod.services,pod.addresses,pod.qos"
)
LOOP = ["sh", "-c", "while :; do /bin/true; sleep 0.3; done"]
APPS, BATCH = "/apis/apps/v1/namespaces/shop", "/apis/batch/v1/namespaces/shop"


def template(image: str, app: str, command: list[str] = LOOP, **spec: Any) -> dict[str, Any]:
    container = {
        "name": app, "image": image, "imagePullPolicy": "Never", "command": command,
        "resources": {"requests": {"cpu": "1m"}},
    }  # fmt: skip
    return {
        "metadata": {"labels": {"app": app, "tier": "test"}, "annotations": {"team": "payments"}},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            **spec,
        },
    }


def selected(app: str, image: str, **more: Any) -> dict[str, Any]:
    return {"selector": {"matchLabels": {"app": app}}, "template": template(image, app), **more}


def read_rights(kinds: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{"apiGroups": [group], "resources": of, "verbs": ["get", "list", "watch"]} for group, of in kinds.items()]


@pytest.fixture(scope="module")
def shop(kubernetes: Cluster) -> Cluster:
    """A workload of each kind, running."""
    image = kubernetes.containerd.image
    kube = kubernetes
    kube.apply("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    kube._until(lambda: kube.request("GET", "/api/v1/namespaces/shop/serviceaccounts/default"), 20, "an account")
    kube.apply(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        {"metadata": {"name": "reader"}, "rules": read_rights({"": ["pods", "nodes"]})},
    )
    kube.apply(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    )
    kube.apply("/api/v1/namespaces/shop/services", service("web", "web"))
    kube.apply("/api/v1/namespaces/shop/services", service("everything", None, tier="test"))
    kube.apply(f"{APPS}/deployments", {"metadata": {"name": "web"}, "spec": selected("web", image)})
    kube.apply(f"{APPS}/statefulsets", {"metadata": {"name": "db"}, "spec": selected("db", image, serviceName="db")})
    kube.apply(f"{APPS}/daemonsets", {"metadata": {"name": "guard"}, "spec": selected("guard", image)})
    job = template(image, "once", restartPolicy="Never")
    kube.apply(f"{BATCH}/jobs", {"metadata": {"name": "once"}, "spec": {"template": job}})
    every_minute = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template(image, "report", restartPolicy="Never")}}}
    cron = "/apis/batch/v1beta1" if kube.is_old else "/apis/batch/v1"
    kube.apply(f"{cron}/namespaces/shop/cronjobs", {"metadata": {"name": "report"}, "spec": {**every_minute, "concurrencyPolicy": "Forbid"}})
    static = template(image, "static", hostNetwork=True)
    manifest = {"apiVersion": "v1", "kind": "Pod", **static}
    manifest["metadata"] = {**static["metadata"], "name": "static", "namespace": "shop"}
    (kube.manifests / "static.json").write_text(json.dumps(manifest))
    expected = {"web", "db", "guard", "once", "report", "static"}
    kube._until(lambda: running(kube) >= expected, 120, f"pods of {expected}")
    return kube


def service(name: str, app: str | None, **selector: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"app": app} if app else selector, "ports": [{"port": 80}]}}


def running(kube: Cluster) -> set[str]:
    return {p["metadata"]["labels"]["app"] for p in kube.pods() if p["status"].get("phase") == "Running"}


def run(kubeconfig: Path, *more: str, seconds: int = 4) -> tuple[list[dict[str, Any]], str]:
    """Run the process tracker for a while; return its rows of containers, and what it said."""
    command = [str(Path(sys.executable).with_name("eunomia")), "run", "process", "-o", "json", "--columns", COLUMNS]
    command += ["--containers-only", "--kubeconfig", str(kubeconfig), "--node", NODE, "--duration", f"{seconds}s", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("{"))
    return [json.loads(line) for line in done.stdout.splitlines()], said


@pytest.fixture(scope="module")
def rows(shop: Cluster) -> list[dict[str, Any]]:
    """What there is once the API has answered; rows do not wait for that."""
    found, said = run(shop.kubeconfig, seconds=8)
    assert said == ""
    return found[settled(found) :]


def settled(rows: list[dict[str, Any]]) -> int:
    """Return how many rows there are before a Deployment, the last thing asked for, is known."""
    return next(i for i, row in enumerate(rows) if row.get("pod", {}).get("owner_kind") == "Deployment")


def of(rows: list[dict[str, Any]], app: str) -> list[dict[str, Any]]:
    found = [r for r in rows if r.get("pod", {}).get("labels", {}).get("app") == app]
    assert found, f"no row of {app}"
    return found


@pytest.mark.parametrize(
    ("app", "owner", "services"),
    [
        ("web", ("Deployment", "web"), ["everything", "web"]),
        ("db", ("StatefulSet", "db"), ["everything"]),
        ("guard", ("DaemonSet", "guard"), ["everything"]),
        ("once", ("Job", "once"), ["everything"]),
        ("report", ("CronJob", "report"), ["everything"]),
        ("static", ("Node", NODE), ["everything"]),
    ],
)
def test_events_of_each_kind_of_workload_name_pod_owner_and_services(rows, shop, app, owner, services):
    known = {p["metadata"]["name"]: p for p in shop.pods() if p["metadata"]["labels"]["app"] == app}
    for row in of(rows, app):
        pod = row["pod"]
        truth = known[pod["name"]]
        assert (pod["owner_kind"], pod["owner_name"]) == owner
        assert pod["services"] == services
        assert (pod["namespace"], pod["uid"], pod["node"]) == ("shop", truth["metadata"]["uid"], NODE)
        assert pod["labels"] == truth["metadata"]["labels"]
        assert pod["annotations"]["team"] == "payments"
        assert pod["addresses"] == [a["ip"] for a in truth["status"]["podIPs"]]
        assert pod["qos"] == "Burstable"
        assert row["identity"] == "resolved"
        assert row["container"]["name"] == app
        assert row["container"]["image"] == shop.containerd.image
        assert row["container"]["restarts"] == 0


def test_every_row_of_a_pods_container_names_pod_and_owner(rows, shop):
    ours = set(shop.containerd.ctr("container", "ls", "-q", namespace="k8s.io").stdout.split())
    of_pods = [r for r in rows if r["container"]["id"] in ours]  # others may run containers here
    assert len(of_pods) > 100
    lacking = [r for r in of_pods if not r.get("pod", {}).get("owner_kind")]
    assert not lacking, f"{len(lacking)} of {len(of_pods)} rows: {lacking[:3]}"


def test_a_pod_that_starts_and_changes_while_watched_is_followed(shop):
    kubeconfig = str(shop.kubeconfig)
    command = [str(Path(sys.executable).with_name("eunomia")), "run", "process", "-o", "json", "--columns", COLUMNS]
    command += ["--namespace", "shop", "--kubeconfig", kubeconfig, "--node", NODE, "--duration", "14s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    scale = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": 2}}
    shop.request("PUT", f"{APPS}/deployments/web/scale", scale)
    shop._until(lambda: len([p for p in shop.pods() if p["metadata"]["labels"]["app"] == "web"]) == 2, 10, "a second pod")
    time.sleep(4)
    shop.apply("/api/v1/namespaces/shop/services", service("late", "web"))
    out, err = process.communicate()
    assert process.returncode == 0, err
    web = of([json.loads(line) for line in out.splitlines()], "web")
    assert len({r["pod"]["name"] for r in web}) == 2
    assert {r["pod"]["owner_name"] for r in web} == {"web"}
    assert web[-1]["pod"]["services"] == ["everything", "late", "web"]
    shop.request("DELETE", "/api/v1/namespaces/shop/services/late")


def test_a_reader_of_only_pods_sees_the_nearest_owner_and_a_warning(shop):
    found, said = run(shop.reader)
    web = of(found, "web")[-1]["pod"]
    assert web["owner_kind"] == "ReplicaSet"
    assert web["services"] == []
    lines = said.splitlines()
    assert len([x for x in lines if "services" in x]) == 1
    assert len([x for x in lines if "ReplicaSets" in x]) == 1
    assert len(lines) <= 3, said


def test_in_a_pod_its_service_account_is_used(shop, tmp_path):
    """With what kubelet mounts into a pod, where it mounts it, and nothing else; the server's name is checked."""
    accounts = "/api/v1/namespaces/shop/serviceaccounts"
    shop.apply(accounts, {"metadata": {"name": "monitor"}})
    shop.apply(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        {
            "metadata": {"name": "monitor"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "monitor", "namespace": "shop"}],
        },
    )
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = shop.request("POST", f"{accounts}/monitor/token", request)["status"]["token"]
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_bytes((shop.root / "certs/apiserver.crt").read_bytes())
    at = "/run/secrets/kubernetes.io/serviceaccount"
    script = f'mount -t tmpfs none /run && mkdir -p {at} && mount --bind {tmp_path} {at} && exec "$@"'
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
    command += [str(Path(sys.executable).with_name("eunomia")), "run", "process", "-o", "json", "--columns", COLUMNS]
    environment = {
        "PATH": os.environ["PATH"], "HOME": "/nonexistent", "NODE_NAME": NODE,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(shop.port),
    }  # fmt: skip
    done = subprocess.run(
        [*command, "--kubernetes", "--label", "app=web", "--duration", "4s"],
        capture_output=True, text=True, check=False, timeout=60, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith("{")]
    pod = of([json.loads(line) for line in done.stdout.splitlines()], "web")[-1]["pod"]
    assert (pod["owner_kind"], pod["owner_name"]) == ("Deployment", "web")
    assert pod["services"] == ["everything", "web"]


def test_a_pod_that_says_anothers_uid_is_not_taken_for_it(shop):
    """Any user can write the annotation by which static pods are found."""
    [victim] = [p for p in shop.pods() if p["metadata"]["labels"]["app"] == "db"]
    liar = template(shop.containerd.image, "liar")
    liar["metadata"] |= {"name": "liar", "annotations": {"kubernetes.io/config.hash": victim["metadata"]["uid"]}}
    shop.apply("/api/v1/namespaces/shop/pods", liar)
    try:
        shop._until(lambda: "liar" in running(shop), 60, "the liar")
        rows, _ = run(shop.kubeconfig, "--label", "tier=test")
        ids = shop.containerd.ctr("container", "ls", "-q", 'labels."io.kubernetes.container.name"==db', namespace="k8s.io")
        of_victim = [r for r in rows if r["container"]["id"] in ids.stdout.split()]
        assert of_victim
        assert {r["pod"]["name"] for r in of_victim} == {victim["metadata"]["name"]}
        assert of(rows, "liar")[-1]["pod"]["name"] == "liar"
    finally:
        shop.request("DELETE", "/api/v1/namespaces/shop/pods/liar?gracePeriodSeconds=0")


def test_a_missing_node_is_reported(shop):
    _, said = run(shop.kubeconfig, "--node", "elsewhere", seconds=2)
    assert "no node elsewhere" in said
    assert NODE in said


def test_the_api_going_away_stops_no_row(shop):
    """The API server hangs from the moment at which the facts are there; they stay, and so do the rows."""
    command = [str(Path(sys.executable).with_name("eunomia")), "run", "process", "-o", "json", "--columns", COLUMNS]
    command += ["--label", "app=db", "--kubeconfig", str(shop.kubeconfig), "--node", NODE, "--count", "60", "--duration", "30s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    rows: list[dict[str, Any]] = []
    while not rows or rows[-1]["pod"]["owner_name"] != "db":
        rows.append(json.loads(process.stdout.readline()))
    server = shop.pid_of("kube-apiserver")
    os.kill(server, signal.SIGSTOP)
    try:
        rows += [json.loads(line) for line in process.stdout]
    finally:
        os.kill(server, signal.SIGCONT)
    assert process.wait(10) == 0
    assert len(rows) == 60
    assert rows[-1]["pod"]["owner_name"] == "db"


def test_a_server_killed_and_back_without_its_history_leaves_no_gap(shop):
    """Changes while there was no watch are there afterwards, although the watches cannot resume (410)."""
    command = [str(Path(sys.executable).with_name("eunomia")), "run", "process", "-o", "json", "--columns", COLUMNS]
    command += ["--label", "app=db", "--kubeconfig", str(shop.kubeconfig), "--node", NODE, "--duration", "120s"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    rows: list[dict[str, Any]] = []

    def row() -> dict[str, Any]:
        rows.append(json.loads(process.stdout.readline()))
        return rows[-1]

    try:
        while row()["pod"]["owner_name"] != "db":
            pass
        shop.replace_server()
        db = shop.request("GET", "/api/v1/namespaces/shop/pods/db-0")
        db["metadata"]["labels"]["since"] = "then"
        shop.request("PUT", "/api/v1/namespaces/shop/pods/db-0", db)
        shop.apply("/api/v1/namespaces/shop/services", service("after", None, since="then"))
        while row()["pod"]["services"] != ["after", "everything"]:
            pass
    finally:
        process.terminate()
        _, said = process.communicate()
    assert rows[-1]["pod"]["labels"]["since"] == "then"
    assert {r["pod"]["owner_name"] for r in rows[-5:]} == {"db"}
    assert len([x for x in said.splitlines() if not x.startswith("{")]) <= 2, said
