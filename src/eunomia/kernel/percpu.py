# SPDX-License-Identifier: BSD-2-Clause
"""Merges the values of all CPUs into one: plans which numbers are summed, and which are one CPU's.

The plan is made once; ``native/tables.c`` applies it to each entry.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Mapping, Sequence

from eunomia.kernel.errors import BadSetting
from eunomia.stream_schema import Field, Schema
from eunomia.typing import NamedTuple

SUM, MAX, MIN, ONE = "sum", "max", "min", "one"
RULES = (SUM, MAX, MIN, ONE)

SAID = {
    SUM: "summed over CPUs",
    MAX: "greatest of all CPUs",
    MIN: "least of all CPUs, zeros left out",
    ONE: "one CPU's",
    "members": "each member by its name",
}

_ORDER = "<" if sys.byteorder == "little" else ">"
_NUMBERS = frozenset({"", "duration", "float", "wide"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_MAX_WORDS = frozenset("max maximum peak highest greatest largest biggest worst longest slowest hwm".split())
_MIN_WORDS = frozenset("min minimum lowest least smallest shortest fastest best".split())
_LAST_WORDS = frozenset("last latest newest recent updated seen modified".split())
_FIRST_WORDS = frozenset("first earliest oldest start started begin began since created birth born".split())
_TIME_WORDS = frozenset("ts tstamp timestamp stamp ktime jiffies deadline expires expiry when at".split())
_UNITS = frozenset("ns us ms nsec usec msec sec secs seconds".split())
_WHEN_WORDS = _TIME_WORDS | _UNITS | frozenset("time seen access used update change".split())
_COUNTING = frozenset("nr num n no total count sum cnt".split())  # in front of what is counted
_COUNTS = frozenset(
    "count counts cnt counter counters num total totals sum hits hit misses miss packets pkts packet pkt bytes "
    "byte drops  drop dropped errors events calls samples switches faults allocs frees reads writes ops requests "
    "reqs retries  retrans timeouts failures fails passed denied allowed accepted rejected rx tx n slots hist "
    "histogram buckets ios  time runtime duration latency delta elapsed cycles instructions".split()
)
_IDS = frozenset(
    "id ids pid pids tgid tid tids ppid uid uids gid gids euid egid suid sid loginuid cgid cgroup cgrp ino inode "
    "inum dev  device ifindex ifidx ifid index idx cpu cpuid core node numa socket major minor port ports sport "
    "dport lport rport  addr addrs address addresses saddr daddr laddr raddr ip ips ip4 ip6 ipv ipv4 ipv6 mac "
    "proto protocol ethertype family  af domain netns mntns vlan vni mark tos dscp queue qid rxq txq fd state "
    "states status flag flags mode type types kind  class prio priority nice policy version ver magic cookie "
    "token hash key keys tag seq sequence gen generation epoch ptr  pointer fn func handler sk sock ret retval rc "
    "errno err error code reason comm name names level limit threshold quota  offset off pos prev next head tail "
    "cur current avg average mean ewma rtt srtt mss cwnd ssthresh window ttl mtu speed  freq khz mhz percent pct "
    "ratio load enabled active init initialized valid owner parent target source src dst origin  sig signal "
    "syscall action verdict cap capability uuid digest path file filename text str msg data buf buffer payload "
    "raw pad padding reserved opaque temp temperature".split()
)
_NAMESPACES = frozenset("net mnt pid ipc uts user cgroup".split())


class Part(NamedTuple):
    """Adjacent numbers or bytes in each CPU's value, and how they are merged."""

    rule: str
    at: int  # in a CPU's value
    to: int  # in the record
    size: int  # of each, in a CPU's value
    wide: int  # of each, in the record
    many: int
    signed: bool
    real: bool
    bits: tuple[int, int] | None


class Plan(NamedTuple):
    """How a map's per-CPU values become records: their schema, and the source of each part."""

    schema: Schema
    size: int  # of a record's value
    parts: tuple[Part, ...]
    rules: Mapping[str, str]  # by column
    clock: Part | None  # by which the latest CPU is found


def rule_of(field: Field, map_name: str) -> str:
    """Return how the CPUs' values of a column are merged, by its meaning and its name."""
    if field.scale is not None:
        return SUM
    if field.meaning == "time":
        return MIN if set(_words(field.name)) & _FIRST_WORDS else MAX
    if field.meaning not in _NUMBERS | {"bytes", "array"}:
        return ONE
    ctype = field.ctype.partition("[")[0]
    if re.fullmatch(r"(__)?(be|le)(16|32|64)|__w?sum(16)?|.*(pid|uid|gid|dev|ino|id|flags?|addr)_t", ctype):
        return ONE
    name = map_name if field.name == "value" else field.name
    for part in reversed(name.split(".")):
        found = _by_words(_words(part), field.meaning == "bytes")
        if found:
            return found
    return SUM


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _by_words(words: Sequence[str], are_bytes: bool) -> str:
    """Return the rule that a name suggests, empty if none. The last known word decides."""
    have = set(words)
    for telling, rule in ((_MAX_WORDS, MAX), (_MIN_WORDS, MIN)):
        if have & telling:
            return rule
    if have & _FIRST_WORDS and have <= _FIRST_WORDS | _WHEN_WORDS:
        return MIN
    if have & _LAST_WORDS:
        return MAX if have <= _LAST_WORDS | _WHEN_WORDS else ONE
    if len(words) > 1 and (words[0] in _COUNTING or (words[-2] == "cpu" and words[-1] in _UNITS)):
        return SUM
    if len(words) > 1 and words[-1] == "ns" and words[-2] in _NAMESPACES:
        return ONE
    return _by_noun(words, are_bytes)


def _by_noun(words: Sequence[str], are_bytes: bool) -> str:
    for separator in ("by", "per"):
        if separator in words[1:]:
            words = words[: words.index(separator, 1)]
    for word in reversed(words):
        if word in _TIME_WORDS:
            return MAX
        if word in _IDS or (are_bytes and word in {"byte", "bytes"}):
            return ONE
        if word in _COUNTS or (len(word) > 3 and re.search(r"[^siu]s$", word)):
            return SUM
    return ONE if words in (["nr"], ["no"]) else ""


def plan(schema: Schema, base: int, map_name: str, chosen: Mapping[str, str]) -> Plan:
    """Return how to merge; ``base`` is the offset of values in a record, ``chosen`` the rules that the user gives.

    Numbers that are summed get 8 bytes each: the sum may not fit into the size of one.
    """
    maker = _Maker(base, map_name)
    fields, rules = [], {}
    sizes = {name for f in schema.fields.values() for name in (f.length, f.count_in, f.tag)}  # of one CPU's values
    for field in schema.fields.values():
        if field.offset < base:
            fields.append(field)
            continue
        rule = chosen.get(field.name) or (ONE if field.name in sizes else rule_of(field, map_name))
        fields.append(maker.column(field, rule, field.name in chosen))
        rules[field.name] = "members" if _has_members(field) and field.name not in chosen else rule
    size = (maker.end + 7) // 8 * 8
    merged = Schema(schema.name, base + size, fields, schema.doc)
    clocks = [p for p in maker.parts if p.rule == MAX and p.size == 8 and p.many == 1 and not p.real]
    named = {f.offset - base: f for f in fields}
    clocks = [p for p in clocks if _is_clock(named.get(p.to))]
    return Plan(merged, size, tuple(maker.parts), rules, clocks[0] if clocks else None)


def _has_members(field: Field) -> bool:
    while field.meaning == "array" and field.parts:
        (field,) = field.parts
    return field.meaning == "struct"


def _is_clock(field: Field | None) -> bool:
    if field is None:
        return False
    return field.meaning == "time" or bool(set(_words(field.name)) & (_LAST_WORDS | _TIME_WORDS))


class _Maker:
    """Lays out records, one column after another; nested members are packed."""

    def __init__(self, base: int, map_name: str) -> None:
        self.base = base
        self.map_name = map_name
        self.end = 0
        self.parts: list[Part] = []

    def column(self, field: Field, rule: str, given: bool) -> Field:
        """Return a column of the record, and note its source."""
        self.end = (self.end + 7) // 8 * 8
        to = self.base + self.end
        return self.made(field, field.offset - self.base, rule, given)._replace(offset=to)

    def made(self, field: Field, at: int, rule: str, given: bool) -> Field:
        """Return a column or a part of one, at the end of the record so far."""
        if field.parts and field.meaning == "array":
            return self.array(field, at, rule, given)
        if field.parts and field.meaning == "struct":
            return self.struct(field, at, rule, given)
        if not _is_number(field, given) or (rule == ONE and field.bits is None):
            return self.put(field, Part(ONE, at, self.end, field.size, field.size, 1, False, False, None))
        if field.bits is not None:
            code = "q" if field.signed else "Q"
            part = Part(rule, at, self.end, field.size, 8, 1, field.signed, False, field.bits)
            return self.put(field._replace(size=8, code=code, bits=None, signed_bits=False), part)
        count, size, signed, real = _elements(field)
        if field.meaning == "bytes":
            field = field._replace(meaning="array", code=f"{count}B")  # numbers to be summed
        wide = size
        if rule == SUM and not real and size < 8:
            wide, code = 8, "q" if signed else "Q"
            code = f"{count}{code}" if field.meaning == "array" else code
            field = field._replace(size=8 * count, code=code)
        return self.put(field, Part(rule, at, self.end, size, wide, count, signed, real, None))

    def put(self, field: Field, part: Part) -> Field:
        self.parts.append(part)
        self.end += part.wide * part.many
        return field

    def array(self, field: Field, at: int, rule: str, given: bool) -> Field:
        """Return an array of structs, of arrays, or of values that are not plain numbers."""
        (one,) = field.parts
        start, shape = self.end, one
        for place in range(at, at + field.size, one.size) if one.size else ():
            if one.meaning == "struct":
                shape = self.struct(one._replace(name=field.name), place, rule, given)._replace(name=one.name)
            else:
                own = rule if given or one.meaning in _NUMBERS | {"array", "bytes"} else ONE
                shape = self.made(one, place, own, given)
        size = self.end - start
        return field._replace(size=size, code=f"{size}s", parts=(shape,))

    def struct(self, field: Field, at: int, rule: str, given: bool) -> Field:
        """Return a struct that is shown as one value: each member is merged by its own name."""
        start, parts = self.end, []
        for part in field.parts:
            begin = self.end - start
            own = rule if given else rule_of(part._replace(name=f"{field.name}.{part.name}"), self.map_name)
            parts.append(self.made(part, at + part.offset, own, given)._replace(offset=begin))
        size = self.end - start
        return field._replace(size=size, code=f"{size}s", parts=tuple(parts))


def _is_number(field: Field, given: bool = False) -> bool:
    """Return whether a column is one or more numbers that can be compared and summed."""
    if field.bits is not None:
        return field.size <= 16 and field.bits[1] <= 64
    if field.meaning in {"bytes", "wide"}:
        return field.size > 0
    return field.code[-1] not in "s?e" and (given or field.meaning in _NUMBERS | {"array", "time"})


def _elements(field: Field) -> tuple[int, int, bool, bool]:
    """Return how many numbers a column has, their size, and whether they are signed, or not integers."""
    if field.meaning == "bytes":
        return field.size, 1, False, False
    if field.meaning == "wide":
        return 1, 16, field.signed, False
    code = field.code[-1]
    real = code in "efd"
    return int(field.code[:-1] or 1), struct.calcsize(_ORDER + code), code.islower() and not real, real


def check(schema: Schema, base: int, chosen: Mapping[str, str]) -> None:
    """Raise :class:`BadSetting` if the rules that the user gives cannot be applied."""
    values = {f.name: f for f in schema.fields.values() if f.offset >= base}
    for name, rule in chosen.items():
        field = values.get(name)
        if field is None:
            raise BadSetting(f"{schema.name} has no value called {name!r}: there are {', '.join(values)}")
        if rule not in RULES:
            raise BadSetting(f"{schema.name}.{name}: {rule!r} is not one of {', '.join(RULES)}")
        inner = field
        while inner.parts and inner.meaning == "array":
            (inner,) = inner.parts
        if rule != ONE and inner.meaning != "struct" and not _is_number(inner, True):
            raise BadSetting(f"{schema.name}.{name} is not a number: the only rule is {ONE}")


# A row for each CPU


def rows_schema(schema: Schema, base: int) -> Schema:
    """Return the schema of entries with a row for each CPU: ``cpu`` is after the key's columns."""
    keys = [f for f in schema.fields.values() if f.offset < base]
    values = [f for f in schema.fields.values() if f.offset >= base]
    cpu = Field("cpu", schema.size, 8, "Q", ctype="__u64", doc="the CPU whose value this is")
    taken = {f.name for f in [*keys, *values]}

    def renamed(field: Field) -> Field:
        name = field.name + "_" if field.name == "cpu" else field.name
        while name != field.name and name in taken:
            name += "_"
        return field._replace(name=name, tag="cpu_" if field.tag == "cpu" else field.tag)

    fields = [*map(renamed, keys), cpu, *map(renamed, values)]
    return Schema(schema.name, schema.size + 8, fields, schema.doc)
