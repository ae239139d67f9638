# SPDX-License-Identifier: BSD-2-Clause
"""There is one catalogue of columns, and columns can be read as distinct values and an index."""

from __future__ import annotations

import csv
import io
import json
import os
import struct

import numpy as np
import pytest

from eunomia.batch import Batch
from eunomia.cli.json_schema import row_schema
from eunomia.columns import joined, meanings
from eunomia.identity import RESOLVED, Container, Identity, Pod
from eunomia.sinks import StreamInfo, open_sink
from eunomia.sinks.writer import open_writer
from eunomia.stream_schema import Field, Schema

TASTE = meanings.Meaning("how it tastes", lambda v: "sweet" if v else "sour", example="sour", width=11)
meanings.MEANINGS["taste"] = TASTE
RECORD = struct.Struct("<QIiI16sII")
SCHEMA = Schema(
    "event",
    RECORD.size,
    [
        Field("time", 0, 8, "Q", "time"),
        Field("pid", 8, 4, "I", "pid"),
        Field("error", 12, 4, "i", "errno"),
        Field("taste", 16, 4, "I", "taste"),
        Field("comm", 20, 16, "16s", "text"),
        Field("path", 36, 8, "II", "str"),
    ],
)
del meanings.MEANINGS["taste"]


@pytest.fixture(autouse=True)
def a_meaning_of_taste(monkeypatch):
    monkeypatch.setitem(meanings.MEANINGS, "taste", TASTE)


def batch(comms=(b"sh", b"cat", b"sh"), paths=("/a", 'q"\\\n', "/a")):
    data, heap = b"", b""
    for i, (comm, path) in enumerate(zip(comms, paths, strict=True)):
        text = path.encode("utf-8", "surrogateescape")
        data += RECORD.pack(i, 7, -i % 2 * 2, i % 2, comm, len(heap), len(text))
        heap += text + b"\0"
    owner = Identity(RESOLVED, Container("c1", "web", labels=(("app", "shop"),)))
    return Batch(
        SCHEMA, data, heap, tracker="t", stream="s", identities=[owner] * len(comms), packed=bool(comms)
    )


def shown(kind, rows, columns=None, path="/dev/null"):
    writer = open_writer(str(path))
    sink = open_sink(kind, writer, [StreamInfo("t", "s", SCHEMA)], columns)
    sink.write([rows])
    sink.close()
    return path.read_text()


def test_a_new_meaning_is_one_record_for_all_faces(tmp_path):
    rows = batch()
    assert list(rows.values("taste")) == ["sour", "sweet", "sour"]
    assert [json.loads(r)["taste"] for r in shown("json", rows, None, tmp_path / "j").splitlines()] == ["sour", "sweet", "sour"]
    found = list(csv.DictReader(io.StringIO(shown("csv", rows, None, tmp_path / "c"))))
    assert [r["taste"] for r in found] == ["sour", "sweet", "sour"]
    assert "TASTE       " in shown("table", rows, ["taste", "pid"], tmp_path / "t")
    described = row_schema([SCHEMA], "t", "s")["properties"]["taste"]
    assert described == {"type": "string", "description": "how it tastes"}


def test_a_new_column_of_containers_is_one_record_for_all_faces(tmp_path, monkeypatch):
    column = joined.Joined("container.size", "its size", lambda identity: 3, json={"type": "integer"}, usual=True)
    monkeypatch.setitem(joined.JOINED, column.name, column)
    rows = batch()
    assert list(rows.values("container.size")) == [3, 3, 3]
    assert json.loads(shown("json", rows, None, tmp_path / "j").splitlines()[0])["container"]["size"] == 3
    assert next(csv.DictReader(io.StringIO(shown("csv", rows, None, tmp_path / "c"))))["container.size"] == "3"
    assert "CONTAINER.SIZE" in shown("table", rows, ["container.size"], tmp_path / "t")
    assert row_schema([SCHEMA], "t", "s")["properties"]["container"]["properties"]["size"] == {"type": "integer"}


def test_each_fact_of_containers_and_pods_is_a_column():
    facts = {f"{noun}.{name}" for noun, of in (("container", Container), ("pod", Pod)) for name in of._fields}
    assert facts <= set(joined.JOINED)


@pytest.mark.parametrize("name", ["pid", "error", "comm", "path", "taste", "identity", "container.labels.app", "stream"])
def test_a_coded_column_says_what_its_values_say(name):
    rows = batch()
    coded = rows.coded(name)
    assert list(coded.expanded(3)) == list(rows.values(name))
    assert len(set(coded.values)) == len(coded.values)
    for some in (rows[1:], rows[b"\1\0\1"], rows[::-1]):
        assert list(some.coded(name).expanded(some.count)) == list(some.values(name))


def test_many_distinct_values_are_all_found():
    names = [os.urandom(8).hex().encode() for _ in range(5000)] * 2
    coded = batch(names, ["/x"] * len(names)).coded("comm")
    assert len(coded.values) == 5000
    assert [coded.values[i] for i in coded.index] == [n[:16].decode() for n in names]


def test_masks_of_each_kind_choose_the_same_rows_and_leave_texts_packed():
    rows = batch()
    for mask in (b"\1\0\1", bytearray(b"\1\0\1"), [True, False, True], np.array([True, False, True])):
        some = rows[mask]
        assert some.packed
        assert list(some.values("path")) == ["/a", "/a"]
        assert list(some.values("comm")) == ["sh", "sh"]
        assert list(some.values("container.name")) == ["web", "web"]
        assert len(some.heap) < len(rows.heap)


@pytest.mark.parametrize("text", ["", "plain", 'a"b\\c', "\b\t\n\f\r\x01\x1f\x7f", "é\x9b\u202e", "\udcff\udc80", "/" + "x" * 3000])
def test_json_has_each_text_as_it_is_and_in_ascii_where_a_terminal_would_act(text, tmp_path):
    from eunomia.meaning import valid

    line = shown("json", batch([b"sh"], [text]), None, tmp_path / "j").splitlines()[0]
    assert json.loads(line)["path"] == valid(text)
    assert "\x7f" not in line
    assert "\x9b" not in line


def test_arrow_has_texts_as_dictionaries():
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'eunomia[arrow]'")
    arrow = batch().to_arrow()
    assert arrow.column("comm").to_pylist() == ["sh", "cat", "sh"]
    for name in ("comm", "path", "error", "taste", "container.name", "identity", "stream"):
        assert str(arrow.schema.field(name).type).startswith("dictionary<values=string"), name
