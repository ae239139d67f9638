# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia audit``: shows who did what, and finds what was done to the log."""

import json

import pytest

from eunomia.server.audit import AuditLog, directory_of

TOKEN = {"kind": "token", "token": "0123456789ab", "name": "ci", "address": "192.0.2.1"}
PEER = {"kind": "peer", "uid": 1000, "pid": 42}


@pytest.fixture
def state(tmp_path):
    log = AuditLog(directory_of(tmp_path))
    with log.action(TOKEN, "tracker.start", "opensnoop") as action:
        action.details["id"] = "t1"
    log.append(PEER, "tracker.stop", "t1\x1b[2J\u202e\n", "failed", {"error": "\x7f", "n": 1 << 80})
    log.append(PEER, "tracker.start", "process", "done")
    log.close()
    return tmp_path


def log_of(state):
    return directory_of(state) / "audit.jsonl"


def shown(eunomia, state, *words):
    return [json.loads(line)["sequence"] for line in eunomia("audit", "show", *words, "-o", "json", "--state", state).out.splitlines()]


def test_the_table_shows_who_did_what_and_no_control_characters(eunomia, state):
    out = eunomia("audit", "show", "--state", state).out
    lines = out.splitlines()
    assert lines[0].split() == ["TIME", "RECORD", "WHO", "ACTION", "TARGET", "OUTCOME", "DETAILS"]
    assert lines[2].split()[1:] == ["2", "ci", "(0123456789ab)", "tracker.start", "opensnoop", "done", '{"begun":', "1,", '"id":', '"t1"}']
    assert "uid 1000, pid 42" in lines[3]
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], [1, 2, 3, 4]),
        (["--last", "2"], [3, 4]),
        (["--who", "ci"], [1, 2]),
        (["--who", "0123456789ab"], [1, 2]),
        (["--who", "uid:1000"], [3, 4]),
        (["--who", "uid:100"], []),
        (["--action", "tracker.st*"], [1, 2, 3, 4]),
        (["--action", "tracker.stop"], [3]),
        (["--target", "process", "--action", "*start"], [4]),
        (["--outcome", "done", "--last", "1"], [4]),
        (["--since", "1h"], [1, 2, 3, 4]),
        (["--since", "2026-01-01"], [1, 2, 3, 4]),
        (["--since", "2999-01-01T00:00Z"], []),
    ],
)
def test_filters_choose_records(eunomia, state, words, found):
    assert shown(eunomia, state, *words) == found


def test_json_has_every_member_and_big_numbers(eunomia, state):
    out = eunomia("audit", "show", "-o", "json", "--state", state).out
    record = json.loads(out.splitlines()[2])
    assert record.keys() == {"sequence", "time", "who", "action", "target", "outcome", "details", "previous", "hash"}
    assert record["details"] == {"error": "\x7f", "n": 1 << 80}
    assert all(line.isprintable() for line in out.splitlines())


def test_a_whole_log_is_said_to_be_whole(eunomia, state):
    head = eunomia("audit", "head", "--state", state).out.strip()
    done = eunomia("audit", "verify", "--state", state, "--head", head)
    assert (done.code, done.out, done.err) == (0, f"4 records, none changed, removed or moved; the last is {head}\n", "")
    done = eunomia("audit", "verify", log_of(state), "--head", head)
    assert done.code == 0


def test_a_changed_line_is_named_and_the_exit_code_is_1(eunomia, state):
    path = log_of(state)
    path.write_bytes(path.read_bytes().replace(b'"id":"t1"', b'"id":"t2"'))
    done = eunomia("audit", "verify", "--state", state)
    assert (done.code, done.out) == (1, f"{path}:2: the line was changed: its hash is not that of its content\n")
    assert done.err == "eunomia: the audit log is not whole: 1 finding in 3 records\n"
    told = json.loads(eunomia("audit", "verify", "-o", "json", path).out)
    assert (told["whole"], [f["line"] for f in told["findings"]]) == (False, [2])
    path.write_bytes(path.read_bytes().replace(b"tracker", b"\x1b[2J"))
    assert eunomia("audit", "verify", path).out.replace("\n", "").isprintable()
    shown = eunomia("audit", "show", "--state", state)
    assert "4 lines are no records, the first is" in shown.err


def test_a_removed_end_is_found_by_the_kept_head_and_by_a_noted_one(eunomia, state):
    head = eunomia("audit", "head", "--state", state).out.strip()
    path = log_of(state)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    for words in (["--state", state], [path, "--head", head]):
        done = eunomia("audit", "verify", *words)
        assert (done.code, done.out) == (1, f"{path}:2: the end is cut off: records 3 to 4 should follow, whose hash was noted\n")
    assert eunomia("audit", "verify", path).code == 0, "without a head nobody can know"


def test_a_part_of_a_log_is_verified_from_the_record_before_it(eunomia, state, tmp_path):
    lines = log_of(state).read_bytes().splitlines(keepends=True)
    part = tmp_path / "part.jsonl"
    part.write_bytes(b"".join(lines[2:]))
    assert "records 1 to 2" in eunomia("audit", "verify", part).out
    assert eunomia("audit", "verify", part, "--after", f"2:{json.loads(lines[1])['hash']}").code == 0
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(lines[:2]))
    assert eunomia("audit", "verify", other, part).code == 0
    assert eunomia("audit", "verify", part, other).code == 1


@pytest.mark.parametrize("words", [["show"], ["verify"], ["head"]])
def test_where_there_is_no_log_that_is_said(eunomia, tmp_path, words):
    assert eunomia("audit", *words, "--state", tmp_path).one_line(1) == f"{tmp_path}/audit: there is no audit log"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit"], "required: ACTION"),
        (["audit", "verify", "--head", "4"], "not of the form SEQUENCE:HASH"),
        (["audit", "verify", "x", "--state", "y"], "goes without FILE"),
        (["audit", "show", "--since", "yesterday"], "--since: 'yesterday'"),
        (["audit", "show", "--since", "2026-1-1"], "--since: '2026-1-1' is no time"),
        (["audit", "show", "--last", "0"], "--last"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(eunomia, words, said):
    assert said in eunomia(*words).one_line(2)


def test_a_file_that_is_not_there_is_one_line(eunomia):
    assert eunomia("audit", "verify", "/nowhere/audit.jsonl").one_line(1) == "/nowhere/audit.jsonl: No such file or directory"
