# SPDX-License-Identifier: BSD-2-Clause
"""What C sees in a record is what both faces of a batch show: gcc is the oracle."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernel import compiled, shapes

from eunomia import meaning
from eunomia.batch import Batch
from eunomia.kernel.btf import Btf
from eunomia.kernel.schema import schema
from eunomia.stream_schema import Schema

PROGRAM = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, %s); } r SEC(".maps");
SEC("raw_tp/sys_enter") int program(void *ctx) { return 0; }
"""


def schema_of(source: str, type_: str = "struct event") -> Schema:
    """Return the schema of a type of some C."""
    source = f"{source}\n#include <bpf/bpf_helpers.h>\n{PROGRAM % type_}"
    return compiled.spec(source).streams["r"].schema


@pytest.fixture(scope="module")
def shape() -> Schema:
    whole = schema_of(shapes.STRUCT, "struct shapes")
    fields = [field for name, field in whole.fields.items() if name != "tail"]  # which C's sizeof leaves out, too
    return Schema(whole.name, whole.fixed, fields, whole.doc)


@pytest.fixture(scope="module")
def records(shape) -> bytes:
    """Random records, and records of all zeros and all ones."""
    size = shape.size
    content = random.Random(2).randbytes(size * 200) + bytes(size) + b"\xff" * size
    # text that is text, in every other record
    raw = bytearray(content)
    at = shape.fields["comm"].offset
    for i in range(0, 200, 2):
        raw[i * size + at : i * size + at + 16] = b"nginx: worker\0xx"
    return bytes(raw)


@pytest.fixture(scope="module")
def seen_by_c(records):
    done = subprocess.run([compiled.native(shapes.reader())], input=records, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def as_c_has_it(name: str, value):
    if name == "huge":
        number = int.from_bytes(bytes.fromhex(value), sys.byteorder)
        return number if number < 1 << 64 else str(number)
    kind = shapes.VALUES[name].partition(":")[0].strip("[]")
    if kind == "g":
        return [float(v) for v in value] if isinstance(value, list) else float(value)
    if kind == "s":
        return meaning.decode(bytes.fromhex(value))
    return value


def same(one, other) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


def test_a_record_is_as_long_as_c_says(shape, seen_by_c):
    assert shape.size == seen_by_c[0]["sizeof"]


@pytest.mark.parametrize("name", shapes.VALUES)
def test_values_are_what_c_reads(shape, records, seen_by_c, name):
    wanted = [as_c_has_it(name, row[name]) for row in seen_by_c]
    got = list(Batch(shape, records).values(name))
    assert all(map(same, got, wanted)), next(
        (i, g, w) for i, (g, w) in enumerate(zip(got, wanted, strict=True)) if not same(g, w)
    )


@pytest.mark.parametrize("name", shapes.VALUES)
def test_columns_hold_what_rows_show(shape, records, name):
    batch = Batch(shape, records)
    column, values = batch[name], list(batch.values(name))
    assert len(column) == len(values)
    kind = shapes.VALUES[name].partition(":")[0]
    if kind == "x":
        column = [hex(v) for v in column.tolist()]
    elif name == "port":
        column = [meaning.port(v) for v in column.tolist()]
    else:
        column = column.tolist()
    assert all(map(same, column, values)), (column[:3], values[:3])


def test_rows_hold_every_column_once(shape, records):
    batch = Batch(shape, records, tracker="t", stream="s", taken=5)
    row = next(batch.rows())
    assert row.u8 == batch.values("u8")[0]
    assert row.container_ == batch.values("container_")[0]
    assert row.stream == "s"
    assert len(list(batch.rows())) == 202


def test_enumerations_show_names_and_numbers_without_one(shape):
    def shown(column, *numbers):
        field = shape.fields[column]
        rows = []
        for number in numbers:
            row = bytearray(shape.size)
            row[field.offset : field.offset + field.size] = number.to_bytes(
                field.size, "little", signed=number < 0
            )
            rows.append(bytes(row))
        return list(Batch(shape, b"".join(rows)).values(column))

    assert shown("colour", 0, 5, 1000000, 7) == ["RED", "GREEN", "BLUE", 7]
    assert shown("result", -1, 0, 7, -2) == ["FAILED", "FINE", "BETTER", -2]
    assert shown("tiny", -3, 100, -4) == ["NEITHER", "BOTH", -4]
    # clang 14 cuts a 64-bit enumeration's values to 32 bits: no name is better than a wrong one
    assert shown("wide", 1) == [1]
    assert shown("wide", 0x100000001) in ([0x100000001], ["LARGE"])


def test_a_bit_field_of_an_enumeration_shows_names(shape):
    field = shape.fields["painted"]
    row = bytearray(shape.size)
    row[field.offset : field.offset + field.size] = (5 << field.bits[0]).to_bytes(field.size, "little")
    assert list(Batch(shape, bytes(row)).values("painted")) == ["GREEN"]


def test_a_boolean_bit_field_is_true_or_false(shape):
    ones, zeros = Batch(shape, b"\xff" * shape.size), Batch(shape, bytes(shape.size))
    assert list(ones.values("truth")) == [True]
    assert list(zeros.values("truth")) == [False]
    assert ones.values("truth")[0] is True


def test_arrays_keep_their_form(shape):
    row = bytearray(shape.size)

    def put(name, raw):
        row[shape.fields[name].offset :][: len(raw)]
        row[shape.fields[name].offset : shape.fields[name].offset + len(raw)] = raw

    put("grid", b"".join(v.to_bytes(2, "little", signed=True) for v in (0, -1, 2, -3, 4, -5)))
    put("cube", b"".join(v.to_bytes(4, "little") for v in range(8)))
    put("names", b"ab\0\0cdef")
    put("colours", (5).to_bytes(4, "little") + (6).to_bytes(4, "little"))
    put("points", b"".join(v.to_bytes(2, "little", signed=True) for v in (1, -2, 3, -4, 5, -6)))
    put("flags", b"\1\0\1")
    put("v4s", bytes([10, 0, 0, 1, 127, 0, 0, 1]))
    batch = Batch(shape, bytes(row))
    assert batch.values("grid")[0] == [[0, -1, 2], [-3, 4, -5]]
    assert batch.values("cube")[0] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert batch.values("names")[0] == ["ab", "cdef"]
    assert batch.values("colours")[0] == ["GREEN", 6]
    assert batch.values("points")[0] == [{"x": 1, "y": -2}, {"x": 3, "y": -4}, {"x": 5, "y": -6}]
    assert batch.values("flags")[0] == [True, False, True]
    assert batch.values("v4s")[0] == ["10.0.0.1", "127.0.0.1"]


def test_unnamed_bit_fields_are_no_columns(shape):
    assert "" not in shape.fields


def test_a_flexible_array_is_what_follows_the_struct():
    whole = schema_of(shapes.STRUCT, "struct shapes")
    assert whole.fields["tail"].offset == whole.fixed == whole.size - 8


def test_doc_and_hidden_are_read_from_tags(shape):
    assert shape.doc == "every shape"
    assert (shape.fields["secret"].doc, shape.fields["secret"].hidden) == ("not for all", True)
    assert not shape.fields["u8"].hidden


def test_a_number_that_stands_for_no_value_is_shown_as_none():
    shape = schema_of(
        """
        #include <eunomia/types.h>
        struct event { __s32 code none(-1); __u32 pid none(0); duration_ns_t lasted none((0)); __u32 plain; };
        """
    )
    raw = struct.pack("=iIQI4x", -1, 0, 0, 0) + struct.pack("=iIQI4x", 0, 7, 1, 1)
    batch = Batch(shape, raw)
    assert [list(batch.values(name)) for name in shape.fields] == [[None, 0], [None, 7], [None, 1], [0, 1]]
    assert batch["code"].tolist() == [-1, 0], "columns of numbers are as C has them"


def test_packed_bit_fields_at_a_record_s_end_stay_inside_it():
    shape = schema_of(
        "#include <eunomia/types.h>\nstruct event { __u8 x; int y : 5; unsigned z : 3; } __attribute__((packed));"
    )
    assert shape.size == 2
    batch = Batch(shape, bytes([7, 0b10111111]) * 2)
    assert (list(batch.values("x")), list(batch.values("y")), list(batch.values("z"))) == (
        [7, 7],
        [-1, -1],
        [5, 5],
    )
    assert batch["y"].tolist() == [-1, -1]


TAGGED = """
#include <eunomia/types.h>
struct event {
	__u32 kind;
	union {
		ipv4_t address selected_for(1);
		__s32 number selected_for(2);
		char text[8] selected_for(0x3);
		struct { __u16 a, b; } pair selected_for(4);
	} what selected_by(kind);
	struct { __u8 kind; union { __u8 small selected_for(1); __u16 large selected_for(2); } u selected_by(kind); } in;
};
"""


def test_a_tagged_union_shows_the_member_that_holds():
    shape = schema_of(TAGGED)
    raw = bytearray(shape.size)
    at = shape.fields["what"].offset
    rows = []
    for kind, content in [
        (1, bytes([127, 0, 0, 1])), (2, b"\xfe\xff\xff\xff"), (3, b"hi\0zzzzz"), (4, b"\1\0\2\0"), (9, b"\xab")
    ]:  # fmt: skip
        raw[:] = bytes(len(raw))
        raw[0] = kind
        raw[at : at + len(content)] = content
        raw[shape.fields["in.kind"].offset] = 2
        raw[shape.fields["in.u"].offset :][:2]
        raw[shape.fields["in.u"].offset] = 7
        rows.append(bytes(raw))
    batch = Batch(shape, b"".join(rows))
    assert list(batch.values("what")) == ["127.0.0.1", -2, "hi", {"a": 1, "b": 2}, "ab" + "00" * 7]
    assert list(batch.values("in.u")) == [7] * 5
    assert batch["what"].tolist() == list(batch.values("what"))


def test_tags_in_an_enumeration_s_or_bit_field_s_words():
    shape = schema_of(
        """
        #include <eunomia/types.h>
        enum kind { NUMBER, ADDRESS };
        #define AF_INET 2
        struct event { enum kind kind; unsigned bit : 1;
            union { __u32 n selected_for(NUMBER); ipv4_t a selected_for(ADDRESS); } u selected_by(kind);
            union { __u32 n selected_for(0); ipv4_t a selected_for(1u); } w selected_by(bit);
            __u16 stream;
            union { __u32 n selected_for('A'); ipv4_t a selected_for(AF_INET); } x selected_by(stream); };
        """
    )
    raw = bytes([1, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4, 2, 0, 0, 0, 1, 2, 3, 4])
    assert list(Batch(shape, raw).values("u")) == ["1.2.3.4"]
    assert list(Batch(shape, raw).values("w")) == ["1.2.3.4"]
    assert list(Batch(shape, raw).values("x")) == ["1.2.3.4"]
    assert list(Batch(shape, raw.replace(b"\2\0", b"A\0")).values("x")) == [0x04030201]


def test_a_tag_that_is_no_field_leaves_the_union_as_bytes():
    shape = schema_of(
        "#include <eunomia/types.h>\nstruct event { __u32 x; union { __u8 a selected_for(1); __u32 b selected_for(wrong); } u "
        "selected_by(nothing); union { __u8 a selected_for(BAD); __u32 b; } v selected_by(x); };"
    )
    assert list(Batch(shape, b"\1\0\0\0\2\0\0\0\3\0\0\0").values("u")) == ["02000000"]
    assert list(Batch(shape, b"\1\0\0\0\2\0\0\0\3\0\0\0").values("v")) == ["03000000"]


TEXTS = """
#include <eunomia/types.h>
struct event { time_ns_t time; str_t name; path_t path; argv_t argv; __u8 n; };
"""


@given(st.binary(min_size=0, max_size=64), st.data())
@settings(max_examples=60, deadline=None)
def test_no_record_makes_anything_raise(heap, data):
    for source, type_ in (
        (shapes.STRUCT, "struct shapes"),
        (TAGGED, "struct event"),
        (TEXTS, "struct event"),
    ):
        shape = _cached(source, type_)
        content = data.draw(st.binary(min_size=shape.size, max_size=shape.size)) * 2
        batch = Batch(shape, content, heap, clock=data.draw(st.integers(-(2**63), 2**63 - 1)))
        for name in shape.columns:
            assert len(batch.values(name)) == 2
            assert len(batch[name]) == 2
        assert len(list(batch.rows())) == 2
        assert len(Batch.concatenate([batch, Batch(shape, content, heap, clock=7)])) == 4


_schemas: dict[tuple[str, str], Schema] = {}


def _cached(source, struct):
    if (source, struct) not in _schemas:
        _schemas[source, struct] = schema_of(source, struct)
    return _schemas[source, struct]


def test_a_time_of_its_own_is_the_row_s_time():
    shape = schema_of("#include <eunomia/types.h>\nstruct event { __u32 x; time_ns_t time; __u64 stream; };")
    assert shape.columns[:5] == ["time", "tracker", "stream", "x", "stream_"]
    batch = Batch(shape, bytes(8) + (5).to_bytes(8, "little") + bytes(8), clock=10**9)
    assert list(batch.values("time")) == ["1970-01-01T00:00:01.000000005Z"]
    assert batch["time"].tolist() == [10**9 + 5]


def test_a_number_called_time_is_not_taken_for_the_time():
    shape = schema_of("#include <eunomia/types.h>\nstruct event { __u32 time; time_ns_t when_; };")
    assert "time_" in shape.fields
    assert shape.time.name == "when_"


@pytest.mark.parametrize(
    "type_", ["__u64", "__s32", "char", "ipv4_t", "ip_t", "union { __u32 a; __u8 b[4]; }"]
)
def test_what_is_no_struct_is_one_column(type_):
    shape = schema_of(f"#include <eunomia/types.h>\ntypedef {type_} thing;", "thing")
    assert list(shape.fields) == ["value"]
    assert len(Batch(shape, bytes(shape.size)).values("value")) == 1


def test_numpy_sees_records_in_place(shape, records):
    column = Batch(shape, records)["u32"]
    assert column.dtype == np.dtype("<u4")
    assert not column.flags.owndata


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_no_btf_are_refused_not_crashed_on(raw):
    from eunomia.kernel.errors import BadObject

    for content in (raw, b"\x9f\xeb\x01\x00\x18\x00\x00\x00" + raw):
        try:
            btf = Btf(content)
            list(btf.structs())
            list(btf.variables())
        except BadObject:
            pass


def test_btf_broken_at_any_byte_is_refused_not_crashed_on():
    from eunomia.kernel.errors import BadObject
    from eunomia.kernel.types import Struct

    good = _btf_of(compiled.bpf(shapes.STRUCT + "struct shapes v = {1};"))
    chance = random.Random(3)
    for _ in range(300):
        raw = bytearray(good)
        raw[chance.randrange(24, len(raw))] = chance.randrange(256)
        try:
            btf = Btf(bytes(raw))
            for struct in btf.structs():
                assert isinstance(struct, Struct)
                made = schema(struct)
                if made.size < 10_000:
                    batch = Batch(made, bytes(made.size))
                    for name in made.fields:
                        batch.values(name)
            list(btf.variables())
        except BadObject:
            pass


def _btf_of(object_: bytes) -> bytes:
    import io

    from elftools.elf.elffile import ELFFile

    return ELFFile(io.BytesIO(object_)).get_section_by_name(".BTF").data()
