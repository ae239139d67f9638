# SPDX-License-Identifier: BSD-2-Clause
"""Trackers are started, read, changed, updated and stopped by the API of a real server."""

import subprocess
from pathlib import Path

from eunomia import tracker
from tests.server.conftest import Server


def test_a_tracker_starts_and_its_rows_come_as_events(server: Server):
    made = server.ask("POST", "/v1/trackers", {"kind": "process"})
    assert (made.status, made.headers["location"]) == (201, "/v1/trackers/process")
    assert [s["name"] for s in made.body["streams"]] == ["exec", "fork", "exit"]
    events = server.events("/v1/trackers/process/events?stream=exec&comm=true")
    child = None
    for number, kind, data in events:
        if kind == "schema":
            assert {s["name"] for s in data} == {"exec", "fork", "exit"}
            child = subprocess.Popen(["true"])
        if kind == "row" and child is not None and data["pid"] == child.pid:
            assert (data["stream"], data["argv"], number > 1) == ("exec", ["true"], True)
            break
    events.close()
    assert child is not None
    child.wait()
    assert server.ask("DELETE", "/v1/trackers/process").body["state"] == "stopped"
    assert server.ask("DELETE", "/v1/trackers/process").status == 409


def test_a_reader_goes_on_behind_the_row_that_it_had_last(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "process", "id": "p"})
    events = iter(server.events("/v1/trackers/p/events"))
    assert next(events)[1] == "schema"
    subprocess.run(["true"], check=True)
    seen = [next(events) for _ in range(3)]
    again = iter(server.events("/v1/trackers/p/events", **{"Last-Event-ID": str(seen[0][0])}))
    assert [next(again) for _ in range(2)] == seen[1:]


def test_the_end_of_a_tracker_is_the_end_of_its_stream(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "process"})
    events = iter(server.events("/v1/trackers/process/events"))
    assert next(events)[1] == "schema"
    server.ask("DELETE", "/v1/trackers/process")
    assert [data["state"] for _, kind, data in events if kind == "end"] == ["stopped"]


def test_a_duration_ends_a_tracker(server: Server):
    made = server.ask("POST", "/v1/trackers", {"kind": "process", "duration": 0.2})
    assert made.body["stops"]
    events = server.events("/v1/trackers/process/events")
    assert "end" in {kind for _, kind, _ in events}


def test_an_output_is_a_file_with_the_rows(server: Server, tmp_path: Path):
    output = {"file": str(tmp_path / "p.jsonl"), "format": "json"}
    server.ask("POST", "/v1/trackers", {"kind": "process", "outputs": [output]})
    child = subprocess.Popen(["true"])
    child.wait()
    server.ask("DELETE", "/v1/trackers/process")
    assert f'"pid":{child.pid},' in (tmp_path / "p.jsonl").read_text()
    entries = server.ask("GET", "/v1/trackers/process/ledger").body["outputs"]
    assert entries
    for e in entries:
        assert e["received"] == e["filtered"] + e["delivered"] + sum(e["dropped"].values()) + e["waiting"]


def test_settings_and_filters_of_a_running_tracker_change(server: Server):
    server.ask("POST", "/v1/trackers", {"kind": "syscall"})
    events = iter(server.events("/v1/trackers/syscall/events"))
    assert next(events)[1] == "schema"
    changed = server.ask(
        "PATCH", "/v1/trackers/syscall", {"settings": {"latency": False}, "filters": {"comms": ["none"]}}
    )
    assert (changed.status, changed.body["generation"]) == (200, 2)
    assert changed.body["request"]["filters"] == {"comms": ["none"]}
    wrong = server.ask("PATCH", "/v1/trackers/syscall", {"settings": {"latencies": 1}})
    assert (wrong.status, wrong.body["field"]) == (422, "settings.latencies")


def test_an_uploaded_object_runs_and_takes_anothers_place(server: Server):
    data = Path(tracker.find("process").object).read_bytes()
    uploaded = server.ask("POST", "/v1/objects", data)
    assert (uploaded.status, uploaded.body["streams"]) == (201, ["exec", "fork", "exit"])
    server.ask("POST", "/v1/trackers", {"kind": "process"})
    updated = server.ask("PUT", "/v1/trackers/process/object", {"object": uploaded.body["object"]})
    assert (updated.status, updated.body["generation"]) == (200, 2), updated.body
    back = server.ask("POST", "/v1/trackers/process/rollback", {})
    assert (back.status, back.body["kind"]) == (200, "process")
    history = server.ask("GET", "/v1/trackers/process/history").body["generations"]
    assert [g["outcome"] for g in history] == ["replaced", "replaced", "running"]


def test_errors_name_the_field(server: Server):
    for body, field in (
        ({"kind": "procss"}, "kind"),
        ({"kind": "process", "filters": {"pids": ["x"]}}, "filters.pids[0]"),
        ({"kind": "process", "colour": 1}, "colour"),
        ({"kind": "process", "coalesce": 1}, "coalesce"),
        ({"kind": "process", "outputs": [{"file": "/nowhere/at/all"}]}, "outputs[0].file"),
        ({"object": "sha256:" + "0" * 64}, "object"),
    ):
        answer = server.ask("POST", "/v1/trackers", body)
        assert (answer.body["field"], answer.headers["content-type"]) == (field, "application/problem+json"), answer
        assert answer.status in {404, 422}
    assert server.ask("GET", "/v1/trackers").body == {"trackers": []}
    assert server.ask("POST", "/v1/trackers", b"{").status == 400
    assert server.ask("GET", "/v1/nothing").status == 404
    assert server.ask("POST", "/v1/kinds").status == 405


def test_what_is_no_object_is_refused(server: Server):
    answer = server.ask("POST", "/v1/objects", b"not an object")
    assert (answer.status, answer.body["field"]) == (422, "object")


def test_containers_processes_and_health_are_there(server: Server):
    assert "containers" in server.ask("GET", "/v1/containers").body
    pids = [row["pid"] for row in server.ask("GET", "/v1/processes").body["processes"]]
    assert server.process.pid in pids
    assert server.ask("GET", "/readyz").body["status"] == "ready"


def test_the_socket_is_its_owner_s_alone(server: Server):
    assert server.socket.stat().st_mode & 0o777 == 0o600


def test_a_second_server_on_the_same_socket_or_state_is_refused(server: Server):
    from tests.server.conftest import EUNOMIA

    command = [EUNOMIA, "server", "--socket", server.socket, "--state", server.state.with_name("other")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "listens on" in refused.stderr
    command = [EUNOMIA, "server", "--socket", server.socket.with_name("other.sock"), "--state", server.state]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "is a server running?" in refused.stderr) == (1, True)
    assert server.ask("GET", "/healthz").status == 200
