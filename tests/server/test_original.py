# SPDX-License-Identifier: BSD-2-Clause
"""A client of the original's API starts, lists and stops trackers as it did there."""

import msgspec
import pytest

from eunomia.server import original
from eunomia.server.models import Filters, Tracker, TrackerRequest
from eunomia.server.original import Numbers, Start
from eunomia.server.problems import ApiError

KNOWN = ["container", "opensnoop", "process", "syscall"]


def tracker(id_: str = "process", kind: str = "process", started: str = "2026-11-27T12:00:00Z", state: str = "running"):
    return Tracker(id_, kind, state, "sha256:0", 1, started, TrackerRequest(kind=kind, id=id_))


def answer(struct) -> object:
    return msgspec.json.decode(msgspec.json.encode(struct))


def test_a_tracker_is_started_by_its_name():
    asked = original.start(b'{"name": "process"}', KNOWN)
    assert asked == Start(TrackerRequest(kind="process"), "process", [])
    assert answer(original.started(tracker(), asked, Numbers())) == {"status": "ok", "id": 1}


def test_a_request_with_all_fields_is_understood_and_what_is_left_out_is_said():
    body = {
        "name": "files",
        "export_handlers": [{"name": "stdout", "args": ["a", "b"]}],
        "args": ["-p", "7", "c"],
        "odd": 1,
    }
    asked = original.start(msgspec.json.encode(body), KNOWN)
    assert asked.request == TrackerRequest(kind="opensnoop", filters=Filters(pids=[7]))
    numbers = Numbers()
    said = answer(original.started(tracker("opensnoop", "opensnoop"), asked, numbers))
    assert (said["status"], said["id"]) == ("ok", 1)
    assert said["notes"] == [
        "'files': opensnoop takes its place: it shows which files are opened, not how much is read and written",
        "export_handlers[0]: 'stdout': a server has no terminal: `eunomia attach ID` shows the rows as a table",
        "export_handlers[0].args: the original does not use them either; left out",
        "args[0]: -p 7: filters.pids",
        "args[2]: 'c': it has no counterpart; left out",
        "odd: there is no such field; left out",
    ]
    listed = answer(original.listing([tracker("opensnoop", "opensnoop")], numbers))
    assert listed == {"status": "ok", "list": [{"id": 1, "name": "files"}]}


def test_a_list_has_what_runs_with_numbers_that_stay():
    numbers = Numbers()
    one, two = tracker(), tracker("web", "opensnoop")
    assert answer(original.listing([one, two], numbers)) == {
        "status": "ok",
        "list": [{"id": 1, "name": "process"}, {"id": 2, "name": "opensnoop"}],
    }
    assert answer(original.listing([two, tracker(state="stopped")], numbers))["list"] == [
        {"id": 2, "name": "opensnoop"}
    ]
    again = tracker(started="2026-11-27T13:00:00Z")
    assert answer(original.listing([again, two], numbers))["list"] == [
        {"id": 2, "name": "opensnoop"},
        {"id": 3, "name": "process"},
    ], "a number is not used twice"
    assert answer(original.listing([], numbers)) == {"status": "ok", "list": []}


@pytest.mark.parametrize("body", [b'{"id": 2}', b'{"id": "2"}'])
def test_a_tracker_is_stopped_by_its_number(body):
    numbers = Numbers()
    original.listing([tracker(), tracker("web", "opensnoop")], numbers)
    assert numbers.id_of(original.stop(body)) == "web"
    assert answer(original.stopped()) == {"status": "ok"}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is not JSON: Input data was truncated"),
        (b"{", 400, "the body is not JSON: Input data was truncated"),
        (b"\xff", 400, "the body is not JSON: "),
        (b"[" * 100_000, 400, "the body is not JSON: "),
        (b"[]", 422, "an empty list is not a table"),
        (b"{}", 422, "name: it is missing"),
        (b'{"name": 5}', 422, "name: 5 is not text"),
        (b'{"name": "proces"}', 422, "name: there is no 'proces': did you mean process?"),
        (b'{"name": "memleak"}', 422, "name: there is no 'memleak': there are container, opensnoop, process, syscall"),
        (b'{"name": "process", "export_handlers": [{}]}', 422, "export_handlers[0].name: it is missing"),
        (b'{"name": "process", "args": [{}]}', 422, "args[0]: a table is not "),
        (b'{"name": "process", "args": ["-p", "0"]}', 422, "args: 0 is not a whole number of at least 1"),
        (b'{"name": "process", "args": ["-p", "x"]}', 422, "args[0]: -p needs a whole number, not 'x'"),
    ],
)
def test_a_wrong_start_is_answered_with_what_is_wrong(body, status, message):
    with pytest.raises(ApiError) as error:
        original.start(body, KNOWN)
    said = answer(original.failed(error.value))
    assert (error.value.status, said["status"]) == (status, "error")
    assert said["message"].startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "id: it is missing"),
        (b'{"id": null}', "id: null is not a whole number or text"),
        (b'{"id": -1}', "id: '-1' is not a tracker's number"),
        (b'{"id": "web"}', "id: 'web' is not a tracker's number"),
        (b'{"id": 99999999999999999999}', "id: '99999999999999999999' is not a tracker's number"),
    ],
)
def test_a_wrong_stop_is_answered_with_what_is_wrong(body, message):
    with pytest.raises(ApiError) as error:
        original.stop(body)
    assert answer(original.failed(error.value)) == {"status": "error", "message": message}


def test_a_number_that_nobody_has_is_not_found():
    with pytest.raises(ApiError) as error:
        Numbers().id_of(7)
    assert (error.value.status, answer(original.failed(error.value))["message"]) == (404, "id: there is no tracker 7")
