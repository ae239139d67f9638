# SPDX-License-Identifier: BSD-2-Clause
"""Readers of a real server's streams: many, slow, gone and come back, each with its own filter and account."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eunomia.server import journal
from tests import needs
from tests.engine.conftest import Opener, until
from tests.engine.conftest import opener as opener  # noqa: PLC0414
from tests.server.conftest import Server
from tests.server.web_socket import WebSocket

Read = Iterator[tuple[int, str, Any]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that may be asked often."""
    needs.root()
    config = tmp_path / "config.toml"
    config.write_text("[server.limits]\nrequests = 1000\n")
    running = Server(tmp_path, "--config", str(config))
    yield running
    assert running.stop() == 0, running.errors.read_text()


def opensnoop(server: Server, *openers: Opener, **more: Any) -> None:
    body = {"kind": "opensnoop", "filters": {"pids": [one.pid for one in openers]}, "ring_size": 64 << 20, **more}
    made = server.ask("POST", "/v1/trackers", body)
    assert made.status == 201, made


def account(server: Server) -> dict[str, Any]:
    ledger: dict[str, Any] = server.ask("GET", "/v1/trackers/opensnoop/ledger").body
    return ledger


def rows_until(events: Read, number: int) -> list[int]:
    """Return the pids of rows up to that many."""
    found: list[int] = []
    while len(found) < number:
        _, kind, data = next(events)
        if kind == "row":
            found.append(data["pid"])
    return found


def test_each_reader_has_its_own_filter_and_account(server: Server, opener: Callable[[], Opener]):
    one, other = opener(), opener()
    opensnoop(server, one, other)
    path = "/v1/trackers/opensnoop/events"
    everything, its, nothing = (iter(server.events(path + q)) for q in ("", f"?pid={one.pid}&pid=1", "?comm=none"))
    assert {next(reader)[1] for reader in (everything, its, nothing)} == {"schema"}
    one.opens(3)
    other.opens(4)
    assert sorted(rows_until(everything, 7)) == sorted([one.pid] * 3 + [other.pid] * 4)
    assert rows_until(its, 3) == [one.pid] * 3

    def accounts() -> list[tuple[int, int, int, int]]:
        found = account(server)["readers"]
        return sorted((r["passed"], r["filtered"], r["delivered"], r["lost"]) for r in found)

    until(lambda: accounts() == [(7, 0, 7, 0), (7, 4, 3, 0), (7, 7, 0, 0)], accounts())


def test_a_filter_that_there_is_not_is_refused_with_its_name(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "process"})
    for query, field in (
        ("colour=red", "colour"),
        ("pid=x", "pid"),
        ("pid=%C2%B2", "pid"),
        ("uid=" + "9" * 5000, "uid"),
        ("comm=", "comm"),
        ("last_event_id=-1", "last_event_id"),
    ):
        refused = server.ask("GET", f"/v1/trackers/process/events?{query}")
        assert (refused.status, refused.body["field"]) == (422, field)
        refusing = WebSocket(server.socket, f"/v1/trackers/process/ws?{query}")
        assert (list(refusing), refusing.code) == ([], 4022)
    gone = WebSocket(server.socket, "/v1/trackers/nothing/ws")
    assert (list(gone), gone.code) == ([], 4004)


def test_a_web_socket_has_the_same_rows_as_server_sent_events(server: Server, opener: Callable[[], Opener]):
    one = opener()
    opensnoop(server, one)
    events = iter(server.events("/v1/trackers/opensnoop/events"))
    assert next(events)[1] == "schema"
    web = WebSocket(server.socket, "/v1/trackers/opensnoop/ws")
    messages = iter(web)
    assert next(messages)[1] == "schema"
    one.opens(5)
    seen = [next(events) for _ in range(5)]
    assert [next(messages) for _ in range(5)] == seen
    assert [number for number, _, _ in seen] == [1, 2, 3, 4, 5]
    again = iter(WebSocket(server.socket, "/v1/trackers/opensnoop/ws?last_event_id=3"))
    assert [next(again) for _ in range(2)] == seen[3:]
    server.ask("DELETE", "/v1/trackers/opensnoop")
    assert [kind for _, kind, _ in messages] == ["end"]
    assert web.code == 1000


def test_a_reader_that_comes_back_late_is_told_how_many_rows_are_gone(server: Server, opener: Callable[[], Opener]):
    one = opener()
    opensnoop(server, one)
    events = server.events("/v1/trackers/opensnoop/events")
    first = iter(events)
    assert next(first)[1] == "schema"
    one.opens(3)
    rows_until(first, 3)
    one.opens(20_000)  # more than a journal holds
    until(lambda: sum(o["delivered"] for o in account(server)["outputs"]) == 20_003)
    server.ask("DELETE", "/v1/trackers/opensnoop")
    late = list(server.events("/v1/trackers/opensnoop/events", **{"Last-Event-ID": "2"}))
    assert [kind for _, kind, _ in late[:2]] == ["lost", "schema"]  # the schema was lost too
    (number, _, data), last = late[0], late[-1]
    rows = [n for n, kind, _ in late if kind == "row"]
    assert number == 2 + data["lost"]
    assert rows == list(range(number + 1, 20_004))
    assert (last[0], last[1], last[2]["state"]) == (20_003, "end", "stopped")


def test_a_number_that_is_not_there_yet_begins_anew_and_says_so(server: Server, opener: Callable[[], Opener]):
    one = opener()
    opensnoop(server, one)
    first = iter(server.events("/v1/trackers/opensnoop/events"))
    assert next(first)[1] == "schema"
    one.opens(2)
    rows_until(first, 2)
    ahead = iter(server.events("/v1/trackers/opensnoop/events", **{"Last-Event-ID": "5000"}))
    assert next(ahead) == (0, "reset", {"last_event_id": 5000, "last": 2})
    assert [next(ahead)[:2] for _ in range(3)] == [(0, "schema"), (1, "row"), (2, "row")]


@pytest.mark.parametrize("kind", ["syscall", "process"])
def test_a_snapshot_waits_for_rows_of_a_tracker_that_nobody_reads(server: Server, kind: str):
    server.ask("POST", "/v1/trackers", {"kind": kind})
    child = subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"])
    try:
        rows = server.ask("GET", f"/v1/trackers/{kind}/snapshot?rows=5").body["rows"]
        assert 1 <= len(rows) <= 5
        assert {row["tracker"] for row in rows} == {kind}
    finally:
        child.kill()
        child.wait()
    assert account_of_readers(server, kind) == []


def account_of_readers(server: Server, kind: str) -> list[Any]:
    readers: list[Any] = server.ask("GET", f"/v1/trackers/{kind}/ledger").body["readers"]
    return readers


def test_a_snapshot_of_a_quiet_tracker_is_empty(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "process", "filters": {"comms": ["none"]}})
    assert server.ask("GET", "/v1/trackers/process/snapshot").body == {"rows": []}
    for rows in ("0", "10001", "x", "9" * 5000):
        assert server.ask("GET", f"/v1/trackers/process/snapshot?rows={rows}").body["field"] == "rows"


class Slow:
    """A reader of server-sent events that reads nothing until it is told to."""

    def __init__(self, server: Path, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(server))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def __iter__(self) -> Iterator[tuple[int, str, Any]]:
        file = self._socket.makefile("rb")
        kind, number = "row", 0
        for line in file:
            name, _, text = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                number = int(text)
            elif name == "event":
                kind = text
            elif name == "data":
                yield number, kind, json.loads(text) if kind != "row" else None
                if kind == "end":
                    return
                kind = "row"

    def close(self) -> None:
        self._socket.close()


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) << 10


def test_two_hundred_readers_that_do_not_read_cost_only_their_own_rows(server: Server, opener: Callable[[], Opener]):
    one, opens, many = opener(), 40_000, 100
    opensnoop(server, one)
    fast = server.events("/v1/trackers/opensnoop/events")
    counted: dict[str, int] = {"row": 0, "lost": 0}
    reading = iter(fast)
    assert next(reading)[1] == "schema"

    def read() -> None:
        for _, kind, data in reading:
            counted["row"] += kind == "row"
            counted["lost"] += data["lost"] if kind == "lost" else 0

    thread = threading.Thread(target=read)
    thread.start()
    slow: list[Slow | WebSocket] = [Slow(server.socket, "/v1/trackers/opensnoop/events") for _ in range(many)]
    slow += [WebSocket(server.socket, "/v1/trackers/opensnoop/ws", 4096) for _ in range(many)]
    until(lambda: len(account(server)["readers"]) == 2 * many + 1)
    before = resident(server.process.pid)
    one.opens(opens)
    until(lambda: sum(o["delivered"] for o in account(server)["outputs"]) == opens)
    assert [s["lost"] for s in account(server)["sources"]] == [0]
    grown = resident(server.process.pid) - before
    most = 4 * journal.LIMIT + 2 * many * 8 * journal.PIECE  # all of it would be 18 MiB for each
    assert grown < most, f"{grown >> 20} MiB more"
    until(lambda: max(r["passed"] for r in account(server)["readers"]) == opens)
    stuck = sorted(account(server)["readers"], key=lambda r: r["lost"])[1:]
    assert all(r["lost"] > opens // 4 for r in stuck), stuck[0]
    for reader in slow:
        last = told = 0
        for number, kind, data in reader:
            if kind == "lost":
                assert data["lost"] == number - last
                told += data["lost"]
            else:
                assert number == last + (kind == "row")
            last = number
            if told > opens // 4:
                break
        reader.close()
    server.ask("DELETE", "/v1/trackers/opensnoop")
    thread.join()
    assert counted["row"] + counted["lost"] == opens


def test_the_server_stops_without_a_word_though_a_reader_does_not_read(server: Server, opener: Callable[[], Opener]):
    one = opener()
    opensnoop(server, one)
    stuck = [
        Slow(server.socket, "/v1/trackers/opensnoop/events"),
        WebSocket(server.socket, "/v1/trackers/opensnoop/ws"),
    ]
    until(lambda: len(account(server)["readers"]) == 2)
    one.opens(20_000)
    until(lambda: min(r["lost"] for r in account(server)["readers"]))
    assert server.stop() == 0
    assert len(server.errors.read_text().splitlines()) == 1  # where the API is
    for reader in stuck:
        reader.close()


def test_a_reader_that_goes_is_forgotten(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "process"})
    for number in range(20):
        one = Slow(server.socket, "/v1/trackers/process/events")
        if number % 2:
            until(lambda: account_of_readers(server, "process"))
        one.close()
    until(lambda: account_of_readers(server, "process") == [])
