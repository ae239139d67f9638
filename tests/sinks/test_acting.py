# SPDX-License-Identifier: BSD-2-Clause
"""Columns of processes, which rows have when somebody asks for them."""

import csv
import io
import json

import pytest

from eunomia import meaning
from eunomia.process_identity import UNKNOWN_PROCESS, Process

HOSTILE = b"\x1b[2J\n\xff\0,\"'\0"


@pytest.fixture(autouse=True)
def node(monkeypatch):
    monkeypatch.setattr(meaning, "_node", ["n1"])


def chain() -> Process:
    init, shell = Process(1, 5, 5), Process(70, 600, 650)
    init.comm_bytes, init.argv_bytes = b"init", b"/sbin/init\0"
    shell.comm_bytes, shell.argv_bytes = b"sh\x1b", HOSTILE
    shell.parent, shell.ppid, shell.parent_start = init, 1, 5
    process = Process(71, 700, 710)
    process.comm_bytes, process.exe_bytes, process.argv_bytes = b"ls", b"/bin/ls", b"ls\0-l\0a b\0"
    process.tty_bytes, process.session, process.user = b"pts3", 70, "rose"
    process.parent, process.ppid, process.parent_start = shell, 70, 600
    return process


@pytest.fixture
def shown(sample, written):
    def show(kind, **options):
        batch = sample.batch(sample.FORK, [{"pid": 71}, {"pid": 9}], [sample.WEB, sample.WEB])
        batch.actors, batch.actor = [UNKNOWN_PROCESS, chain()], [1, 0]
        return written(kind, [sample.FORK], [batch], **options).text

    return show


WHOLE = {
    "state": "known", "exec_id": "n1:700:71", "parent_exec_id": "n1:600:70", "exe": "/bin/ls", "argv": ["ls", "-l", "a b"],
    "user": "rose", "tty": "pts/3", "session": 70,
    "ancestors": [
        {"pid": 70, "comm": "sh\x1b", "argv": ["\x1b[2J\n\\xff", ",\"'"], "exec_id": "n1:600:70"},
        {"pid": 1, "comm": "init", "argv": ["/sbin/init"], "exec_id": "n1:5:1"},
    ],
}  # fmt: skip


def test_json_has_them_as_an_object_that_says_so_where_nothing_is_known(shown):
    first, second = map(json.loads, shown("json", columns=["pid", "process"]).splitlines())
    assert first == {"pid": 71, "process": WHOLE}
    assert second == {"pid": 9, "process": {"state": "unknown"}}


def test_json_has_the_members_that_were_asked_for(shown):
    text = shown("json", columns=["process.tty", "pid", "process.exec_id"])
    assert json.loads(text.splitlines()[0]) == {"process": {"tty": "pts/3", "exec_id": "n1:700:71"}, "pid": 71}


def test_no_row_has_them_unasked(shown):
    assert all("process" not in json.loads(line) for line in shown("json").splitlines())
    assert "process." not in shown("csv").splitlines()[0]


def test_added_columns_come_beside_the_usual_ones(shown):
    usual = [json.loads(line) for line in shown("json").splitlines()]
    more = [json.loads(line) for line in shown("json", added=["process.user", "container.labels"]).splitlines()]
    assert [m.pop("process", None) for m in more] == [{"user": "rose"}, {"state": "unknown"}]
    assert [m["container"].pop("labels") for m in more] == [{}, {}]
    assert more == usual
    header, *_ = csv.reader(io.StringIO(shown("csv", added=["process.user"])))
    before, *_ = csv.reader(io.StringIO(shown("csv")))
    assert header == [*before, "process.user"]


def test_added_a_noun_is_all_that_there_is_of_it(shown):
    row = json.loads(shown("json", added=["process", "container"]).splitlines()[0])
    assert row["process"] == WHOLE
    assert {"mounts", "labels", "parents"} <= set(row["container"])


def test_csv_has_a_shell_s_words_and_the_line_of_ancestors(shown):
    rows = list(csv.DictReader(io.StringIO(shown("csv", columns=["pid", "process"]))))
    assert rows[0] == {
        "pid": "71", "process.state": "known", "process.exec_id": "n1:700:71", "process.parent_exec_id": "n1:600:70",
        "process.exe": "/bin/ls", "process.argv": "ls -l 'a b'", "process.user": "rose", "process.tty": "pts/3",
        "process.session": "70", "process.ancestors": "sh\\x1b<-init",
    }  # fmt: skip
    assert set(rows[1].values()) == {"9", "", "unknown"}


def test_tables_have_them_before_the_details_and_say_where_nothing_is_known(shown):
    header, first, second = shown("table", added=["process.user", "process.ancestors"]).splitlines()
    assert header.split()[-2:] == ["PROCESS.USER", "PROCESS.ANCESTORS"]
    assert first.split()[-2:] == ["rose", "sh\\x1b<-init"]
    assert second.split()[-2:] == ["-", "-"]


def test_a_column_of_them_that_is_none_is_refused_with_its_like(shown):
    with pytest.raises(ValueError, match=r"did you mean 'process.ancestors'"):
        shown("json", columns=["process.ancestor"])


def test_a_stranger_s_own_field_of_that_name_is_what_its_stream_says(sample, written):
    stream = sample.stream("their/rows", **{"process.exe": "text", "pid": "pid"})
    batch = sample.batch(stream, [{"process.exe": b"theirs", "pid": 71}])
    batch.actors, batch.actor = [chain()], [0]
    assert json.loads(written("json", [stream], [batch], columns=["process.exe"]).text) == {"process.exe": "theirs"}
    assert written("csv", [stream], [batch], columns=["process.exe"]).text.splitlines()[1] == "theirs"
