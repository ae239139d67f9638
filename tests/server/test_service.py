# SPDX-License-Identifier: BSD-2-Clause
"""The server as a whole: what runs again after a kill, who may call it, and what is written down of it."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from eunomia import tracker
from eunomia.server.audit_verify import verify
from eunomia.server.state import State
from eunomia.server.tokens import Scope, Tokens
from tests import needs
from tests.server.conftest import EUNOMIA, Server


def over_tcp(port: int, path: str, token: str = "", method: str = "GET", body: bytes | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


@pytest.fixture
def port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_ran_when_the_server_was_killed_runs_again(tmp_path: Path):
    needs.root()
    first = Server(tmp_path)
    first.ask("POST", "/v1/trackers", {"kind": "process", "id": "p", "filters": {"comms": ["true"]}})
    first.ask("POST", "/v1/trackers", {"kind": "syscall"})
    first.ask("PATCH", "/v1/trackers/syscall", {"settings": {"latency": False}})
    first.ask("POST", "/v1/trackers", {"kind": "opensnoop"})
    first.ask("DELETE", "/v1/trackers/opensnoop")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    (tmp_path / "notify").unlink()
    again = Server(tmp_path)
    try:
        trackers = {t["id"]: t for t in again.ask("GET", "/v1/trackers").body["trackers"]}
        assert {name: t["state"] for name, t in trackers.items()} == {"p": "running", "syscall": "running"}
        assert trackers["p"]["request"]["filters"] == {"comms": ["true"]}
        assert (trackers["syscall"]["generation"], trackers["syscall"]["request"]["settings"]) == (
            2,
            {"latency": False},
        )
        back = again.ask("POST", "/v1/trackers/syscall/rollback", {})
        assert (back.status, back.body["request"].get("settings", {})) == (200, {}), back.body
    finally:
        assert again.stop() == 0
    log = tmp_path / "state/audit/audit.jsonl"
    assert verify([(log, log.stat().st_size)]).findings == []


def test_what_a_file_declares_runs(tmp_path: Path):
    needs.root()
    file = tmp_path / "server.toml"
    file.write_text('[[trackers]]\nid = "who"\nkind = "process"\nfilters = { comms = ["sh"] }\n')
    server = Server(tmp_path, "--config", str(file))
    try:
        (tracker,) = server.ask("GET", "/v1/trackers").body["trackers"]
        assert (tracker["id"], tracker["kind"], tracker["request"]["filters"]) == ("who", "process", {"comms": ["sh"]})
    finally:
        assert server.stop() == 0


def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path):
    file = tmp_path / "server.toml"
    file.write_text('[[trackers]]\nid = "who"\nkind = "procss"\n')
    for more in ([], ["--check-config"]):
        done = subprocess.run([EUNOMIA, "server", "--config", file, *more], capture_output=True, text=True, check=False)
        assert done.returncode in {1, 2}
        assert f"{file}:3: trackers[0].kind" in done.stderr


def test_over_tcp_a_token_says_what_a_caller_may_do(tmp_path: Path, port: int):
    needs.root()
    server = Server(tmp_path, "--listen", f"127.0.0.1:{port}")
    tokens = Tokens(tmp_path / "state")
    reads = tokens.create("reads", {Scope.READ}, timedelta(days=1))[1]
    runs = tokens.create("runs", {Scope.RUN}, timedelta(days=1))[1]
    try:
        assert over_tcp(port, "/healthz")[0] == 200
        assert over_tcp(port, "/v1/trackers")[0] == 401
        assert over_tcp(port, "/v1/trackers", "nonsense")[0] == 401
        assert over_tcp(port, "/v1/trackers", reads) == (200, {"trackers": []})
        wish = b'{"kind": "process"}'
        assert over_tcp(port, "/v1/trackers", reads, "POST", wish)[0] == 403
        assert over_tcp(port, "/v1/trackers", runs, "POST", wish)[0] == 201
        assert over_tcp(port, "/v1/objects", runs, "POST", b"x")[0] == 403
        assert over_tcp(port, "/v1/trackers", runs, "POST", b'{"object": "sha256:%b"}' % (b"0" * 64))[0] == 403
    finally:
        assert server.stop() == 0
    lines = (tmp_path / "state/audit/audit.jsonl").read_text().splitlines()
    started = [r for r in map(json.loads, lines) if r["action"] == "POST /v1/trackers" and r["outcome"] == "done"]
    assert [r["who"]["name"] for r in started] == ["runs"]


def test_tcp_that_others_can_reach_needs_tls():
    done = subprocess.run([EUNOMIA, "server", "--listen", "0.0.0.0:8527"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--tls" in done.stderr


def test_the_originals_three_calls_are_answered(server: Server):
    started = server.ask("POST", "/start", {"name": "process", "export_handlers": [{"name": "plain_text", "args": []}]})
    assert (started.status, started.body["status"], started.body["id"]) == (200, "ok", 1)
    assert server.ask("GET", "/list").body == {"status": "ok", "list": [{"id": 1, "name": "process"}]}
    assert server.ask("POST", "/stop", {"id": 1}).body == {"status": "ok"}
    assert server.ask("GET", "/list").body["list"] == []
    assert server.ask("POST", "/stop", {"id": 1}).body["status"] == "error"


def test_a_socket_that_systemd_opened_is_served_and_its_watchdog_is_told(tmp_path: Path):
    needs.root()
    activate = needs.program("systemd-socket-activate", "systemd")
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(60)
    path = tmp_path / "activated"
    command = [activate, "-l", path, EUNOMIA, "server", "--state", tmp_path / "state", "--socket", tmp_path / "unused"]
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        command[1:1] = ["-E", name]
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    process = subprocess.Popen(command, env=environment)
    try:
        while not path.exists():
            assert process.poll() is None
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(64).startswith(b"HTTP/1.1 200")
        assert [told.recv(64) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert not (tmp_path / "unused").exists()
    finally:
        process.terminate()
        assert process.wait() == 0
        told.close()


def test_tls_is_served_with_the_given_certificate(tmp_path: Path, port: int):
    needs.root()
    openssl = needs.program("openssl", "openssl")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*made, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = Server(tmp_path, "--listen", f"127.0.0.1:{port}", "--tls", f"{certificate},{key}")
    _, token = Tokens(tmp_path / "state").create("reads", {Scope.READ}, timedelta(days=1))
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
        connection.request("GET", "/v1/trackers", headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == 200
        connection.close()
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        plain.request("GET", "/healthz")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
    finally:
        assert server.stop() == 0


def test_a_file_of_the_originals_form_runs_and_its_translation_is_printed(tmp_path: Path):
    needs.root()
    file = tmp_path / "original.json"
    file.write_text(json.dumps({"enabled_trackers": [{"name": "process"}, {"name": "memleak"}], "seccomp_data": []}))
    server = Server(tmp_path, "--config", str(file))
    try:
        (tracker,) = server.ask("GET", "/v1/trackers").body["trackers"]
        assert (tracker["id"], tracker["state"]) == ("process", "running")
    finally:
        assert server.stop() == 0
    said = server.errors.read_text()
    assert "# enabled_trackers[1]: 'memleak': there is no such tracker yet; left out\n" in said
    assert '[[trackers]]\nid = "process"\nkind = "process"\n' in said


def test_the_limits_of_the_file_hold(tmp_path: Path):
    needs.root()
    file = tmp_path / "server.toml"
    file.write_text("[server.limits]\ntrackers = 1\nbody = 1024\nrate = 0.1\nburst = 4\n")
    server = Server(tmp_path, "--config", str(file))
    try:
        assert server.ask("POST", "/v1/trackers", {"kind": "process"}).status == 201
        assert server.ask("POST", "/v1/trackers", {"kind": "syscall"}).status == 409
        assert server.ask("POST", "/v1/trackers", {"kind": "x" * 2000}).status == 413
        answers = [server.ask("GET", "/v1/trackers").status for _ in range(3)]
        assert 429 in answers
    finally:
        assert server.stop() == 0


def test_a_change_that_the_state_cannot_keep_is_a_problem_that_says_so(tmp_path: Path):
    needs.root()
    server = Server(tmp_path)
    try:
        assert server.ask("POST", "/v1/trackers", {"kind": "process"}).status == 201
        blocked = tmp_path / "state/state.json.new"
        blocked.mkdir()
        answer = server.ask("PATCH", "/v1/trackers/process", {"duration": 600})
        assert answer.status == 500
        assert "the state cannot be written" in answer.body["detail"]
        blocked.rmdir()
        assert server.ask("PATCH", "/v1/trackers/process", {"duration": 600}).status == 200
    finally:
        assert server.stop() == 0


def test_after_a_kill_generations_keep_their_numbers_and_each_that_is_left_can_be_gone_back_to(tmp_path: Path):
    needs.root()
    first = Server(tmp_path)
    first.ask("POST", "/v1/trackers", {"kind": "syscall", "id": "s"})
    for number in range(2, 11):
        changed = first.ask("PATCH", "/v1/trackers/s", {"settings": {"latency": number % 2 == 1}})
        assert (changed.status, changed.body["generation"]) == (200, number)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    (tmp_path / "notify").unlink()
    again = Server(tmp_path)
    try:
        generations = again.ask("GET", "/v1/trackers/s/history").body["generations"]
        assert [g["number"] for g in generations] == [5, 6, 7, 8, 9, 10]
        assert again.ask("GET", "/v1/trackers/s").body["generation"] == 10
        gone = again.ask("POST", "/v1/trackers/s/rollback", {"generation": 4})
        assert (gone.status, gone.body["field"]) == (422, "generation")
        back = again.ask("POST", "/v1/trackers/s/rollback", {"generation": 7}).body
        assert (back["generation"], back["request"]["settings"]) == (11, {"latency": True})
        back = again.ask("POST", "/v1/trackers/s/rollback", {}).body
        assert (back["generation"], back["request"]["settings"]) == (12, {"latency": False})
    finally:
        assert again.stop() == 0


def test_a_tracker_that_is_to_stop_stops_at_its_time_however_often_the_server_is_killed(tmp_path: Path):
    needs.root()
    first = Server(tmp_path)
    given = first.ask("POST", "/v1/trackers", {"kind": "process", "id": "given", "duration": 3600}).body
    first.ask("POST", "/v1/trackers", {"kind": "process", "id": "patched"})
    patched = first.ask("PATCH", "/v1/trackers/patched", {"duration": 7200}).body
    first.ask("POST", "/v1/trackers", {"kind": "process", "id": "freed", "duration": 3600})
    first.ask("PATCH", "/v1/trackers/freed", {"duration": 0})
    first.ask("POST", "/v1/trackers", {"kind": "process", "id": "over"})
    first.ask("PATCH", "/v1/trackers/over", {"duration": 600})
    server, said = first, []
    for _ in range(2):
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        (tmp_path / "notify").unlink()
        edit(tmp_path / "state", "over", "2026-01-01T00:00:00Z")
        server = Server(tmp_path)
        said += [line for line in server.errors.read_text().splitlines() if "tracker over" in line]
    try:
        there = {t["id"]: t for t in server.ask("GET", "/v1/trackers").body["trackers"]}
        assert {id_: t["state"] for id_, t in there.items()} == dict.fromkeys(("given", "patched", "freed"), "running")
        for before in (given, patched):
            now = there[before["id"]]
            apart = datetime.fromisoformat(now["stops"]) - datetime.fromisoformat(before["stops"])
            assert abs(apart.total_seconds()) <= 3
            assert now["started"] == before["started"]
        assert "stops" not in there["freed"]
    finally:
        assert server.stop() == 0
    assert said == ["eunomia: tracker over was to stop at 2026-01-01T00:00:00Z, and does not run again"]


def edit(directory: Path, id_: str, stops: str) -> None:
    """Have a tracker's time in a state be in the past."""
    with contextlib.closing(State(str(directory))) as state:
        for entry in state.entries:
            if entry.id == id_:
                state.put(msgspec.structs.replace(entry, stops=stops))


def test_objects_that_may_not_run_are_not_taken(tmp_path: Path):
    needs.root()
    data = Path(tracker.find("process").object).read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    for number, (line, status) in enumerate(
        (("require_signed = true", 403), ('allow = ["x/*"]', 403), (f'allow = ["x/y@{digest}"]', 201))
    ):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "server.toml").write_text(f"[server]\n{line}\n")
        server = Server(place, "--config", str(place / "server.toml"))
        try:
            assert server.ask("POST", "/v1/objects", data).status == status
        finally:
            assert server.stop() == 0
