# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia run --kubernetes`` as users see it: refused options, messages, and rows that never wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import needs
from tests.kubernetes.fake import NODE, PODS
from tests.kubernetes.test_facts import REPLICASET, controlled, owned, pod

OURS = f"web-{os.getpid()}"  # the label of this run's pods: others may run containers here
COMMAND = [str(Path(sys.executable).with_name("eunomia")), "run", "process"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    nothing = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60, env=nothing | environment
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--node", "x"), "--node: it names the node to ask for, so it needs --kubernetes"),
        (("--kubernetes",), "there is no kubeconfig /nonexistent/.kube/config: name one with --kubeconfig"),
        (("--kubeconfig", "/no/such"), "there is no kubeconfig /no/such"),
        (("--kubeconfig", "/tmp"), "Is a directory"),
        (("--kubernetes", "--node", "a b"), "'a b' cannot be a node's name"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(arguments, sentence):
    needs.module("kubernetes", "eunomia[kubernetes]")
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"{[", b"a: b\n", b"\xff\xfe\x00", b"current-context: \x1b[31m\n", b"&a [*a, *a]"])
def test_an_invalid_kubeconfig_is_one_sentence(tmp_path, content):
    needs.module("kubernetes", "eunomia[kubernetes]")
    (tmp_path / "config").write_bytes(content)
    done = run("--kubeconfig", str(tmp_path / "config"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["no-such-plugin"], "No such file or directory: 'no-such-plugin'"),
        (["sh", "-c", "echo log in first >&2; exit 3"], "exec: process returned 3. log in first"),
        (["echo", "no JSON"], "exec: failed to decode process output"),
        (["echo", '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {}}'], "exec: missing token"),
    ],
)
def test_a_credential_plugin_without_credentials_is_one_sentence(tmp_path, command, sentence):
    """The client logs it and continues without credentials, which the API refuses for another reason."""
    needs.module("kubernetes", "eunomia[kubernetes]")
    (tmp_path / "config").write_text(json.dumps(with_plugin("http://127.0.0.1:9", command)))
    done = run("--kubeconfig", str(tmp_path / "config"))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("eunomia: --kubeconfig: kubeconfig ")


def test_a_credential_plugin_is_asked_again_when_its_token_does_not_do_any_more(api, tmp_path):
    from eunomia.kubernetes.access import Access, Refused, Unreachable

    needs.module("kubernetes", "eunomia[kubernetes]")
    token = tmp_path / "token"
    token.write_text("first")
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "TOKEN"}}
    script = f"""test -s {token} && printf '%s' '{json.dumps(credential)}' | sed "s/TOKEN/$(cat {token})/" """
    (tmp_path / "config").write_text(json.dumps(with_plugin(api.host, ["sh", "-c", script])))
    access = Access(str(tmp_path / "config"))
    access.get(PODS, {}, 5).close()
    api.refuse[PODS] = 401
    token.write_text("second")
    with pytest.raises(Refused):
        access.get(PODS, {}, 5)
    api.refuse.clear()
    access.get(PODS, {}, 5).close()
    assert [r.token for r in api.asked()] == ["Bearer first", "Bearer first", "Bearer second"]
    api.refuse[PODS] = 401
    token.write_text("")
    with pytest.raises(Unreachable, match="exec: process returned 1"):
        access.get(PODS, {}, 5)


def with_plugin(server: str, command: list[str]) -> dict:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command[0], "args": command[1:]}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"exec": plugin}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }


def test_a_missing_client_is_one_sentence(kubeconfig):
    script = f"""
import sys
sys.modules["kubernetes"] = None
from eunomia.cli import main
sys.exit(main(["run", "process", "--kubeconfig", {str(kubeconfig)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "eunomia: --kubeconfig: the Kubernetes client is not installed: pip install 'eunomia[kubernetes]'"
    ]


def test_the_clients_models_are_never_imported(kubeconfig):
    """They are some hundred modules and 28 MB."""
    script = f"""
import sys
from eunomia.kubernetes.access import Access
Access({str(kubeconfig)!r}).get("/api/v1/pods", {{}}, 5).close()
print(len([name for name in sys.modules if name.startswith(("kubernetes.client.models.", "kubernetes.client.api."))]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5


def test_rows_come_while_the_api_says_nothing(api, kubeconfig):
    """Each of its answers takes ten seconds; the run takes one, ends in time and says nothing of it."""
    needs.root()
    api.refuse = type("Slow", (dict,), {"get": lambda self, *a: time.sleep(10) or 0})()
    process = subprocess.Popen(
        [*COMMAND, "-o", "json", "--kubeconfig", str(kubeconfig), "--node", NODE, "--duration", "2s"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 3:
        subprocess.run(["true"], check=True)
        time.sleep(0.05)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 6, err
    assert [row for row in map(json.loads, out.splitlines()) if row["comm"] == "true"]


def test_a_dockers_container_of_a_pod_has_what_the_api_knows(api, kubeconfig, docker):
    """A container by its id alone, as where kubelet runs Docker."""
    container_id = docker.run("run", "-d", docker.image, "sh", "-c", "while :; do true; /bin/true; sleep 0.1; done").stdout.strip()
    try:
        about = pod("web-1", app=OURS)
        about["status"] = {"containerStatuses": [{"name": "app", "containerID": f"docker://{container_id}", "restartCount": 4}]}
        api.apply(PODS, "uid-1", **about)
        columns = "container.id,container.name,container.restarts,pod.name,pod.uid,pod.labels,identity"
        done = subprocess.run(
            [*COMMAND, "-o", "json", "--columns", columns, "--label", f"app={OURS}", "--kubeconfig", str(kubeconfig),
             "--node", NODE, "--duration", "3s"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    finally:
        docker.run("rm", "-f", container_id)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 5, "chosen by a label that only the API knows"
    assert {row["pod"]["name"] for row in rows} == {"web-1"}
    assert rows[-1]["pod"]["labels"] == {"app": OURS}
    assert rows[-1]["container"]["restarts"] == 4


def test_a_list_of_containers_waits_for_what_the_api_knows(api, kubeconfig, docker):
    container_id = docker.run("run", "-d", docker.image, "sleep", "1000").stdout.strip()
    try:
        about = pod("web-1", owned("ReplicaSet", "web-5d4f", "r"), app=OURS)
        about["status"] = {"containerStatuses": [{"name": "app", "containerID": f"docker://{container_id}"}]}
        api.apply(PODS, "uid-1", **about)
        api.objects[REPLICASET] = controlled("r", owned("Deployment", "web", "d"))
        command = [COMMAND[0], "containers", "-o", "json", "--label", f"app={OURS}", "--kubeconfig", str(kubeconfig)]
        done = subprocess.run([*command, "--node", NODE], capture_output=True, text=True, check=True, timeout=60)
    finally:
        docker.run("rm", "-f", container_id)
    [row] = map(json.loads, done.stdout.splitlines())
    assert (row["pod"]["name"], row["pod"]["owner_kind"], row["pod"]["owner_name"]) == ("web-1", "Deployment", "web")
