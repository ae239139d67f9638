# SPDX-License-Identifier: BSD-2-Clause
import json

import pytest

from eunomia.sinks.escape import escape_json
from eunomia.sinks.merge import pieces


def lines(writer):
    return [json.loads(line) for line in writer.text.split("\n")[:-1]]


def test_an_event_is_one_flat_object_with_its_container(sample, written):
    row = {"ts": sample.T0 + 5, "pid": 7, "comm": b"cat", "path": b"x", "resolved": b"/x", "errno": -2}
    writer = written("json", [sample.OPEN], [sample.batch(sample.OPEN, [row], [sample.WEB])])
    (event,) = lines(writer)
    assert list(event) == [
        "time", "tracker", "stream", "cgroup_id", "pid", "tid", "ppid", "uid", "comm", "path", "resolved",
        "flags", "errno", "latency_ns", "container", "identity",
    ]  # fmt: skip
    assert event["time"] == "2026-11-23T20:05:29.000000005Z"
    assert (event["errno"], event["path"], event["identity"]) == ("ENOENT", "x", "resolved")
    assert event["container"] == {"id": "4f" * 32, "name": "web", "image": "nginx:1.27", "runtime": "docker"}


def test_each_row_says_whose_it_is(sample, written, process_tick):
    events = lines(written("json", [sample.FORK, sample.EXEC, sample.EXIT], process_tick))
    assert [e["identity"] for e in events] == ["resolved", "resolved", "host", "resolved", "pending"]
    assert ["container" in e for e in events] == [True, True, False, True, True]
    assert events[3]["pod"] == {"name": "shop-7d9", "namespace": "prod", "uid": "u-1"}
    assert events[4]["container"]["name"] == ""


def test_rows_without_a_join_are_unknown(sample, written):
    (event,) = lines(written("json", [sample.FORK], [sample.batch(sample.FORK, [{}])]))
    assert event["identity"] == "unknown"
    assert "container" not in event


@pytest.mark.parametrize("index", range(19))
def test_no_text_from_outside_breaks_a_line_or_reaches_a_terminal_raw(sample, written, index):
    text = sample.HOSTILE[index]
    row = {"comm": text[:15], "exe": text, "argv": [text, b"x"], "cwd": text}
    writer = written("json", [sample.EXEC], [sample.batch(sample.EXEC, [row], [sample.WEB])])
    (event,) = lines(writer)
    assert event["exe"] == text.decode("utf-8", "backslashreplace")
    assert event["argv"][0] == event["exe"]
    raw = set(writer.text)
    assert not raw & set(map(chr, [*range(10), *range(11, 32), *range(0x7F, 0xA0), 0x2028, 0x202E, 0x2066]))


def test_a_name_that_no_encoding_knows_is_escaped(sample, written):
    odd = sample.WEB._replace(container=sample.WEB.container._replace(name="a\ud800\udc80"))
    (event,) = lines(written("json", [sample.FORK], [sample.batch(sample.FORK, [{}], [odd])]))
    assert event["container"]["name"] == "a\\ud800\\udc80"


def test_escaping_leaves_backslashes_before_a_control_character_valid():
    assert json.loads(escape_json(b'"a\\\\\x7f"')) == "a\\\x7f"


def test_rows_of_several_streams_are_merged_by_time_across_pieces(sample, written):
    early = [{"ts": sample.T0 + i * 10} for i in range(3000)]
    late = [{"time": sample.T0 + i * 17 + 5} for i in range(1500)]
    tick = [sample.batch(sample.OPEN, early), sample.batch(sample.FORK, late)]
    writer = written("json", [sample.OPEN, sample.FORK], tick)
    events = lines(writer)
    assert len(events) == 4500
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert writer.delivered == {("opensnoop", "open"): 3000, ("process", "fork"): 1500}
    merged = [key[1] for key in writer.orders]  # what comes after is of one stream
    assert set(merged) == {"open", "fork"}
    assert merged == [e["stream"] for e in events][: len(merged)]


def test_rows_out_of_order_or_of_one_time_are_all_written(sample):
    same = sample.batch(sample.FORK, [{"time": sample.T0}] * 2500)
    backwards = sample.batch(sample.OPEN, [{"ts": sample.T0 - i} for i in range(2500)])
    assert sum(len(p.times) for group in pieces([same, backwards], 100) for p in group) == 5000


def test_chosen_columns_come_alone_and_in_their_order(sample, written):
    tick = [sample.batch(sample.EXEC, [{"pid": 3}], [sample.WEB])]
    writer = written("json", [sample.EXEC], tick, columns=["pid", "container.name", "time", "container.id"])
    (event,) = lines(writer)
    assert list(event) == ["pid", "container", "time"]
    assert event["container"] == {"name": "web", "id": "4f" * 32}


def test_a_chosen_object_is_whole(sample, written):
    tick = [sample.batch(sample.EXEC, [{}], [sample.WEB])]
    (event,) = lines(written("json", [sample.EXEC], tick, columns=["container"]))
    assert set(event["container"]) == {"id", "name", "image", "runtime"}


def test_columns_that_no_row_has_leave_empty_objects(sample, written):
    tick = [sample.batch(sample.FORK, [{}, {}])]
    assert lines(written("json", [sample.FORK, sample.EXEC], tick, columns=["argv"])) == [{}, {}]


def test_an_unknown_column_is_refused_with_the_one_that_was_meant(sample, written):
    with pytest.raises(
        ValueError, match=r"no column 'latency'; did you mean 'latency_ns'\?.*there are time, "
    ):
        written("json", [sample.OPEN], columns=["latency"])


def test_a_column_of_one_stream_is_known_to_all(sample, written):
    written("json", [sample.FORK, sample.EXEC], columns=["child_pid"])


def test_a_stream_whose_struct_was_replaced_shows_its_new_fields(sample, written):
    old, new = sample.stream("t/s", a=""), sample.stream("t/s", a="", b="")
    writer = written("json", [old], [sample.batch(old, [{"a": 1}])], [sample.batch(new, [{"a": 1, "b": 2}])])
    assert [e.get("b") for e in lines(writer)] == [None, 2]


def test_more_identities_than_are_remembered_keep_their_names(sample, written):
    many = [sample.WEB._replace(container=sample.WEB.container._replace(name=f"c{i}")) for i in range(6000)]
    tick = [sample.batch(sample.FORK, [{} for _ in many], many)]
    names = [e["container"]["name"] for e in lines(written("json", [sample.FORK], tick, tick))]
    assert names == [f"c{i}" for i in range(6000)] * 2


def test_a_numbers_name_may_be_that_of_a_batchs_attribute(sample, written):
    a, b = sample.stream("t/a", count=""), sample.stream("t/b", data="")
    tick = [sample.batch(a, [{"count": 7}]), sample.batch(b, [{"data": 8}])]
    events = lines(written("json", [a, b], tick, columns=["stream", "count", "data"]))
    assert events == [{"stream": "a", "count": 7}, {"stream": "b", "data": 8}]
