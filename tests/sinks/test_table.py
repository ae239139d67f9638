# SPDX-License-Identifier: BSD-2-Clause
import re

import pytest

from eunomia.meaning import duration
from eunomia.sinks import open_sink
from eunomia.sinks.histogram import draw
from eunomia.sinks.layout import cut_to, measure
from eunomia.sinks.shorten import shorten
from eunomia.stream_schema import Scale


def plain(writer):
    return re.sub("\x1b\\[[0-9]*m", "", writer.text).split("\n")[:-1]


def test_streams_share_columns_and_say_the_rest_by_name(sample, written, process_tick):
    lines = plain(written("table", [sample.FORK, sample.EXEC, sample.EXIT], process_tick))
    assert lines[0].split() == ["TIME", "STREAM", "CONTAINER", "PID", "PPID", "UID", "COMM", "DETAILS"]
    assert lines[2].split("nginx", 1)[1].strip() == "nginx -g 'daemon off;' exe=/usr/sbin/nginx cwd=/"
    assert lines[3].endswith("errno=ENOENT lss 'LD_PRELOAD=x' exe=/usr/bin/lss cwd='/home/a b'")
    assert lines[5].endswith("signal=SIGKILL exit_code=0 duration=45.6us")


def test_the_container_column_says_name_short_id_host_or_unknown(sample, written, process_tick):
    tick = [*process_tick, sample.batch(sample.FORK, [{"time": sample.T0}])]
    lines = plain(written("table", [sample.FORK, sample.EXEC, sample.EXIT], tick))
    assert [line.split()[2] for line in lines[1:]] == ["?", "web", "web", "-", "shop-7d9/cart", "ab" * 6]


def test_one_stream_has_a_column_for_each_field(sample, written):
    stream = sample.stream("t/s", default_columns=("pid", "comm", "path", "lat_ns"),
                           pid="pid", comm="text", path="str", lat_ns="duration")  # fmt: skip
    tick = [sample.batch(stream, [{"pid": 5, "comm": b"sh", "path": b"/x", "lat_ns": 12_345}], [sample.WEB])]
    lines = plain(written("table", [stream], tick))
    assert lines[0].split() == ["TIME", "CONTAINER", "PID", "COMM", "PATH", "LAT"]
    assert lines[1].split()[1:] == ["web", "5", "sh", "/x", "12.3us"]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(sample, written, process_tick, terminal, width):
    fd, resize = terminal
    resize(width)
    hostile = sample.batch(sample.EXEC, [{"exe": t, "argv": [t], "cwd": t} for t in sample.HOSTILE])
    streams = [sample.FORK, sample.EXEC, sample.EXIT]
    for chosen in (streams, [sample.EXEC]):
        keys = {s.stream for s in chosen}
        tick = [b for b in [*process_tick, hostile] if b.stream in keys]
        assert max(map(measure, plain(written("table", chosen, tick, terminal=fd)))) <= width


def test_nothing_is_cut_or_coloured_where_no_terminal_is(sample, written):
    long = b"/" + b"x" * 10_000
    text = written("table", [sample.EXEC], [sample.batch(sample.EXEC, [{"exe": long}])]).text
    assert long.decode() in text
    assert "\x1b" not in text


def test_a_terminal_has_colours_unless_its_owner_declines(
    sample, written, terminal, process_tick, monkeypatch
):
    streams = [sample.FORK, sample.EXEC, sample.EXIT]
    assert "\x1b[" in written("table", streams, process_tick, terminal=terminal[0]).text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in written("table", streams, process_tick, terminal=terminal[0]).text
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in written("table", streams, process_tick, terminal=terminal[0]).text


@pytest.mark.parametrize("index", range(19))
def test_no_name_moves_the_cursor_or_adds_a_line(sample, written, index):
    text = sample.HOSTILE[index]
    row = {"comm": text[:15], "exe": text, "argv": [text], "cwd": text}
    name = text.decode("utf-8", "replace")
    odd = sample.WEB._replace(container=sample.WEB.container._replace(name=name))
    lines = plain(written("table", [sample.EXEC], [sample.batch(sample.EXEC, [row], [odd])]))
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_the_heading_comes_back_with_each_screenful(sample, written, terminal):
    fd, resize = terminal
    resize(100, 12)
    writer = written("table", [sample.FORK], [sample.batch(sample.FORK, [{}] * 35)], terminal=fd)
    lines = plain(writer)
    headings = [i for i, line in enumerate(lines) if line.startswith("TIME")]
    assert headings == [0, 11, 22, 33]
    assert writer.delivered == {("process", "fork"): 35}


def test_numbers_are_never_cut(sample, written, terminal):
    stream = sample.stream("t/s", default_columns=("uid", "pid"), uid="uid", pid="pid")
    tick = [sample.batch(stream, [{"uid": 4294967295, "pid": 1}])]
    assert "4294967295" in written("table", [stream], tick, terminal=terminal[0]).text


def test_wide_characters_count_twice():
    assert cut_to("日本語", 5) == "日本…"
    assert measure(cut_to("日本語のファイル", 8)) <= 8


def test_streams_of_one_name_are_told_apart_by_tracker(sample, written):
    a, b = sample.stream("a/s", x=""), sample.stream("b/s", x="")
    lines = plain(written("table", [a, b], [sample.batch(a, [{}]), sample.batch(b, [{}])]))
    assert {line.split()[1] for line in lines[1:]} == {"a/s", "b/s"}


def test_a_histogram_is_drawn_below_its_row(sample, written):
    tick = [sample.batch(sample.HIST, [{"slots": [1, 0, 10, 0, 0, 0, 0, 0, 0, 0]}])]
    lines = plain(written("table", [sample.HIST], tick))
    assert "distribution" in lines[2]
    assert lines[3].split()[:5] == ["0", "->", "1", ":", "1"]
    assert lines[5].count("*") == 40
    assert len(lines) == 6


def test_a_linear_histogram_has_a_line_for_each_step():
    lines = [line.split() for line in draw([0, 0, 4, 8, 0], "slots", Scale("linear"))]
    assert lines[0] == ["slots", ":", "count", "distribution"]
    assert [(line[0], line[2]) for line in lines[1:]] == [("0", "0"), ("1", "0"), ("2", "4"), ("3", "8")]
    assert [line[3].count("*") for line in lines[3:]] == [20, 40]


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (Scale("linear", "requests", 5, more=True), ["slots (requests)", "0 -> 4", "5 -> 9", "10 -> ..."]),
        (Scale("linear", step=5), ["slots", "0 -> 4", "5 -> 9", "10 -> 14"]),
        (Scale("log2", "us", more=True), ["slots (us)", "0 -> 1", "2 -> 3", "4 -> ..."]),
        (Scale("log2"), ["slots", "0 -> 1", "2 -> 3", "4 -> 7"]),
    ],
)
def test_a_histogram_says_which_values_each_line_counts(scale, labels):
    lines = draw([1, 2, 3], "slots", scale)
    assert [" ".join(line.partition(" : ")[0].split()) for line in lines] == labels
    assert len({line.index(" : ") for line in lines}) == 1


def test_an_empty_histogram_draws_nothing():
    assert draw([0] * 10, "slots", Scale("log2")) == []


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, "0ns"), (999, "999ns"), (1000, "1us"), (12_345, "12.3us"), (999_999, "1ms"), (1_500_000_000, "1.5s"),
     (99_999_000_000, "1m39s"), (3_700_000_000_000, "1h01m")],
)  # fmt: skip
def test_durations_are_read_at_a_glance(nanoseconds, shown):
    assert duration(nanoseconds) == shown


def test_only_chosen_columns_are_shown(sample, written, process_tick):
    writer = written(
        "table", [sample.FORK, sample.EXEC, sample.EXIT], process_tick, columns=["pid", "container.name"]
    )
    lines = plain(writer)
    assert lines[0].split() == ["PID", "CONTAINER.NAME"]
    assert [line.split()[1] for line in lines[1:]] == ["web", "web", "-", "cart", "-"]


def test_the_heading_shows_before_the_first_event(sample, written):
    assert plain(written("table", [sample.FORK]))[0].startswith("TIME")


def test_the_file_leads_the_details_and_is_cut_in_the_middle(sample, written, terminal):
    fd, resize = terminal
    resize(120)
    opens = sample.stream(
        "opensnoop/open", default_columns=("pid", "comm", "errno", "latency_ns", "flags", "resolved"),
        pid="pid", comm="text", errno="errno", latency_ns="duration", flags="open_flags", resolved="path",
    )  # fmt: skip
    path = b"/usr/lib/x86_64-linux-gnu/a/very/long/way/down/to/libc.so.6"
    tick = [sample.batch(opens, [{"pid": 5, "comm": b"sh", "latency_ns": 12_345, "resolved": path}], [sample.WEB])]
    details = plain(written("table", [opens, sample.FORK], tick, terminal=fd))[1].split("resolved=")
    assert "latency" not in details[0]
    assert details[1].split()[0].startswith("/usr/lib/…/")
    assert details[1].split()[0].endswith("/libc.so.6")


@pytest.mark.parametrize("width", range(1, 60))
@pytest.mark.parametrize("path", ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/" + "n" * 200, "/日本/語/日本語.so", "x", ""])
def test_a_shortened_path_fits_and_keeps_its_end(path, width):
    shown = shorten(path, width)
    assert measure(shown) <= width
    assert shown == path or ("…" in shown and path.endswith(shown.rpartition("…")[2]))


def test_a_stream_that_has_other_columns_now_gets_a_heading_of_its_own(sample):
    before = sample.stream("t/s", pid="pid", comm="text")
    after = sample.stream("t/s", pid="pid", latency_ns="duration")
    writer = sample.Kept()
    sink = open_sink("table", writer, [before])
    sink.write([sample.batch(before, [{"pid": 123456, "comm": b"a"}])])
    sink.adapt([before])
    sink.write([sample.batch(before, [{"pid": 5, "comm": b"b"}])])
    sink.adapt([after])
    sink.write([sample.batch(after, [{"pid": 6, "latency_ns": 12_345}])])
    lines = plain(writer)
    assert [line.split()[2:] for line in lines] == [
        ["PID", "COMM"], ["123456", "a"], ["5", "b"], ["PID", "LATENCY"], ["6", "12.3us"],
    ]  # fmt: skip


def test_columns_that_were_asked_for_stay_whatever_becomes_of_them(sample):
    before = sample.stream("t/s", pid="pid", comm="text")
    after = sample.stream("t/s", pid="pid", latency_ns="duration")
    writer = sample.Kept()
    sink = open_sink("table", writer, [before], ["comm", "pid"])
    sink.adapt([after])
    sink.write([sample.batch(after, [{"pid": 6}])])
    assert [line.split() for line in plain(writer)] == [["COMM", "PID"], ["6"]]
