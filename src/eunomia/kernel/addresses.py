# SPDX-License-Identifier: BSD-2-Clause
"""Recognizes network addresses in structs of foreign objects: by their types, or by size and name together."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.kernel.types import Array, Int, Type, Typedef, sizeof, strip
from eunomia.stream_schema import Field

STRUCTS = {"in_addr": "ipv4", "in6_addr": "ipv6"}  # include/uapi/linux/in.h, in6.h

_BIG_ENDIAN = {"__be16": 2, "__be32": 4, "__be64": 8, "be16": 2, "be32": 4, "be64": 8}
_TYPEDEFS = {"in_addr_t": "ipv4", "in_port_t": "port"}  # netinet/in.h

# Names of a __be32 that is not an address.
_NO_ADDRESS = frozenset(
    "seq ack spi flow flowinfo flowlabel label id xid vni teid len size port ports key cookie mark csum magic proto "
    "version flags time ts count num"
    .split()
)  # fmt: skip

# An address's name has a word of the first set, or 4 or 6 after one of the second, and otherwise only words of
# these two and the third.
_ADDRESS = frozenset("addr address addrs saddr daddr laddr raddr ip ipaddr sip dip srcip dstip".split())
_VERSIONED = frozenset({"v", "ipv", "in"})  # before 4 or 6
_SIDE = frozenset(
    "s d l r src dst source dest destination local remote peer client server orig reply from to bind listen rcv"
    .split()
)  # fmt: skip
_ALONE_UNSURE = frozenset({"addr", "address", "addrs", "ip"})  # as a number of 32 bits
_MAC = frozenset("mac smac dmac srcmac dstmac macaddr hwaddr lladdr eth ether".split())
_MAC_NAMES = frozenset({"h_source", "h_dest"})  # struct ethhdr

_TAGS = (
    "family", "af", "sa_family", "ss_family", "sin_family", "addr_family", "address_family", "ip_family", "ipfamily",
    "ip_version", "ipversion", "ip_ver", "ipver", "version", "ver", "ipv",
)  # fmt: skip
_V4 = ("2", "4")  # AF_INET, or the version itself: no family of the kernel has these two swapped
_V6 = ("10", "6")


def meaning(name: str, type_: Type) -> str:
    """Return the meaning of a member that is an address, a port or in network byte order; empty for others."""
    bare, words = strip(type_), _words(name)
    size = sizeof(type_)
    if isinstance(bare, Int):
        while isinstance(type_, Typedef):
            if type_.name in _TYPEDEFS:
                return _TYPEDEFS[type_.name]
            if _BIG_ENDIAN.get(type_.name) == size:
                return _ordered(words, size)
            type_ = type_.target
    version = _version(words)
    if version is None:
        return "mac" if size == 6 and _is_bytes(bare) and _is_mac(name, words) else ""
    if size == 16 and _is_wide(bare):
        return {4: "", 6: "ipv6"}.get(version, "ip16")
    if isinstance(bare, Int) and size == 4 and not bare.signed and not bare.boolean:
        # `addr` may be a memory address, `ip` an instruction pointer, and `v4` beside `v6` a count of packets
        unsure = _ALONE_UNSURE if version == 0 else _VERSIONED | {"ip", "4"}
        return "ipv4" if version != 6 and not unsure.issuperset(words) else ""
    return ""


def _ordered(words: Sequence[str], size: int) -> str:
    if size == 4 and not _NO_ADDRESS.intersection(words):
        return "ipv4"
    return "port" if size == 2 and any(w.endswith(("port", "ports")) for w in words) else "be"


def _words(name: str) -> list[str]:
    """Return the words of a member's own name: ``src``, ``ip``, ``4`` of ``key.src_ip4``."""
    words: list[str] = []
    before = ""
    for c in name.rpartition(".")[2].lower():
        now = "letter" if "a" <= c <= "z" else "digit" if "0" <= c <= "9" else ""
        if now and now == before:
            words[-1] += c
        elif now:
            words.append(c)
        before = now
    return words


def _version(words: Sequence[str]) -> int | None:
    """Return the version of IP that a name refers to, 0 for any; None if it is not an address's name."""
    said = set(words)
    version = 6 if "6" in said else 4 if "4" in said else 0
    named = said & _ADDRESS or (version and said & _VERSIONED)
    return version if named and not said - _ADDRESS - _SIDE - _VERSIONED - {"4", "6"} else None


def _is_mac(name: str, words: Sequence[str]) -> bool:
    return bool(_MAC.intersection(words)) or name.rpartition(".")[2] in _MAC_NAMES


def _is_bytes(bare: Type) -> bool:
    element = strip(bare.element) if isinstance(bare, Array) else None
    return isinstance(element, Int) and element.size == 1 and not element.char and not element.boolean


def _is_wide(bare: Type) -> bool:
    """Return whether 16 bytes are numbers, as in addresses: char[16] is text."""
    if isinstance(bare, Int):
        return True
    element = strip(bare.element) if isinstance(bare, Array) else None
    return isinstance(element, Int) and not element.char and not element.boolean


def resolved(fields: Sequence[Field]) -> list[Field]:
    """Give addresses that may be of either version the member that says which, such as ``family``."""
    by_name = {f.name: f for f in fields}
    return [_resolve(field, fields, _tag(field.name, by_name)) for field in fields]


def _resolve(field: Field, fields: Sequence[Field], tag: str) -> Field:
    if field.tag:
        return field
    if field.meaning == "union" and field.size == 16 and _both(field.parts):
        return _tagged(field, tag, 4, 6) if tag else field._replace(meaning="ip16", parts=())
    if field.meaning == "ip16" and tag:
        return _tagged(field, tag, 4, 6)
    same = [f for f in fields if f.offset == field.offset and f is not field]
    if _is_v4(field) and any(f.meaning == "ipv6" for f in same):
        return _tagged(field, tag, 4) if tag else field._replace(code="I", meaning="ipv4")
    if field.meaning == "ipv6" and tag and any(map(_is_v4, same)):
        return _tagged(field, tag, 6)
    return field


def _is_v4(field: Field) -> bool:
    """Return whether a member of a union with an IPv6 address is an IPv4 address."""
    words = _words(field.name)
    number = field.meaning == "" and field.size == 4 and field.bits is None
    return field.meaning == "ipv4" or (number and (_version(words) == 4 or words == ["ip"]))


def _both(parts: Sequence[Field]) -> bool:
    """Return whether a union's members are an IPv4 and an IPv6 address, or 16 bytes for either."""
    six = any(p.meaning in {"ipv6", "ip16"} for p in parts)
    return six and any(map(_is_v4, parts)) and all(p.size in {4, 16} for p in parts)


def _tagged(field: Field, tag: str, *versions: int) -> Field:
    four = Field("v4", 0, 4, "I", "ipv4")
    six = Field("v6", 0, 16, "16s", "ipv6")
    absent = Field("", 0, 0, "0s", "absent")
    parts = [(four if 4 in versions else absent)._replace(tag=t) for t in _V4]
    parts += [(six if 6 in versions else absent)._replace(tag=t) for t in _V6]
    return field._replace(code=f"{field.size}s", meaning="union", parts=tuple(parts), tag=tag)


def _tag(name: str, fields: dict[str, Field]) -> str:
    """Return the member with the family of an address: in the same struct, or in an enclosing one."""
    prefix = name
    while prefix:
        prefix = prefix.rpartition(".")[0]
        for tag in _TAGS:
            path = f"{prefix}.{tag}" if prefix else tag
            found = fields.get(path)
            if found is not None and found.meaning in {"", "enum"} and (found.bits or found.code in _NUMBER):
                return path
    return ""


_NUMBER = frozenset("bBhHiIqQ")
