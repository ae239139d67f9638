# SPDX-License-Identifier: BSD-2-Clause
"""The client calls a real server: every call of its description, over all kinds of connection, also broken ones."""

import itertools
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from eunomia import tracker
from eunomia.client import ApiProblem, Client, NoServer
from eunomia.client import client as clients
from eunomia.server import openapi
from eunomia.server.models import Filters, TrackerPatch, TrackerRequest, UpdateRequest
from tests.client.conftest import Secured, certificate
from tests.server.conftest import Server

# Each method of the client, called in some way.
CALLS: dict[str, Any] = {
    "kinds": lambda c: c.kinds(),
    "list": lambda c: c.list(),
    "start": lambda c: c.start(TrackerRequest("process")),
    "get": lambda c: c.get("x"),
    "patch": lambda c: c.patch("x", TrackerPatch()),
    "stop": lambda c: c.stop("x"),
    "update": lambda c: c.update("x", UpdateRequest()),
    "rollback": lambda c: c.rollback("x"),
    "history": lambda c: c.history("x"),
    "logs": lambda c: c.logs("x"),
    "ledger": lambda c: c.ledger("x"),
    "snapshot": lambda c: c.snapshot("x"),
    "events": lambda c: list(c.events("x", filters={"pid": "1"})),
    "upload": lambda c: c.upload(b"x"),
    "containers": lambda c: c.containers(),
    "processes": lambda c: c.processes(),
    "ready": lambda c: c.ready(),
}
# Calls for others than programs that use the client.
NOT_OURS = {"/healthz", "/metrics", "/start", "/stop", "/list", "/docs", "/openapi.json", "/v1/trackers/{id}/ws"}


class Noted(Exception):
    """Raised in place of a request."""


def test_the_client_has_a_method_for_every_call_that_the_server_describes(monkeypatch):
    asked: set[tuple[str, str]] = set()
    bodies: dict[tuple[str, str], Any] = {}

    class Recorder:
        sock = None

        def connect(self) -> None:
            """Nothing is connected."""

        def request(self, method, path, data=None, headers=None):
            template = path.partition("?")[0].replace("/x", "/{id}")
            asked.add((method, template))
            bodies[method, template] = (headers or {}).get("content-type") if data is not None else None

        def getresponse(self):
            raise ConnectionResetError

        def close(self) -> None:
            """Nothing is open."""

    recorder = Recorder()
    monkeypatch.setattr(clients, "connection", lambda *_: recorder)
    monkeypatch.setattr("eunomia.client.events.connection", lambda *_: recorder)
    public = {n for n in vars(Client) if not n.startswith("_")} - {"place"}
    assert public == set(CALLS)
    for call in CALLS.values():
        with pytest.raises(NoServer):
            call(Client())
    with pytest.raises(NoServer):
        Client().ledger()
    described = openapi.description()["paths"]
    served = {(m.upper(), path) for path, item in described.items() for m in item if path not in NOT_OURS}
    assert served - asked == set(), "give eunomia.client.Client a method for these"
    assert asked - served == set(), "the server has no such calls"
    for (method, path), body in bodies.items():
        wants = described[path][method.lower()].get("requestBody")
        assert (body in wants["content"]) if wants else body is None, (method, path, body)


def test_a_tracker_is_started_read_changed_and_stopped(server: Server):
    client = Client(server.socket)
    assert client.ready().status == "ready"
    assert {k.kind for k in client.kinds()} >= set(tracker.built_in())
    made = client.start(TrackerRequest("process", filters=Filters(comms=["true"])))
    assert (made.id, made.state) == ("process", "running")
    with client.events("process") as events:
        reading = iter(events)
        assert next(reading).kind == "schema"
        child = subprocess.Popen(["true"])
        child.wait()
        row = next(event.data for event in reading if event.kind == "row" and event.data["stream"] == "exec")
        assert row["pid"] == child.pid
        assert [r["pid"] for r in client.snapshot("process") if r["stream"] == "exec"] == [child.pid]
        (account,) = client.ledger("process").readers
        assert account.delivered >= 1
    changed = client.patch("process", TrackerPatch(filters=Filters(comms=["none"])))
    assert changed.request.filters.comms == ["none"]
    assert client.stop("process").state == "stopped"
    assert [line.kind for line in client.logs("process")] == ["started", "changed", "stopped"]
    assert [g.outcome for g in client.history("process")] == ["stopped"]
    assert [one.id for one in client.list()] == ["process"]
    assert os.getpid() in [p["pid"] for p in client.processes()]
    assert isinstance(client.containers(), list)


def test_what_the_server_refuses_is_an_error_that_names_the_field(server: Server):
    client = Client(server.socket)
    with pytest.raises(ApiProblem, match="there is no") as refused:
        client.start(TrackerRequest("process", settings={"none": 1}))
    assert (refused.value.status, refused.value.field) == (422, "settings.none")
    with pytest.raises(ApiProblem) as absent:
        client.get("a/b")
    assert absent.value.status == 404
    with pytest.raises(ApiProblem) as none:
        list(client.events("none"))
    assert none.value.status == 404


def rows_of(events, count: int, pids: list[int]) -> list[tuple[int, str, int]]:
    """Return the first exec rows of some processes."""
    wanted = set(pids)
    found = (e for e in events if e.kind == "row" and e.data["stream"] == "exec" and e.data["pid"] in wanted)
    return [(e.id, e.kind, e.data["pid"]) for e in itertools.islice(found, count)]


def true() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_a_connection_that_drops_goes_on_where_it_was(server: Server, relay):
    between, path = relay
    Client(server.socket).start(TrackerRequest("process", filters=Filters(comms=["true"]), streams=["exec"]))
    events = Client(path).events("process")
    reading = iter(events)
    assert next(reading).kind == "schema"
    pids = []
    for _ in range(5):
        pids += [true(), true()]
        assert [pid for _, _, pid in rows_of(reading, 2, pids[-2:])] == pids[-2:]
        between.cut()
        pids.append(true())  # while nobody is connected
        assert [pid for _, _, pid in rows_of(reading, 1, pids[-1:])] == pids[-1:]
    with Client(path).events("process", after=0) as again:  # each row once, and none missing in between
        assert [pid for _, _, pid in rows_of(again, len(pids), pids)] == pids
    assert events.drops == 5
    assert between.accepted == 7
    events.close()
    assert list(reading) == []


def test_rows_after_a_restart_of_the_server_follow_a_word_that_some_are_missing(tmp_path: Path):
    first = Server(tmp_path)
    client = Client(first.socket)
    client.start(TrackerRequest("process", streams=["exec"]))
    events = client.events("process")
    reading = iter(events)
    assert next(reading).kind == "schema"
    first.process.kill()
    first.process.wait()
    (tmp_path / "notify").unlink()
    second = Server(tmp_path)
    if not any(one.state == "running" for one in client.list()):
        client.start(TrackerRequest("process", streams=["exec"]))
    kinds = []
    stop = threading.Event()

    def make() -> None:
        while not stop.is_set():
            true()

    maker = threading.Thread(target=make)
    maker.start()
    for event in reading:
        kinds.append(event.kind)
        if kinds[-1] == "row" and "restart" in kinds:
            break
    stop.set()
    maker.join()
    events.close()
    since = kinds[kinds.index("restart") :]
    assert "row" not in since[: since.index("schema")]
    assert second.stop() == 0


def test_another_reader_is_told_the_columns_too(server: Server):
    client = Client(server.socket)
    client.start(TrackerRequest("process"))
    first, second = client.events("process"), client.events("process")
    schemas = [next(iter(events)) for events in (first, second)]
    assert [one.kind for one in schemas] == ["schema", "schema"]
    assert schemas[0].data == schemas[1].data
    first.close()
    second.close()


def test_a_reader_that_comes_after_the_end_is_told_of_it(server: Server):
    client = Client(server.socket)
    client.start(TrackerRequest("process"))
    client.stop("process")
    assert [event.kind for event in client.events("process")] == ["end"]


def test_closing_ends_a_reader_in_another_thread(server: Server):
    client = Client(server.socket)
    client.start(TrackerRequest("process", filters=Filters(comms=["none"])))
    events = client.events("process")
    began = threading.Event()
    kinds: list[str] = []

    def read() -> None:
        for event in events:
            kinds.append(event.kind)
            began.set()

    reader = threading.Thread(target=read)
    reader.start()
    began.wait()
    events.close()
    reader.join()
    assert kinds == ["schema"]


def test_tls_needs_a_certificate_that_is_trusted_and_carries_the_token(over_tls: Secured, tmp_path: Path):
    client = Client(url=over_tls.url, ca=str(over_tls.certificate), token=over_tls.token)
    assert client.start(TrackerRequest("process")).state == "running"
    with client.events("process") as events:
        assert next(iter(events)).kind == "schema"
    with pytest.raises(ApiProblem) as refused:
        Client(url=over_tls.url, ca=str(over_tls.certificate)).list()
    assert refused.value.status == 401
    other, _ = certificate(tmp_path, "other")
    with pytest.raises(NoServer, match="its certificate is not trusted"):
        Client(url=over_tls.url, ca=str(other)).ready()
    with pytest.raises(NoServer, match="its certificate is not trusted"):
        Client(url=over_tls.url).ready()


def test_where_no_server_is_the_error_says_what_to_do(tmp_path: Path):
    with pytest.raises(NoServer, match="start it with: sudo eunomia server"):
        Client(tmp_path / "none").list()
    with pytest.raises(NoServer, match="start it with: sudo eunomia server"):
        list(Client(tmp_path / "none").events("x"))
    with pytest.raises(NoServer, match=r"http://127\.0\.0\.1:1: Connection refused"):
        Client(url="http://127.0.0.1:1").list()


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://x/v1", "unix:s", "https://x:99999", "https://u@x", "https://x?y=1", "x"]
)
def test_what_is_no_url_of_a_server_is_refused(url: str):
    with pytest.raises(ValueError, match=r"URL|socket|ort"):
        Client(url=url)
