# SPDX-License-Identifier: BSD-2-Clause
"""How two types differ in the layout and meaning of their memory: sizes, members, offsets, names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from eunomia.kernel.btf import Btf
from eunomia.kernel.schema import spell
from eunomia.kernel.types import Array, Enum, Float, Int, Member, Struct, Type, sizeof, strip
from eunomia.typing import NamedTuple

ABSENT = "not there"


class Difference(NamedTuple):
    """A member, as in ``value.peer.port``, and what it was and is."""

    member: str
    before: str
    after: str


def of_types(name: str, before: tuple[Btf, int], after: tuple[Btf, int]) -> Difference | None:
    """Return the first difference of two types, given by their BTF and their ids in it; None if they agree.

    ``name`` is what the whole is called. Names of structs and typedefs do not matter, names of members do.
    """
    (old, old_id), (new, new_id) = before, after
    if not old_id or not new_id:
        if old_id or new_id:
            return Difference(name, *(spell(b.type(i)) if i else "of no type" for b, i in (before, after)))
        return None
    one, other = old.type(old_id), new.type(new_id)
    if (found := next(_each(name, one, other), None)) is not None:
        return found
    for was, is_ in zip_longest(old.pointees(old_id), new.pointees(new_id), fillvalue="void"):
        if was != is_:
            return Difference(name, f"with a pointer to {was}", f"with a pointer to {is_}")
    return None


def _each(name: str, before: Type, after: Type) -> Iterator[Difference]:
    one, other = strip(before), strip(after)
    match one, other:
        case Struct(), Struct() if one.union == other.union:
            yield from _members(name, one, other)
        case Array(), Array():
            if one.length != other.length:
                yield Difference(name, spell(before), spell(after))
            yield from _each(f"{name}[]", one.element, other.element)
        case Enum(), Enum() if one.size == other.size:
            for number in one.names.keys() & other.names.keys():
                if one.names[number] != other.names[number]:
                    was, is_ = (f"{spell(t)} with {n} = {number}" for t, n in _named(number, before, after))
                    yield Difference(name, was, is_)
        case Int(), Int() if one[1:4] == other[1:4]:
            pass  # unsigned char and __u8, say
        case Float(), Float() if one.size == other.size:
            pass
        case _:
            if one != other:
                yield Difference(name, _sized(before), _sized(after))


def _named(number: int, *types: Type) -> Iterator[tuple[Type, str]]:
    for type_ in types:
        bare = strip(type_)
        assert isinstance(bare, Enum)
        yield type_, bare.names[number]


def _members(name: str, before: Struct, after: Struct) -> Iterator[Difference]:
    were, are = _by_name(before), _by_name(after)
    for label, member in were.items():
        if label not in are:
            yield Difference(f"{name}.{label}", _placed(member), ABSENT)
            continue
        other = are[label]
        if (member.bit_offset, member.bits) != (other.bit_offset, other.bits):
            yield Difference(f"{name}.{label}", _placed(member), _placed(other))
        yield from _each(f"{name}.{label}", member.type, other.type)
    for label, member in are.items():
        if label not in were:
            yield Difference(f"{name}.{label}", ABSENT, _placed(member))
    if before.size != after.size:
        yield Difference(name, f"{before.size} bytes", f"{after.size} bytes")


def _by_name(struct: Struct) -> dict[str, Member]:
    """Return a struct's members by name; those without one are numbered."""
    nameless = iter(range(len(struct.members)))
    return {m.name or f"({next(nameless)})": m for m in struct.members}


def _placed(member: Member) -> str:
    if member.bits:
        return f"{spell(member.type)} : {member.bits} at bit {member.bit_offset}"
    return f"{_sized(member.type)} at byte {member.bit_offset // 8}"


def _sized(type_: Type) -> str:
    """Return a type as C spells it; of structs with the size, which may be the only difference."""
    bare = strip(type_)
    return f"{spell(type_)} of {sizeof(bare)} bytes" if isinstance(bare, Struct) else spell(type_)
