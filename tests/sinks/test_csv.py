# SPDX-License-Identifier: BSD-2-Clause
import csv
import io

import pytest


def parsed(writer):
    return list(csv.DictReader(io.StringIO(writer.text, newline="")))


def test_the_header_stands_once_with_the_columns_of_all_streams(sample, written, process_tick):
    writer = written("csv", [sample.FORK, sample.EXEC, sample.EXIT], process_tick, process_tick)
    assert writer.text.count("container.name") == 1
    header = writer.text.split("\r\n")[0].split(",")
    assert header[:5] == ["time", "tracker", "stream", "pid", "tid"]
    assert header[-8:-6] == ["container.id", "container.name"]
    assert {"child_pid", "argv", "duration_ns"} < set(header)


def test_a_cell_is_empty_where_the_stream_lacks_the_column(sample, written, process_tick):
    rows = parsed(written("csv", [sample.FORK, sample.EXEC, sample.EXIT], process_tick))
    assert [r["stream"] for r in rows] == ["fork", "exec", "exec", "exit", "exit"]
    assert [r["child_pid"] for r in rows] == ["4242", "", "", "", ""]
    assert [r["argv"] for r in rows][1:3] == ["nginx -g 'daemon off;'", "lss LD_PRELOAD=x"]
    assert [r["container.name"] for r in rows] == ["web", "web", "", "cart", ""]
    assert rows[1]["argv_cut"] == "false"


@pytest.mark.parametrize("index", range(19))
def test_a_row_stays_one_line_whatever_its_names_hold(sample, written, index):
    text = sample.HOSTILE[index]
    row = {"comm": text[:15], "exe": text, "argv": [b"x", text], "cwd": text}
    writer = written("csv", [sample.EXEC], [sample.batch(sample.EXEC, [row], [sample.WEB])])
    assert writer.text.count("\r\n") == 2
    assert writer.text.replace("\r\n", "").isprintable()
    (found,) = parsed(writer)
    assert None not in found
    assert found["identity"] == "resolved"


def test_quotes_and_commas_come_back_as_they_were(sample, written):
    tick = [sample.batch(sample.EXEC, [{"exe": b'a,"b"'}])]
    assert parsed(written("csv", [sample.EXEC], tick))[0]["exe"] == 'a,"b"'


def test_chosen_objects_become_their_members(sample, written):
    tick = [sample.batch(sample.EXEC, [{}], [sample.WEB])]
    writer = written("csv", [sample.EXEC], tick, columns=["container", "pid"])
    assert writer.text.split("\r\n")[0] == "container.id,container.name,container.image,container.runtime,pid"


def test_a_column_named_as_a_batchs_attribute_is_empty_elsewhere(sample, written):
    a, b = sample.stream("t/a", count=""), sample.stream("t/b", data="")
    tick = [sample.batch(a, [{"count": 7}]), sample.batch(b, [{"data": 8}])]
    assert [(r["count"], r["data"]) for r in parsed(written("csv", [a, b], tick))] == [("7", ""), ("", "8")]


def test_lists_that_are_no_command_lines_are_json(sample, written):
    tick = [sample.batch(sample.HIST, [{"slots": range(10)}])]
    assert parsed(written("csv", [sample.HIST], tick))[0]["slots"] == "[0,1,2,3,4,5,6,7,8,9]"
