# SPDX-License-Identifier: BSD-2-Clause
"""Schemas that are declared in Python, beside those of C structs."""

import pytest

from eunomia.batch import Batch
from eunomia.identity import ON_HOST
from eunomia.python_schema import _CODES, ColumnDeclaration, declare
from tests.kernel import compiled


def test_each_type_is_the_column_that_it_is_in_a_c_struct():
    members = "\n".join(f"{type_} m{i};" for i, type_ in enumerate(_CODES))
    source = f"""
#include <eunomia/probe.h>
struct row {{ {members} }};
STREAM(rows, struct row, 4096);
SEC("raw_tp/sched_switch") int f(void *ctx) {{ return 0; }}
"""
    by_c = compiled.spec(source).streams["rows"].schema.fields
    by_python = declare("row", "", [ColumnDeclaration(f"m{i}", type_) for i, type_ in enumerate(_CODES)]).fields
    assert list(by_python) == list(by_c)
    for name, field in by_c.items():
        assert by_python[name]._replace(offset=field.offset) == field


def test_a_declaration_can_say_what_a_c_struct_can():
    schema = declare(
        "alert",
        "a rule was broken",
        [
            ColumnDeclaration("severity", "enum severity", "how bad it is", names={1: "low", 2: "high"}),
            ColumnDeclaration("code", "__s32", hidden=True, none=-1),
            ColumnDeclaration("rule", "str_t"),
        ],
    )
    rows = [{"severity": 2, "code": 5, "rule": "no shells"}, {"severity": 1, "code": -1}]
    batch = Batch.made(schema, rows, [ON_HOST] * 2)
    assert list(batch.values("severity")) == ["high", "low"]
    assert list(batch.values("code")) == [5, None]
    assert list(batch.values("rule")) == ["no shells", ""]
    assert (schema.doc, schema.fields["severity"].doc) == ("a rule was broken", "how bad it is")
    assert [field.hidden for field in schema.fields.values()] == [False, True, False]


def test_a_schema_without_columns_of_its_own_has_rows():
    batch = Batch.made(declare("empty", "", []), [{}] * 3, [ON_HOST] * 3)
    assert len(batch) == 3
    assert list(batch.values("identity")) == ["host"] * 3


def test_an_unknown_type_and_a_second_column_of_a_name_are_refused():
    with pytest.raises(ValueError, match=r"alert\.age: unknown type 'int': there are __u8, "):
        declare("alert", "", [ColumnDeclaration("age", "int")])
    with pytest.raises(ValueError, match=r"alert\.age is declared twice"):
        declare("alert", "", [ColumnDeclaration("age", "__u8")] * 2)
