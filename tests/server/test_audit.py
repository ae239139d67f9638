# SPDX-License-Identifier: BSD-2-Clause
"""The audit log: nothing is lost when its writer is killed, and no line can be changed unnoticed."""

import hashlib
import json
import os
import random
import re
import resource
import signal
import stat
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eunomia.server import audit, private_file
from eunomia.server.audit import AuditLog, current, files, kept_head, kept_head_path, local
from eunomia.server.audit_chain import LONGEST, RECOVERED, START, Head, Record, decode, encode
from eunomia.server.audit_verify import verify, verify_directory
from tests.server.conftest import KILLS

WHO = {"kind": "token", "token": "0123456789ab"}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda below: st.lists(below) | st.dictionaries(st.text(st.characters()), below),
)


def written(directory, count, size=0):
    log = AuditLog(directory, size)
    for i in range(count):
        log.append(WHO, "tracker.start", f"t{i}", "done", {"n": i})
    log.close()
    return log


def checked(directory, heads=()):
    return verify_directory(directory, heads=heads)


def records(directory):
    return [json.loads(line) for path in files(directory) for line in path.read_bytes().splitlines()]


def verified(lines, head=None, path=None):
    """Verify these lines, as the whole log."""
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(content)
    return verify([(path, len(content))], heads=[head] if head else [])


# Writing


def test_each_record_continues_the_one_before(tmp_path):
    log = AuditLog(tmp_path)
    heads = [log.append(WHO, "tracker.start", f"t{i}", "done", {"n": i}) for i in range(3)]
    found = records(tmp_path)
    assert [r["sequence"] for r in found] == [1, 2, 3]
    assert [r["previous"] for r in found] == [START, found[0]["hash"], found[1]["hash"]]
    assert [Head(r["sequence"], r["hash"]) for r in found] == heads
    assert (found[1]["who"], found[1]["action"], found[1]["target"], found[1]["outcome"], found[1]["details"]) == (
        WHO, "tracker.start", "t1", "done", {"n": 1},
    )  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", found[0]["time"])
    assert audit.head(tmp_path) == heads[-1] == kept_head(tmp_path)
    assert checked(tmp_path) == (3, heads[-1], [], [])


def test_sed_and_sha256sum_compute_the_same_hash(tmp_path):
    written(tmp_path, 3)
    script = f"""sed -n 2p {current(tmp_path)} | sed 's/,"hash":"[0-9a-f]*"}}$/}}/' | tr -d '\\n' | sha256sum"""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == records(tmp_path)[1]["hash"]


@settings(deadline=None, max_examples=25)
@given(st.text(st.characters()), st.text(st.characters()), st.dictionaries(st.text(st.characters()), JSON))
def test_any_text_and_details_make_a_line_that_can_be_read_and_harms_no_terminal(action, target, details):
    line, head = encode(Head(), WHO, action, target, "done", details=details)
    record = decode(line)
    assert isinstance(record, Record)
    assert record.head == head
    assert line.decode("ascii").isprintable()
    assert json.loads(json.dumps(action)) == record.action


def test_details_that_are_no_json_are_refused_and_nothing_is_written(tmp_path):
    log = AuditLog(tmp_path)
    for details in ({"a": object()}, {"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises((TypeError, ValueError)):
            log.append(WHO, "a", "b", "done", details)
    assert current(tmp_path).read_bytes() == b""
    log.append(WHO, "a", "b", "done", {1: (2, 3), "10": 0, 9: 1})
    assert records(tmp_path)[0]["details"] == {"1": [2, 3], "10": 0, "9": 1}
    assert not checked(tmp_path).findings


def test_a_record_that_is_too_long_is_shortened_and_says_so(tmp_path):
    log = AuditLog(tmp_path)
    log.append(
        {"kind": "\U0001f600" * 9000, **{f"{i}" * 9000: "x" * 9000 for i in range(20)}},
        "a" * 99999,
        "\udc80" * 99999,
        "o" * 99999,
        {"x": "y" * LONGEST},
    )
    log.append(WHO, "a", "b", "done", {"x": "y" * LONGEST})
    assert all(len(line) <= LONGEST for line in current(tmp_path).read_bytes().splitlines())
    assert records(tmp_path)[1]["details"]["shortened"]["bytes"] > LONGEST
    assert not checked(tmp_path).findings


def test_an_action_is_recorded_before_it_is_done_and_after(tmp_path):
    log = AuditLog(tmp_path)
    with log.action(WHO, "tracker.start", "opensnoop", {"a": 1}) as action:
        assert [r["outcome"] for r in records(tmp_path)] == ["begun"]
        action.details["id"] = "t1"
    with pytest.raises(ValueError, match="no such"), log.action(WHO, "tracker.stop", "t9"):
        raise ValueError("no such tracker")
    assert [(r["action"], r["outcome"], r["details"]) for r in records(tmp_path)] == [
        ("tracker.start", "begun", {"a": 1}),
        ("tracker.start", "done", {"begun": 1, "id": "t1"}),
        ("tracker.stop", "begun", {}),
        ("tracker.stop", "failed", {"begun": 3, "error": "no such tracker"}),
    ]


def test_a_record_is_on_the_disk_before_its_head_is_noted(tmp_path, monkeypatch):
    log = AuditLog(tmp_path)
    log.append(WHO, "a", "b", "done")
    synced = []

    def fsync(descriptor, really=os.fsync):
        really(descriptor)
        synced.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")), len(records(tmp_path)), kept_head(tmp_path).sequence))

    monkeypatch.setattr(os, "fsync", fsync)
    log.append(WHO, "a", "b", "done")
    assert synced == [("audit.jsonl", 2, 1), ("audit.head.new", 2, 1)]
    assert kept_head(tmp_path).sequence == 2


def test_files_are_for_their_owner_alone(tmp_path):
    written(tmp_path / "state", 3, size=300)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "state").iterdir()} == {0o600}


def test_a_full_file_is_set_aside_and_the_chain_goes_on_in_the_next(tmp_path):
    written(tmp_path, 10, size=3 * len(encode(Head(), WHO, "tracker.start", "t1", "done", details={"n": 1})[0]))
    assert [f.name for f in files(tmp_path)] == [
        "audit-000000000000000003.jsonl",
        "audit-000000000000000006.jsonl",
        "audit-000000000000000009.jsonl",
        "audit.jsonl",
    ]
    result = checked(tmp_path)
    assert (result.records, result.findings, result.notes) == (10, [], [])
    files(tmp_path)[1].unlink()
    [finding] = checked(tmp_path).findings
    assert "removed before this line: records 4 to 6" in finding.what
    assert finding.file.endswith("009.jsonl")


def test_a_writer_killed_between_two_files_goes_on_with_the_chain(tmp_path):
    written(tmp_path, 3)
    current(tmp_path).rename(tmp_path / "audit-000000000000000003.jsonl")
    written(tmp_path, 1)
    assert checked(tmp_path)[0::2] == (4, [])


def test_a_file_that_may_only_grow_is_not_set_aside(tmp_path, monkeypatch):
    """As after `chattr +a`."""
    from pathlib import Path

    def refuse(self, target):
        if self.name == "audit.jsonl":
            raise PermissionError(1, "Operation not permitted")
        return os.rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    written(tmp_path, 10, size=1000)
    assert [f.name for f in files(tmp_path)] == ["audit.jsonl"]
    assert checked(tmp_path)[0::2] == (10, [])


def test_records_of_several_threads_and_processes_make_one_chain(tmp_path):
    script = f"from pathlib import Path; from tests.server.test_audit import written; written(Path({str(tmp_path)!r}), 25, 2000)"
    started = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    log = AuditLog(tmp_path, 2000)
    threads = [
        threading.Thread(target=lambda: [log.append(local(), "a", "b", "done") for _ in range(25)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in started] == [0, 0, 0]
    assert checked(tmp_path)[0::2] == (150, [])


def test_a_disk_that_is_full_is_an_error_and_the_next_record_tells_of_the_torn_line(tmp_path):
    written(tmp_path, 2)
    size = current(tmp_path).stat().st_size
    script = f"""
import resource, signal
from pathlib import Path
from tests.server.test_audit import AuditLog, WHO
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AuditLog(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 40}, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        log.append(WHO, "a", "b", "done")
    except OSError:
        print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
log.append(WHO, "a", "after", "done")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("refused\nrefused\n", "")
    result = checked(tmp_path)
    assert (result.records, result.findings) == (4, [])
    assert [note.line for note in result.notes] == [3]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


# Killed writers

FORKING = """
import os, sys
from pathlib import Path
from eunomia.server.audit import AuditLog
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.write(1, b"%d\\n" % os.getpid())
        log = AuditLog(Path(sys.argv[1]), 20_000)
        while True:
            head = log.append({"kind": "token"}, "tracker.start", "x" * 300, "done")
            os.write(1, b"%d\\n" % head.sequence)
    os.waitpid(child, 0)
    os.write(1, b"killed\\n")
"""


def test_a_log_whose_writer_is_killed_is_whole_each_time(tmp_path):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    printed, kills = 0, 0
    while kills < KILLS:
        # One interpreter forks the writers: to start one for each takes far longer than what is tested.
        with subprocess.Popen(
            [sys.executable, "-c", FORKING, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as parent:
            for _ in range(50):
                parent.stdin.write("go\n")
                parent.stdin.flush()
                child = int(parent.stdout.readline())
                for _ in range(chance.randrange(1, 6)):
                    printed = int(parent.stdout.readline())
                spin = chance.randrange(200_000)  # some part of a record's way to the disk
                for _ in range(spin):
                    pass
                os.kill(child, signal.SIGKILL)
                while (line := parent.stdout.readline()) != "killed\n":
                    printed = int(line)
                kills += 1
                result = checked(tmp_path)
                assert not result.findings, f"seed {seed}: {result.findings}"
                assert result.records == result.head.sequence >= printed, f"seed {seed}"
            parent.stdin.close()


def test_wherever_a_line_is_cut_short_the_chain_goes_on_and_tells_of_it(tmp_path):
    written(tmp_path, 3)
    whole = current(tmp_path).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (*range(last, len(whole) - 3, 5), *range(len(whole) - 3, len(whole) + 1)):
        is_torn = last < cut < len(whole) - 1
        current(tmp_path).write_bytes(whole[:cut])
        private_file.replace(kept_head_path(tmp_path), f"{decode(whole.splitlines()[1]).head}\n".encode())
        result = checked(tmp_path)
        assert (result.findings, len(result.notes)) == ([], is_torn), cut
        written(tmp_path, 1)
        result = checked(tmp_path)
        assert (result.findings, len(result.notes)) == ([], is_torn), cut
        assert current(tmp_path).read_bytes().startswith(whole[:cut]), "what was written stays"


def test_a_line_that_tells_of_a_torn_one_may_itself_be_torn(tmp_path):
    written(tmp_path, 2)
    with current(tmp_path).open("ab") as file:
        file.write(b'{"action":"tor')
    torn = current(tmp_path).read_bytes()
    written(tmp_path, 1)
    told = current(tmp_path).read_bytes()[len(torn) :]
    for cut in range(0, len(told.splitlines(keepends=True)[1]), 7):
        current(tmp_path).write_bytes(torn + told[:cut])
        private_file.replace(kept_head_path(tmp_path), f"{_last(torn)}\n".encode())
        written(tmp_path, 1)
        result = checked(tmp_path)
        assert not result.findings, (cut, result.findings)
        assert result.notes


def _last(content):
    record = decode(content.splitlines()[-2])
    return record.head


# Tampering


def test_a_log_that_is_gone_or_empty_or_has_no_kept_head_is_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        checked(tmp_path)
    written(tmp_path, 3)
    content = current(tmp_path).read_bytes()
    current(tmp_path).write_bytes(b"")
    gone = f"{current(tmp_path)}: the end is cut off: records 1 to 3 should follow, whose hash was noted"
    assert [str(f) for f in checked(tmp_path).findings] == [gone]
    current(tmp_path).unlink()
    assert [str(f) for f in checked(tmp_path).findings] == [gone]
    current(tmp_path).write_bytes(content)
    assert not checked(tmp_path).findings
    for spoil in (lambda: kept_head_path(tmp_path).write_bytes(b"3:x"), kept_head_path(tmp_path).unlink):
        spoil()
        [finding] = checked(tmp_path).findings
        assert (finding.file, finding.line) == (str(kept_head_path(tmp_path)), 0)


@pytest.fixture(scope="module")
def log_lines(tmp_path_factory):
    directory = tmp_path_factory.mktemp("log")
    written(directory, 12)
    return current(directory).read_bytes().splitlines()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return tmp_path_factory.mktemp("copy") / "audit.jsonl"


def head_of(lines):
    return decode(lines[-1]).head


def forged(line, **members):
    """A record with other content and the right hash for it."""
    record = json.loads(line) | members
    before = Head(record["sequence"] - 1, record["previous"])
    made, _ = encode(
        before, record["who"], record["action"], record["target"], record["outcome"], details=record["details"]
    )
    return made


def rechained(lines, before):
    """The lines written anew, as a forger does who knows the format."""
    for line in lines:
        record = json.loads(line)
        made, before = encode(
            before, record["who"], record["action"], record["target"], record["outcome"], details=record["details"]
        )
        yield made


def test_an_untouched_log_has_nothing_to_find(log_lines, copy):
    assert verified(log_lines, head_of(log_lines), copy) == (12, head_of(log_lines), [], [])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_in_its_line(log_lines, copy, data):
    at = data.draw(st.integers(0, len(log_lines) - 1))
    line = log_lines[at]
    place = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b not in {line[place], 10}))
    changed = line[:place] + bytes([byte]) + line[place + 1 :]
    result = verified([*log_lines[:at], changed, *log_lines[at + 1 :]], head_of(log_lines), copy)
    assert at + 1 in {f.line for f in result.findings}, result
    assert {f.line for f in result.findings} <= {at + 1, at + 2}


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_changed_members_are_found_even_if_the_line_has_the_right_hash(log_lines, copy, data):
    at = data.draw(st.integers(0, len(log_lines) - 1))
    changed = forged(log_lines[at], target=data.draw(st.text()) + "!")
    result = verified([*log_lines[:at], changed, *log_lines[at + 1 :]], head_of(log_lines), copy)
    [finding] = result.findings
    assert finding.line in {at + 1, at + 2}
    assert (
        "has another hash than was noted"
        if at == 11
        else f"does not continue the line before it: its previous hash is another than that of record {at + 1}"
    ) in finding.what


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_removed_lines_are_found_and_named(log_lines, copy, data):
    first = data.draw(st.integers(0, 11))
    last = data.draw(st.integers(first, 11))
    rest = log_lines[:first] + log_lines[last + 1 :]
    result = verified(rest, head_of(log_lines), copy)
    [finding] = result.findings
    named = f"record {first + 1}" if first == last else f"records {first + 1} to {last + 1}"
    assert named in finding.what
    if last < 11:
        assert finding.line == first + 1
        assert "removed before this line" in finding.what
    else:
        assert "the end is cut off" in finding.what


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)))
def test_reordered_lines_are_found(log_lines, copy, order):
    result = verified([log_lines[i] for i in order], head_of(log_lines), copy)
    assert bool(result.findings) == (order != [*range(12)])
    assert all("reordered" in f.what for f in result.findings), result.findings
    misplaced = [i + 1 for i, n in enumerate(order) if i != n]
    found = [f.line for f in result.findings]
    assert not misplaced or misplaced[0] == found[0] <= found[-1] <= misplaced[-1]


def test_two_lines_that_changed_places_are_both_named(log_lines, copy):
    lines = [*log_lines]
    lines[4], lines[5] = lines[5], lines[4]
    findings = verified(lines, head_of(log_lines), copy).findings
    assert [(f.line, f.what) for f in findings] == [
        (5, "reordered: record 6 stands here, where record 5 belongs"),
        (6, "reordered: record 5 stands behind record 6"),
    ]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_an_inserted_copy_is_found_where_it_stands(log_lines, copy, data):
    which, at = data.draw(st.integers(0, 11)), data.draw(st.integers(0, 12))
    if at <= which:  # before its own place it looks like the original, which then comes again
        at = data.draw(st.integers(which + 1, 12))
    result = verified([*log_lines[:at], log_lines[which], *log_lines[at:]], head_of(log_lines), copy)
    [finding] = result.findings
    assert (finding.line, finding.what.partition(":")[0]) == (at + 1, "inserted")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_an_inserted_forgery_with_a_right_hash_is_found(log_lines, copy, data):
    at = data.draw(st.integers(0, 11))
    made = forged(log_lines[at], target="forged")
    result = verified([*log_lines[:at], made, *log_lines[at:]], head_of(log_lines), copy)
    assert at + 2 in {f.line for f in result.findings}
    assert any("inserted" in f.what and "one of both is forged" in f.what for f in result.findings)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_an_inserted_text_is_found(log_lines, copy, data):
    at = data.draw(st.integers(0, 11))
    text = data.draw(st.binary(max_size=300).filter(lambda b: b"\n" not in b))
    result = verified([*log_lines[:at], text, *log_lines[at:]], head_of(log_lines), copy)
    assert [f.line for f in result.findings] == [at + 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10))
def test_a_log_written_anew_from_some_line_on_is_found_by_the_kept_head(log_lines, copy, at):
    before = decode(log_lines[at - 1]).head if at else Head()
    changed = [*log_lines[:at], *rechained([log_lines[at].replace(b'"n":', b'"m":'), *log_lines[at + 1 :]], before)]
    assert not verified(changed, None, copy).findings, "who writes everything anew is found by what is kept elsewhere"
    [finding] = verified(changed, head_of(log_lines), copy).findings
    assert "another hash than was noted" in finding.what


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_end_can_be_cut_off_behind_the_back_of_the_kept_head(log_lines, copy, data):
    content = b"".join(line + b"\n" for line in log_lines)
    cut = data.draw(st.integers(0, len(content) - 2))
    copy.write_bytes(content[:cut])
    result = verify([(copy, cut)], heads=[head_of(log_lines)])
    assert any("the end is cut off" in f.what for f in result.findings)


def test_a_removed_end_stays_visible_when_the_log_goes_on(tmp_path):
    written(tmp_path, 5)
    lines = current(tmp_path).read_bytes().splitlines(keepends=True)
    for left in (
        b"".join(lines[:3]),
        b"".join(lines[:4]) + lines[4][:50],
        b"".join(lines[:4]) + lines[4].replace(b"t4", b"t5"),
        b"",
    ):
        current(tmp_path).write_bytes(left)
        private_file.replace(kept_head_path(tmp_path), f"{decode(lines[4][:-1]).head}\n".encode())
        written(tmp_path, 2)
        findings = checked(tmp_path).findings
        assert findings, left
        assert any("removed before this line" in f.what or "was changed" in f.what for f in findings)


def test_a_changed_last_line_cannot_be_passed_off_as_a_torn_one(tmp_path):
    written(tmp_path, 5)
    content = current(tmp_path).read_bytes()
    current(tmp_path).write_bytes(content.replace(b'"t4"', b'"t5"'))
    kept_head_path(tmp_path).unlink()
    written(tmp_path, 2)
    assert [f.line for f in checked(tmp_path).findings] == [5]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_record_of_a_torn_line_covers_no_other_bytes(copy, data):
    head, lines = Head(), []
    for i in range(3):
        line, head = encode(head, WHO, "a", f"t{i}", "done", details={})
        lines.append(line)
    torn = b'{"action":"tor'
    told, head = encode(
        head,
        WHO,
        RECOVERED,
        "audit.jsonl",
        "done",
        details={"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()},
    )
    end, head = encode(head, WHO, "a", "t4", "done", details={})
    assert not verified([*lines, torn, told, end], head, copy).findings
    other = data.draw(st.binary(max_size=40).filter(lambda b: b not in {torn, b""} and b"\n" not in b))
    assert [f.line for f in verified([*lines, other, told, end], head, copy).findings] == [4]
    assert [f.line for f in verified([*lines, torn, other, told, end], head, copy).findings] == [4, 5]
    moved = data.draw(
        st.sampled_from(
            [[torn, *lines, told, end], [*lines[:1], torn, *lines[1:], told, end], [*lines, told, torn, end]]
        )
    )
    assert verified(moved, head, copy).findings


def test_lines_that_only_look_like_records_are_refused():
    body = json.loads(encode(Head(), WHO, "a", "b", "done", details={})[0])
    del body["hash"]

    def signed(text):
        return text[:-1].encode() + b',"hash":"%s"}' % hashlib.sha256(text.encode()).hexdigest().encode()

    def dumped(members):
        return json.dumps(members, sort_keys=True, separators=(",", ":"))

    assert isinstance(decode(signed(dumped(body))), Record)
    for text in (
        json.dumps(body),
        dumped(body | {"more": 1}),
        dumped({n: v for n, v in body.items() if n != "who"}),
        dumped(body | {"sequence": True}),
        dumped(body | {"sequence": 1.0}),
        dumped(body | {"details": {"x": float("nan")}}),
        dumped(body | {"details": {"x": 1}}).replace(":1}", ":1e999}"),
        dumped(body).replace('"action":"a"', '"action":"a","action":"a"'),
        dumped(body).replace('"a"', '"\\u0061"'),
        '{"a":' + "[" * 20000 + "]" * 20000 + "}",
        "[]", "{}", "1",
    ):  # fmt: skip
        assert isinstance(decode(signed(text)), str), text[:200]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_no_content_makes_verify_fail(copy, content):
    copy.write_bytes(content)
    verify([(copy, len(content))])
    if content:
        assert audit._tail(copy).last is None


def test_a_line_without_end_is_read_in_bounded_memory(tmp_path):
    path = current(tmp_path)
    written(tmp_path, 1)
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + (200 << 20))
        file.seek(0, os.SEEK_END)
        file.write(b"\n")
    script = f"""
import resource
from pathlib import Path
from tests.server.test_audit import verify
path = Path({str(path)!r})
resource.setrlimit(resource.RLIMIT_DATA, (150 << 20,) * 2)
print([f.line for f in verify([(path, path.stat().st_size)], heads=()).notes])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[2]\n", "")
