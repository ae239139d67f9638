# SPDX-License-Identifier: BSD-2-Clause
"""CRI sockets: asked last, never waited for; and answers of a hostile runtime."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from threading import Event

import pytest

from eunomia.containers import runtimes
from eunomia.containers.cri_client import Unavailable, Unknown, ask
from eunomia.containers.cri_messages import Message
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes.cri import Cri
from eunomia.identity import PENDING, RESOLVED, UNKNOWN, Container, Mount, Pod
from tests import needs
from tests.containers.stage import Clock, batch
from tests.runtimes.containerd import private_containerd
from tests.runtimes.cri import encoded

CID, SANDBOX = "c" * 64, "f" * 64
UID = "0125bb86-8ca9-4141-95e3-ee78da97ada1"
PATH = f"/kubepods/burstable/pod{UID}/{CID}"
LABELS = {"io.kubernetes.container.name": "app", "io.kubernetes.pod.uid": UID}

LISTED = encoded({1: {1: CID, 2: SANDBOX}})
STATUS = encoded(
    {1: {1: CID, 2: {1: "app", 2: 3}, 3: 1, 4: 100, 5: 200, 8: {1: "shop/app:1.2"}, 9: "shop/app@sha256:abc",
         12: LABELS, 14: {1: "/etc/hosts", 2: "/var/lib/hosts", 3: 1}}}
)  # fmt: skip
POD = encoded(
    {1: {1: SANDBOX, 2: {1: "web-1", 2: UID, 3: "shop"}, 5: {1: "10.0.0.7", 2: {1: "fd00::7"}},
         7: {"app": "web", "io.kubernetes.pod.name": "web-1"}, 8: {"team": "payments"}}}
)  # fmt: skip


class Answers:
    """A runtime's service that answers what it is given."""

    runtime = "containerd"

    def __init__(self, seconds: float = 0.0, **answers: bytes | Exception) -> None:
        self.answers = {"ListContainers": LISTED, "ContainerStatus": STATUS, "PodSandboxStatus": POD, **answers}
        self.seconds = seconds
        self.calls: list[str] = []
        self.closed = 0

    def call(self, method: str, request: bytes) -> bytes:
        self.calls.append(method)
        time.sleep(self.seconds)
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def endpoint(tmp_path):
    path = tmp_path / "runtime.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        yield str(path)


def looked_up(cri: Cri, container_id: str = CID, path: str = PATH, seconds: float = 5.0):
    deadline = time.monotonic() + seconds
    while (found := cri.lookup(container_id, path)) is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


def test_a_container_has_its_pod():
    found = ask(Answers(), CID)
    assert found.container == Container(
        CID, "app", "shop/app:1.2", "containerd", image_digest="sha256:abc", labels=tuple(sorted(LABELS.items())),
        mounts=(Mount("/var/lib/hosts", "/etc/hosts", "bind", False),), addresses=("10.0.0.7", "fd00::7"),
        state="running", created=100, started=200, restarts=3,
    )  # fmt: skip
    assert found.pod == Pod(
        "web-1", "shop", UID, (("app", "web"),), (("team", "payments"),), SANDBOX, ("10.0.0.7", "fd00::7")
    )


def test_a_pause_container_is_the_sandbox():
    found = ask(Answers(ListContainers=b""), SANDBOX)
    assert found.container.sandbox
    assert (found.container.name, found.pod.name) == ("POD", "web-1")


def test_the_loop_never_waits_for_the_runtime(endpoint):
    cri = Cri([endpoint], dial=lambda _: Answers(seconds=0.2))
    began = time.monotonic()
    assert cri.lookup(CID, PATH) is None
    assert time.monotonic() - began < 0.1
    found = looked_up(cri)
    assert (found.container.name, found.pod.qos) == ("app", "Burstable")


def test_it_is_asked_last():
    assert runtimes.every()[-1].name == "cri"


@pytest.mark.parametrize("path", [f"/docker/{CID}", f"/machine.slice/libpod-{CID}.scope", "/"])
def test_nothing_outside_of_pods_is_asked_for(endpoint, path):
    service = Answers()
    cri = Cri([endpoint], dial=lambda _: service)
    assert looked_up(cri, path=path, seconds=0.2) is None
    assert not service.calls


def test_without_a_socket_no_thread_is_started(tmp_path):
    cri = Cri([str(tmp_path / "none.sock")], dial=lambda _: Answers())
    assert cri.lookup(CID, PATH) is None
    assert cri._client is None


def test_one_that_is_not_known_yet_is_asked_for_again(endpoint):
    service = Answers(ListContainers=b"", PodSandboxStatus=Unknown("not yet"))
    cri = Cri([endpoint], dial=lambda _: service)
    assert looked_up(cri, seconds=0.3) is None
    assert 2 <= len(service.calls) <= 8, "every 100 ms"
    service.answers |= {"ListContainers": LISTED, "PodSandboxStatus": POD}
    assert looked_up(cri).container.name == "app"


def test_a_runtime_that_restarts_is_dialled_again(endpoint):
    dialled = []

    def dial(_: str) -> Answers:
        dialled.append(Answers(**({} if dialled else {"ListContainers": Unavailable("restarting")})))
        return dialled[-1]

    assert looked_up(Cri([endpoint], dial=dial)).container.name == "app"
    assert [service.closed for service in dialled] == [1, 0]


HOSTILE = [
    b"\xff" * 50,
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x0b",
    b"\x0a",
    b"\x08" * 3,
    encoded({1: {1: CID, 2: SANDBOX * 1000}}),
    encoded({1: {1: CID, 2: 7}}),
    b"\x08\x01" * 30_000,
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda a: ascii(a[:12]))
@pytest.mark.parametrize("method", ["ListContainers", "ContainerStatus", "PodSandboxStatus"])
def test_whatever_a_runtime_answers_is_an_answer_or_a_value_error(method, answer):
    try:
        found = ask(Answers(**{method: answer}), CID)
    except (ValueError, Unknown):
        return
    assert found.container.id == CID


def test_hostile_texts_are_cut():
    status = encoded({1: {1: CID, 2: {1: "\x1b[31m" + "n" * 100_000}, 12: {f"k{n}": "v" * 400 for n in range(1000)}}})
    found = ask(Answers(ContainerStatus=status), CID)
    assert len(found.container.name) == 4096
    assert found.container.labels[-1][0] == "..."


def test_numbers_are_signed_and_bytes_that_are_no_text_are_replaced():
    assert Message(b"\x18" + b"\xff" * 9 + b"\x01").number(3) == -1
    assert Message(b"\x0a\x01\xff").text(1) == "\ufffd"


def test_missing_grpc_is_one_sentence(endpoint):
    script = f"""
import sys, time
sys.modules["grpc"] = None
from eunomia.containers.runtimes.cri import Cri
cri = Cri([{endpoint!r}])
for _ in range(20):
    assert cri.lookup({CID!r}, {PATH!r}) is None
    time.sleep(0.01)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "eunomia: a runtime's socket could name containers that its files here do not: pip install 'eunomia[cri]'"
    ]


def test_real_pods_are_known_by_their_runtimes_socket():
    """A containerd of its own, and a registry that has nothing but its socket."""
    needs.root()
    needs.module("grpc", "eunomia[cri]")
    needs.program("containerd", "containerd")
    with private_containerd() as containerd:
        pod = containerd.cri.pod(
            "web", "shop", image=containerd.image, containers=("app",), labels={"tier": "front"},
            annotations={"team": "payments"}, attempt=2, parent=f"/{containerd.directory.name}/kubepods/pod{{uid}}",
        )  # fmt: skip
        at = f"/{containerd.directory.name}/kubepods/pod{pod.uid}"
        registry = Registry([Cri([str(containerd.socket)])], mount="/nowhere")
        app = pod.containers["app"]
        registry.feed([batch("made", (7, f"{at}/{app}"), (8, f"{at}/{pod.sandbox}"))])
        deadline = time.monotonic() + 5
        while {registry[7].state, registry[8].state} != {RESOLVED} and time.monotonic() < deadline:
            registry.tick(time.monotonic_ns())
            time.sleep(0.01)
        container, found = registry[7].container, registry[7].pod
        assert (container.name, container.image, container.runtime) == ("app", containerd.image, "containerd")
        assert (container.state, container.restarts) == ("running", 2)
        assert container.started > container.created > 1_700_000_000 * 10**9
        assert container.image_id.startswith("sha256:") or container.image_digest.startswith("sha256:")
        assert (found.name, found.namespace, found.uid, found.sandbox) == ("web", "shop", pod.uid, pod.sandbox)
        assert dict(found.labels)["tier"] == "front"
        assert dict(found.annotations) == {"team": "payments"}
        assert registry[8].container.sandbox
        assert registry[8].pod == found
        assert len(found.addresses) == 1


def test_a_container_that_no_runtime_knows_ends_as_unknown(endpoint, tmp_path):
    clock = Clock()
    service = Answers(ListContainers=b"", PodSandboxStatus=Unknown("never"))
    registry = Registry([Cri([endpoint], dial=lambda _: service)], mount=str(tmp_path), clock=clock)
    registry.feed([batch("made", (7, PATH))])
    while (due := registry.next_deadline()) is not None:
        clock.now = due
        registry.tick(due)
    assert registry[7].state == UNKNOWN


def test_a_pods_container_is_pending_until_the_socket_has_answered_and_never_the_hosts(endpoint, tmp_path):
    may_answer = Event()

    class Slow(Answers):
        def call(self, method: str, request: bytes) -> bytes:
            may_answer.wait()
            return super().call(method, request)

    registry = Registry([Cri([endpoint], dial=lambda _: Slow())], mount=str(tmp_path))
    registry.feed([batch("made", (7, PATH), (8, f"{PATH}/init.scope"))])
    assert {registry[7].state, registry[8].state} == {PENDING}
    registry.tick(time.monotonic_ns() + 10**9)
    assert (registry[7].state, registry[7].container.id, registry[7].pod.uid) == (PENDING, CID, UID)
    may_answer.set()
    while registry[7].state == PENDING:
        registry.tick(time.monotonic_ns())
        time.sleep(0.005)
    assert (registry[7].state, registry[8].container.name) == (RESOLVED, "app")


def test_an_unexpected_error_in_the_thread_is_raised_where_it_is_counted(endpoint, tmp_path):
    service = Answers(ListContainers=OverflowError("huge"))
    registry = Registry([Cri([endpoint], dial=lambda _: service)], mount=str(tmp_path))
    registry.feed([batch("made", (7, PATH))])
    while not registry.faults.counts:
        registry.tick(time.monotonic_ns() + 10**9)
        time.sleep(0.005)
    assert list(registry.faults.counts) == [("the reader of cri", "OverflowError")]
    service.answers["ListContainers"] = LISTED
    while registry[7].state != RESOLVED:
        registry.tick(time.monotonic_ns())
        time.sleep(0.005)
