# SPDX-License-Identifier: BSD-2-Clause
"""A batch can be cut, joined and looked at from two sides, and does nothing before it is asked."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eunomia.batch import Batch
from eunomia.identity import UNKNOWN_IDENTITY
from eunomia.stream_schema import Field, Schema

EVENT = struct.Struct("<QIIIIhbx4x")
SCHEMA = Schema(
    "event",
    EVENT.size,
    [
        Field("time", 0, 8, "Q", "time"),
        Field("name", 8, 8, "II", "str"),
        Field("argv", 16, 8, "II", "argv"),
        Field("number", 24, 2, "h"),
        Field("colour", 26, 1, "b", "enum", names={1: "red"}),
    ],
)


def batch(*rows, clock=0, heap=b"", taken=0):
    """Rows are (time, name, argv, number)."""
    data = b""
    for time, name, argv, number in rows:
        name, argv = name.encode(), b"".join(a.encode() + b"\0" for a in argv)
        data += EVENT.pack(time, len(heap), len(name), len(heap) + len(name), len(argv), number, number % 3)
        heap += name + argv
    return Batch(SCHEMA, data, heap, tracker="t", stream="s", clock=clock, taken=taken)


def table(b):
    return [(r.time, r.name, r.argv, r.number, r.colour) for r in b.rows()]


FIVE = batch(*((i, f"n{i}", ["a", str(i)], -i) for i in range(5)), clock=10**18)

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5)
rows = st.lists(
    st.tuples(st.integers(0, 2**40), texts, st.lists(texts, max_size=3), st.integers(-99, 99)), max_size=5
)


@pytest.mark.parametrize(
    "cut", [slice(1, 3), slice(None), slice(-2, None), slice(4, 1), slice(None, None, -2)]
)
def test_a_slice_holds_the_rows_it_names(cut):
    assert table(FIVE[cut]) == table(FIVE)[cut]
    assert FIVE[cut]["number"].tolist() == FIVE["number"].tolist()[cut]


def test_a_mask_holds_the_rows_it_marks():
    assert table(FIVE[FIVE["number"] < -2]) == table(FIVE)[3:]
    assert table(FIVE[[True, False, False, False, True]]) == [table(FIVE)[0], table(FIVE)[4]]
    assert len(FIVE[np.zeros(5, bool)]) == 0


def test_a_mask_of_the_wrong_length_is_refused():
    with pytest.raises(IndexError, match="mask of 2 values for 5 rows"):
        FIVE[[True, False]]


def test_an_unknown_column_is_a_key_error():
    with pytest.raises(KeyError, match="nothing"):
        FIVE["nothing"]


@given(rows, rows, rows, st.integers(0, 10**18), st.integers(0, 10**18))
def test_joined_batches_hold_the_rows_of_each(one, two, three, clock, other):
    parts = [batch(*one, clock=clock), batch(*two, clock=other, heap=b"garbage"), batch(*three, clock=clock)]
    joined = Batch.concatenate(parts)
    assert table(joined) == [row for part in parts for row in table(part)]
    assert joined["time"].tolist() == [t for part in parts for t in part["time"].tolist()]
    assert list(joined["name"]) == [n for part in parts for n in part.values("name")]


def test_batches_of_different_streams_cannot_be_joined():
    with pytest.raises(ValueError, match="one schema"):
        Batch.concatenate([FIVE, Batch(Schema("x", 1, []), b"x")])
    with pytest.raises(ValueError, match="nothing"):
        Batch.concatenate([])


def test_rows_have_an_attribute_for_each_field_whatever_its_name():
    names = ["a.b", "a_b", "1st", "size in bytes", "__pad"]
    schema = Schema("odd", len(names), [Field(name, i, 1, "B") for i, name in enumerate(names)])
    (row,) = Batch(schema, bytes(range(len(names)))).rows()
    assert [row.a_b, row.a_b_, row._1st, row.size_in_bytes, row._pad] == [0, 1, 2, 3, 4]


def test_identities_follow_their_rows():
    who = [UNKNOWN_IDENTITY._replace(state=str(i)) for i in range(5)]
    some = Batch(SCHEMA, FIVE.data, FIVE.heap, identities=who)
    assert [r.identity for r in some[3:].rows()] == ["3", "4"]
    assert list(some[[True, False, True, False, False]].values("identity")) == ["0", "2"]
    assert list(Batch.concatenate([some[:1], some[4:]]).values("identity")) == ["0", "4"]


def test_an_empty_batch_has_every_column_and_no_row():
    none = FIVE[:0]
    assert list(none.rows()) == []
    for name in SCHEMA.columns:
        assert len(none.values(name)) == len(none[name]) == 0


def test_rows_need_no_numpy():
    code = (
        "import sys\n"
        "from eunomia.batch import Batch, Field, Schema\n"
        "b = Batch(Schema('e', 4, [Field('n', 0, 4, 'I')]), bytes(8))\n"
        "assert len(list(b[1:].rows())) == 1\n"
        "assert 'numpy' not in sys.modules, 'numpy'\n"
        "b['n']\n"
        "assert 'numpy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_decoded_before_it_is_asked_for():
    wild = batch((1, "a", [], 1))
    wild = Batch(SCHEMA, wild.data, b"\xff")  # decoding this would show
    assert len(wild[:1]) == 1
    assert repr(wild) == "<Batch /, 1 rows>"
    assert list(wild.values("number")) == [1]
    assert list(wild.values("name")) == ["\udcff"]


def test_pandas_gets_every_column():
    pytest.importorskip("pandas", reason="needs pandas: pip install 'eunomia[pandas]'")
    frame = FIVE.to_pandas()
    assert list(frame.columns) == SCHEMA.columns
    assert frame["time"].tolist() == [10**18 + i for i in range(5)]
    assert frame["argv"].tolist()[1] == ["a", "1"]


def test_arrow_gets_every_column_with_its_type():
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'eunomia[arrow]'")
    arrow = FIVE.to_arrow()
    assert arrow.column_names == SCHEMA.columns
    assert str(arrow.schema.field("number").type) == "int16"
    assert arrow["colour"].to_pylist() == ["0", "2", "red", "0", "2"]
    assert FIVE[:0].to_arrow().num_rows == 0


@pytest.mark.parametrize(
    ("method", "module", "extra"), [("to_arrow", "pyarrow", "arrow"), ("to_pandas",) + ("pandas",) * 2]
)
def test_a_missing_extra_is_named(monkeypatch, method, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}: pip install 'eunomia\[{extra}\]'"):
        getattr(FIVE, method)()
