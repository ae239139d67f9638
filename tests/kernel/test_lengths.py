# SPDX-License-Identifier: BSD-2-Clause
"""All of a text or an array is shown that a record holds, and nothing that is left over behind it."""

from __future__ import annotations

import json
import struct

import pytest
from tests.kernel import compiled
from tests.kernel.test_schema import schema_of

from eunomia.batch import Batch
from eunomia.cli.json_schema import example, row_schema

ARGS = b"ls\0-l\0/tmp\0"
LEFT = b"\xa5left over\0"  # what is behind the text in memory that nobody cleared


def shown(members: str, record: bytes) -> dict[str, object]:
    """Return a row of ``struct event`` with these members."""
    shape = schema_of(f"#include <linux/bpf.h>\nstruct event {{ {members} }};")
    json.dumps([row_schema([shape], "t", "s"), example(shape, "t", "s")])
    body, rest = record[: shape.fixed].ljust(shape.fixed, b"\0"), record[shape.fixed :]
    place = struct.pack("=II", 0, len(rest)) if shape.fixed < shape.size else b""
    batch = Batch(shape, body + place, rest)
    return {name: batch.values(name)[0] for name in shape.fields}


@pytest.mark.parametrize("name", ["args_size", "args_len", "argslen", "arg_bytes", "len", "size"])
def test_texts_with_a_nul_between_them_are_a_list_where_a_length_is_told(name):
    row = shown(f"__u32 {name}; char args[64];", struct.pack("=I", len(ARGS)) + ARGS + LEFT)
    assert row["args"] == ["ls", "-l", "/tmp"]


@pytest.mark.parametrize("name", ["args_count", "argc", "nr_args", "num_args"])
def test_texts_are_a_list_where_their_number_is_told(name):
    row = shown(f"int {name}; char args[64];", struct.pack("=i", 3) + ARGS + LEFT)
    assert row["args"] == ["ls", "-l", "/tmp"]


def test_an_empty_argument_is_kept_where_their_number_is_told():
    row = shown("int args_count, args_size; char args[64];", struct.pack("=ii", 3, 5) + b"a\0\0b\0" + LEFT)
    assert row["args"] == ["a", "", "b"]
    row = shown("int args_count, args_size; char args[64];", struct.pack("=ii", 2, 3) + b"a\0\0" + LEFT)
    assert row["args"] == ["a", ""]


def test_no_text_is_an_empty_list():
    assert shown("__u32 args_size; char args[64];", bytes(4) + LEFT)["args"] == []


def test_a_length_past_the_array_is_none():
    row = shown("__u32 args_size; char args[16];", struct.pack("=I", 4000) + b"ls\0" + LEFT)
    assert row["args"] == ["ls"]


def test_where_nothing_tells_a_length_text_ends_at_its_first_nul():
    assert shown("__u32 pid; char args[64];", bytes(4) + ARGS)["args"] == "ls"
    assert shown("__u32 len; char comm[16];", struct.pack("=I", 9) + b"cat\0" + LEFT)["comm"] == "cat"


def test_and_info_says_so():
    source = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    struct event { __u32 pid; char argv[64]; };
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); } r SEC(".maps");
    SEC("raw_tp/sys_enter") int program(void *ctx) { return 0; }
    """
    assert "argv is shown up to its first NUL" in compiled.spec(source).streams["r"].hint


def test_a_text_of_known_length_keeps_its_nuls_and_needs_none_at_its_end():
    row = shown("char data[16]; __u32 data_len;", b"GET /\0x\r\n" + LEFT[:7] + struct.pack("=I", 9))
    assert row["data"] == "GET /\0x\r\n"
    row = shown("__u32 len; char path[8]; char data[8];", struct.pack("=I", 3) + b"/etc\0ZZZ" + b"abcdefgh")
    assert (row["path"], row["data"]) == ("/etc", "abc")


def test_bytes_of_known_length_are_as_many():
    assert shown("__u16 key_len; __u8 key[8];", b"\3\0" + bytes(range(1, 9)))["key"] == "010203"


def test_a_flexible_array_is_all_that_follows():
    assert shown("__u32 pid; char path[];", bytes(4) + b"/etc/passwd\0")["path"] == "/etc/passwd"
    assert shown("__u32 pid; char args[];", bytes(4) + ARGS)["args"] == ["ls", "-l", "/tmp"]
    assert shown("__u32 pid; __u8 data[];", bytes(4) + b"\1\2")["data"] == "0102"
    assert shown("__u32 pid; char path[0];", bytes(4))["path"] == ""


def test_a_flexible_array_is_as_long_as_is_told():
    assert shown("__u32 len; char data[];", struct.pack("=I", 3) + b"abcdef")["data"] == "abc"
    assert shown("__u32 len; __u8 data[];", struct.pack("=I", 3) + b"abcdef")["data"] == b"abc".hex()
    assert shown("__u32 len; char data[];", struct.pack("=I", 4000) + b"abc")["data"] == "abc", "no such length"


@pytest.mark.parametrize(
    ("member", "told"), [("nr", 2), ("count", 2), ("ips_len", 16), ("len", 16), ("nr_ips", 2), ("depth", 2)]
)
def test_a_flexible_array_of_numbers_is_a_list_as_long_as_is_told(member, told):
    row = shown(f"__u64 {member}; __u64 ips[];", struct.pack("=QQQQ", told, 7, 8, 9))
    assert row["ips"] == [7, 8]


def test_a_flexible_array_of_structs_is_a_list_of_objects():
    row = shown("__u32 pid; struct item { __u16 a; char b[2]; } items[];", bytes(4) + b"\1\0xy\2\0z\0")
    assert row["items"] == [{"a": 1, "b": "xy"}, {"a": 2, "b": "z"}]
    assert shown("__u32 pid; __be32 hops[];", bytes(4) + b"\x7f\0\0\1")["hops"] == ["127.0.0.1"]


def test_a_flexible_array_within_the_last_member():
    row = shown("__u32 pid; struct { __u32 len; char data[]; } body;", struct.pack("=II", 1, 2) + b"abc")
    assert (row["body.len"], row["body.data"]) == (2, "ab")
