# SPDX-License-Identifier: BSD-2-Clause
"""Addresses and ports of strangers' structs are shown as such where type, or shape and name together, say so."""

from __future__ import annotations

import json
import socket
import struct

import pytest
from tests.kernel import compiled
from tests.kernel.test_schema import schema_of

from eunomia.batch import Batch
from eunomia.cli.json_schema import row_schema
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.settings import Setting, write

HEAD = """
#include <linux/bpf.h>
struct in_addr { __be32 s_addr; };
struct in6_addr { union { __u8 u6_addr8[16]; __be16 u6_addr16[8]; __be32 u6_addr32[4]; } in6_u; };
struct sockaddr_in { __u16 sin_family; __be16 sin_port; struct in_addr sin_addr; unsigned char __pad[8]; };
"""


V4 = socket.inet_aton("127.0.0.1")
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1")


def settings_of(source):
    """Return the settings of an object with these globals."""
    head = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
    use = 'SEC("raw_tp/sys_enter") int program(void *ctx) { return wanted; }'
    return compiled.spec(f"{head}{source}\n{use}").settings


def shown(members: str, record: bytes, before: str = "") -> dict[str, object]:
    """Return a row of ``struct event`` with these members, by column."""
    schema = schema_of(f"{HEAD}\n{before}\nstruct event {{ {members} }};")
    batch = Batch(schema, record.ljust(schema.size, b"\0"))
    json.dumps(row_schema([schema], "t", "s"))
    return {name: batch.values(name)[0] for name in schema.fields}


@pytest.mark.parametrize(
    ("member", "raw", "value"),
    [
        ("__be32 saddr", V4, "127.0.0.1"), ("__be32 gateway", V4, "127.0.0.1"), ("__be16 dport", b"\0\x50", 80),
        ("__be16 protocol", b"\x08\0", 0x800), ("__be32 seq", b"\0\0\1\0", 256), ("__be64 tun_id", bytes(7) + b"\7", 7),
        ("struct in_addr where", V4, "127.0.0.1"), ("struct in6_addr where", V6, "2001:db8::1"),
        ("__u8 addr6[16]", V6, "2001:db8::1"), ("__u8 saddr_v6[16]", V4 + bytes(12), "7f00:1::"),
        ("unsigned __int128 daddr", V6, "2001:db8::1"), ("__u32 daddr[4]", V6, "2001:db8::1"),
        ("__u8 addr[16]", bytes(10) + b"\xff\xff" + V4, "127.0.0.1"), ("__u8 addr[16]", V4 + bytes(12), "127.0.0.1"),
        ("__u32 saddr", V4, "127.0.0.1"), ("__u32 saddr_v4", V4, "127.0.0.1"), ("__u32 src_ip", V4, "127.0.0.1"),
        ("__u32 remote_ip4", V4, "127.0.0.1"), ("__u8 mac[6]", b"\2\x42\xac\x11\0\2", "02:42:ac:11:00:02"),
        ("unsigned char h_source[6]", bytes(6), "00:00:00:00:00:00"),
        # what is like it and may be something else stays what it is
        ("__u16 dport", b"\0\x50", 0x5000), ("__u32 addr", V4, 0x0100007F), ("__u32 ip", V4, 0x0100007F),
        ("__s32 saddr", V4, 0x0100007F), ("__u64 saddr", V4, 0x0100007F), ("__u32 address_space", V4, 0x0100007F),
        ("__u8 key[16]", V6, V6.hex()), ("char addr[16]", b"192.0.2.1", "192.0.2.1"), ("__u8 code[6]", b"abcdef", b"abcdef".hex()),
        ("__u32 v4", V4, 0x0100007F), ("__u32 ipv4", V4, 0x0100007F), ("__u32 ip4", V4, 0x0100007F),
        ("__u32 ipc", V4, 0x0100007F), ("__u32 tips", V4, 0x0100007F), ("__wsum csum", V4, 0x0100007F),
    ],
)  # fmt: skip
def test_a_member_is_shown_by_its_type_or_else_by_shape_and_name(member, raw, value):
    (column,) = shown(f"{member};", raw).values()
    assert column == value


def test_a_socket_address_is_family_port_and_address():
    record = struct.pack("=H", socket.AF_INET) + b"\1\xbb" + V4
    row = shown("struct sockaddr_in peer;", record)
    assert (row["peer.sin_family"], row["peer.sin_port"], row["peer.sin_addr"]) == (2, 443, "127.0.0.1")


@pytest.mark.parametrize("tag", ["__u16 family", "__u8 ip_version", "__u32 af", "__u8 ver"])
@pytest.mark.parametrize("wide", ["unsigned __int128 v6", "__u8 v6[16]", "struct in6_addr v6", "__u32 v6[4]"])
def test_a_member_beside_it_says_which_version_a_union_holds(tag, wide):
    members = f"union {{ __u32 v4; {wide}; }} daddr __attribute__((aligned(16))); {tag};"
    four, six = (4, 6) if "ver" in tag else (socket.AF_INET, socket.AF_INET6)
    garbage = V4 + b"\xde\xad\xbe\xef" * 3
    assert shown(members, garbage + bytes([four]))["daddr"] == "127.0.0.1"
    assert shown(members, V6 + bytes([six]))["daddr"] == "2001:db8::1"
    assert shown(members, V6 + bytes([1]))["daddr"] == V6.hex(), "of a family that nobody knows"


def test_of_an_unnamed_union_the_member_that_does_not_hold_is_empty():
    members = "union { __u32 saddr_v4; __u8 saddr_v6[16]; }; __u32 af;"
    row = shown(members, V4 + b"\xff" * 12 + struct.pack("=I", socket.AF_INET))
    assert (row["saddr_v4"], row["saddr_v6"]) == ("127.0.0.1", None)
    row = shown(members, V6 + struct.pack("=I", socket.AF_INET6))
    assert (row["saddr_v4"], row["saddr_v6"]) == (None, "2001:db8::1")
    row = shown("union { __u32 v4; __u8 v6[16]; }; __u32 af;", V4 + bytes(12) + struct.pack("=I", socket.AF_INET))
    assert (row["v4"], row["v6"]) == ("127.0.0.1", None)
    row = shown("union { __u32 v4; __u8 v6[16]; };", V4)
    assert (row["v4"], row["v6"]) == ("127.0.0.1", "7f00:1::"), "nobody says which: two ways to read it"


def test_a_union_with_nothing_beside_it_is_read_by_its_last_bytes():
    members = "union { __u32 v4; unsigned __int128 v6; } daddr;"
    assert shown(members, V4)["daddr"] == "127.0.0.1"
    assert shown(members, V6)["daddr"] == "2001:db8::1"


def test_an_address_whose_family_is_told_outside_of_its_struct():
    before = "struct endpoint { union { __u32 v4; __u8 v6[16]; } addr; __be16 port; };"
    members = "struct endpoint from, to; __u16 family;"
    record = (V4 + b"\xff" * 12 + b"\0\x50\0\0") * 2 + struct.pack("=H", socket.AF_INET)
    row = shown(members, record, before)
    assert (row["from.addr"], row["to.addr"], row["to.port"]) == ("127.0.0.1", "127.0.0.1", 80)


def test_other_unions_stay_bytes():
    assert shown("union { __u32 number; __u8 raw[16]; } u; __u16 family;", V6)["u"] == V6.hex()
    assert shown("union { __u32 v4; __u64 wide[3]; } u; __u16 family;", V6)["u"] == V6.hex() + 16 * "0"


def test_an_address_of_16_bytes_that_a_version_is_told_of():
    members = "unsigned __int128 addr; __u64 ts; __u8 ver;"
    assert shown(members, V4 + b"\xff" * 12 + bytes(8) + b"\4")["addr"] == "127.0.0.1"
    assert shown(members, V4 + bytes(12) + bytes(8) + b"\6")["addr"] == "7f00:1::"


def written(ctype: str, value: object) -> bytes:
    setting: Setting = settings_of(f"const volatile {ctype} wanted;")["wanted"]
    content = bytearray(16)
    write(setting, value, content)
    return bytes(content[setting.offset :])


@pytest.mark.parametrize(
    ("ctype", "given", "raw"),
    [
        ("__be32", "192.0.2.1", b"\xc0\0\2\1"), ("__be16", "443", b"\1\xbb"), ("__be64", 1, bytes(7) + b"\1"),
        ("__u32", "1", struct.pack("=I", 1)), ("__be32", "0", bytes(4)),
    ],
)  # fmt: skip
def test_settings_are_given_as_they_are_shown(ctype, given, raw):
    assert written(ctype, given)[: len(raw)] == raw


def test_what_is_no_address_is_refused():
    with pytest.raises(BadSetting, match=r"'192\.0\.2' is not an IPv4 address"):
        written("__be32", "192.0.2")
    with pytest.raises(BadSetting, match="70000 is not between 0 and 65535"):
        written("__be16", 70000)
