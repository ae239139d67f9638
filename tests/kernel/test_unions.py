# SPDX-License-Identifier: BSD-2-Clause
"""Members of a struct that share bytes."""

from __future__ import annotations

import pytest
from tests.kernel.test_strange_types import fields

from eunomia.kernel.unions import hint


def said(bpf, members):
    return hint(fields(bpf, f"struct event {{ {members} }};").fields.values())


def test_members_of_a_union_without_a_name_are_said_to_share_their_bytes(bpf):
    members = "__u32 type; union { struct { __u64 fd; } open; struct { __u64 code; } exit; };"
    assert said(bpf, members) == (
        "open.fd and exit.code share bytes of the record (a union): only one is valid in each row"
    )


@pytest.mark.parametrize(
    "members",
    [
        "__u32 pid; __u64 count;",
        "__u8 one : 3, other : 5; __u32 pid;",
        "union { __u32 v4; __u8 v6[16]; } daddr; __u16 family;",
        "union { __u32 number; __u8 raw[16]; } u; __u32 pid;",
        "__u32 len; char data[];",
    ],
)
def test_nothing_is_said_where_none_do(bpf, members):
    assert said(bpf, members) == ""
