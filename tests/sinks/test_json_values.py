# SPDX-License-Identifier: BSD-2-Clause
"""Values written without msgspec are the bytes that msgspec writes."""

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eunomia.meaning import valid
from eunomia.sinks import json_values

texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(["", '"\\', "\x00\x1b\x7f", "\u2028", "é", "\udc80x"])
numbers = st.integers(-(1 << 63), (1 << 64) - 1)
others = st.floats() | st.binary(max_size=3) | st.datetimes()  # which are left to msgspec
simple = texts | numbers | st.booleans() | st.none()
values = st.recursive(simple | others, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3))


@given(values)
def test_a_value_is_written_as_by_msgspec(value):
    assert json_values.encoded(value) == msgspec.json.encode(valid(value))


@given(st.lists(values, max_size=4), st.booleans())
def test_lines_are_written_as_by_msgspec(rows, many):
    lines = json_values.Lines()
    if many:
        lines([0] * (json_values.MANY + 1))
    assert lines(rows) == b"".join(msgspec.json.encode(valid(row)) + b"\n" for row in rows)


@pytest.mark.parametrize(("count", "imported"), [(json_values.MANY, False), (json_values.MANY + 1, True)])
def test_msgspec_is_imported_once_many_values_come_at_a_time(count, imported):
    script = f"""
import sys
from eunomia.sinks.json_values import Lines
lines = Lines()
for _ in range(100):
    assert lines([1, "x"]) == b'1\\n"x"\\n'
lines(["x"] * {count})
print("msgspec" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{imported}\n", "")
