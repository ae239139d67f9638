# SPDX-License-Identifier: BSD-2-Clause
r"""Escaped text is harmless, readable, and can be turned back into what it stands for."""

import csv
import io
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eunomia.meaning import decode, encode
from eunomia.sinks.escape import escape, escape_all

NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
SEQUENCE = re.compile(r"\\(?:([\\nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


def unescape(text):
    """Read a text as docs/output.md says that it is to be read."""

    def meant(found):
        name, byte, *points = found.groups()
        if name:
            return NAMED[name]
        if byte:
            return chr(int(byte, 16)) if int(byte, 16) < 0x80 else chr(0xDC00 + int(byte, 16))
        return chr(int(points[0] or points[1], 16))

    return SEQUENCE.sub(meant, text)


# what comes near to an escape sequence, so that many of them are tried
NEAR = st.text(st.sampled_from("\\\\\\nrtxuU0a9f\n\t\x1b\x7f\u009b\u00e9\u202e\U000e0001\udcff\ud800 ."), max_size=40)


@given(st.text() | st.text(st.characters(categories=("C", "Z", "L"))) | NEAR)
@example("\\n")
@example("\n")
@example("\\\n")
@example("\\\\n")
@example("\\x\udcff")
def test_escaped_text_can_be_had_back(text):
    assert escape(text).isprintable()
    assert unescape(escape(text)) == text
    assert list(escape_all([text, "a"])) == [escape(text), "a"]


@given(st.binary() | NEAR.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xff")
@example(rb"\xff")
@example(b"\xc2\x9b\x9b")
def test_bytes_that_are_no_text_can_be_had_back(raw):
    assert encode(unescape(escape(decode(raw)))) == raw


@given(NEAR, NEAR)
def test_different_texts_look_different(one, other):
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"), ("C:\\Windows\\d", "C:\\Windows\\d"), ("\\", "\\"), ("s/\\(a\\)/\\1/", "s/\\(a\\)/\\1/"),
        ("a\nb", "a\\nb"), ("a\\nb", "a\\\\nb"), ("\\\\host", "\\\\\\host"), ("dev\\x2dsda", "dev\\\\x2dsda"),
        ("\\xZZ", "\\xZZ"), ("\x1b[2J", "\\x1b[2J"), ("\u009b", "\\u009b"), ("\udcff", "\\xff"), ("\\\x1b", "\\\\\\x1b"),
    ],
)  # fmt: skip
def test_only_a_backslash_that_could_be_misread_is_doubled(text, shown):
    assert escape(text) == shown


def test_a_newline_and_a_backslash_before_an_n_differ_in_tables_and_csv(sample, written):
    streams, rows = [sample.EXEC], [{"comm": b"a\nb"}, {"comm": rb"a\nb"}, {"comm": b"a\xff"}, {"comm": rb"a\xff"}]
    tick = [sample.batch(sample.EXEC, rows)]
    cells = list(csv.DictReader(io.StringIO(written("csv", streams, tick, columns=["comm"]).text)))
    assert [unescape(row["comm"]) for row in cells] == ["a\nb", "a\\nb", "a\udcff", "a\\xff"]
    table = written("table", streams, tick, columns=["comm"]).text.split()[1:]
    assert [unescape(cell) for cell in table] == ["a\nb", "a\\nb", "a\udcff", "a\\xff"]


def test_json_shows_bytes_that_are_not_utf_8_as_hex(sample, written):
    tick = [sample.batch(sample.EXEC, [{"comm": b"a\xff", "argv": [b"\xfe", b"\xc3\xa9"]}, {"comm": b"fine"}])]
    rows = [json.loads(line) for line in written("json", [sample.EXEC], tick).text.splitlines()]
    assert [row["comm"] for row in rows] == ["a\\xff", "fine"]
    assert rows[0]["argv"] == ["\\xfe", "é"]
