# SPDX-License-Identifier: BSD-2-Clause
"""Types of others that look like ours, or that no one could show."""

import struct

import pytest
from tests.kernel import compiled

from eunomia.batch import Batch
from eunomia.columns.joined import joined
from eunomia.filters import cgroup_field
from eunomia.kernel.errors import BadObject
from eunomia.kernel.foreign.core_types import kernel_structs
from eunomia.kernel.schema import schema
from eunomia.kernel.spec import Spec
from eunomia.kernel.types import Int, Member, Struct
from eunomia.process_field import process_field

RING = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); } r SEC(".maps");
SEC("raw_tp/sys_enter") int program(void *ctx) { return 0; }
"""


def fields(bpf, source, *flags):
    return Spec(bpf(source + RING, *flags), "x").streams["r"].schema


def test_typedefs_of_others_do_not_mean_what_ours_of_the_same_name_do(bpf):
    shape = fields(bpf, """
typedef struct { __u32 off, len; } str_t;
typedef struct { __u64 dentry, mnt; } path_t;
typedef __u32 ip_t; typedef __u64 time_ns_t; typedef __u32 signal_t;
struct event { str_t range; path_t path; ip_t ip; time_ns_t spent; signal_t green; };
""")  # fmt: skip
    assert list(shape.fields) == ["range.off", "range.len", "path.dentry", "path.mnt", "ip", "spent", "green"]
    assert {f.meaning for f in shape.fields.values()} == {""}
    record = struct.pack("=IIQQI4xQI4x", 1, 2, 3, 4, 5, 6, 7)
    batch = Batch(shape, record)
    assert [batch.values(name)[0] for name in shape.fields] == [1, 2, 3, 4, 5, 6, 7]


def test_typedefs_of_our_header_mean_something_without_a_stream_of_ours(bpf):
    shape = fields(
        bpf,
        "#include <eunomia/types.h>\nstruct event { ipv4_t where; errno_t failed; };",
        f"-I{compiled.HEADERS}",
    )
    assert [f.meaning for f in shape.fields.values()] == ["ipv4", "errno"]


def test_the_kernels_own_typedefs_mean_the_same_everywhere_if_they_have_the_kernels_size(bpf):
    shape = fields(bpf, "typedef __s32 pid_t; typedef __u64 uid_t; struct event { pid_t a; uid_t b; };")
    assert [f.meaning for f in shape.fields.values()] == ["pid", ""]


@pytest.mark.parametrize("noun", ["container", "pod", "process"])
def test_a_member_struct_called_as_a_noun_of_ours_is_no_column_of_ours(bpf, noun):
    shape = fields(bpf, f"struct event {{ struct {{ __u64 id; char name[8]; }} {noun}; __u32 identity; }};")
    assert list(shape.fields) == [f"{noun}_.id", f"{noun}_.name", "identity_"]
    assert not any(map(joined, shape.fields))


@pytest.mark.parametrize(
    ("member", "whose"),
    [
        ("struct cgroup *cgrp", ""),
        ("char cgroup[8]", ""),
        ("double cgid", ""),
        ("enum { ONE, TWO } pid", ""),
        ("__u64 pid : 20", ""),
        ("float tgid", ""),
        ("__u64 cgid", "cgid"),
        ("int pid", "pid"),
    ],
)
def test_only_a_whole_number_of_the_right_size_is_an_id_by_its_name(bpf, member, whose):
    shape = fields(bpf, f"struct cgroup; struct event {{ {member}; __u32 other; }};")
    process = process_field(shape)
    assert cgroup_field(shape) + (process.field if process else "") == whose


@pytest.mark.parametrize(
    "levels",
    ["struct s{i} {{ struct s{j} a, b; }};", "struct s{i} {{ union {{ struct s{j} a, b; }} u[1], v[1]; }};"],
)
def test_a_struct_that_doubles_at_each_level_is_refused_at_once(bpf, levels):
    source = "struct s0 { char a; };" + "".join(levels.format(i=i, j=i - 1) for i in range(1, 13))
    with pytest.raises(BadObject, match="more than 1000 columns, the most"):
        fields(bpf, f"{source}\nstruct event {{ struct s12 all; }};")


def test_types_that_nest_without_end_are_refused(bpf):
    source = "struct s0 { char a; };" + "".join(
        f"struct s{i} {{ struct s{i - 1} a[1]; }};" for i in range(1, 20)
    )
    with pytest.raises(BadObject, match="nests types more than 32 deep"):
        fields(bpf, f"{source}\nstruct event {{ struct s19 all; }};")


def test_a_name_without_an_end_is_broken_btf_and_no_fault_of_ours():
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 4)
    btf = header + struct.pack("=III", 1, 4 << 24, 0) + b"\0abc"
    ext = struct.pack("=HBBIIIIIII", 0xEB9F, 1, 0, 32, 0, 0, 0, 0, 0, 28) + struct.pack(
        "=III4I", 16, 0, 1, 0, 1, 0, 0
    )
    with pytest.raises(BadObject, match="its BTF is broken"):
        kernel_structs(btf, ext)


def test_a_name_that_is_none_in_c_becomes_one():
    names = ["a b", 'say "x"', "back\\slash", "\x1b[2J", "größe"]
    members = tuple(Member(name, Int("int", 4, True), 32 * i, 0) for i, name in enumerate(names))
    shape = schema(Struct("event", 4 * len(names), members))
    assert list(shape.fields) == ["a_b", "say__x_", "back_slash", "__2J", "größe"]
