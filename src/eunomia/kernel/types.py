# SPDX-License-Identifier: BSD-2-Clause
"""C types, read from BTF or DWARF."""

from __future__ import annotations

from eunomia.typing import NamedTuple


class Int(NamedTuple):
    """An integer, ``_Bool`` or ``char``; size in bytes."""

    name: str
    size: int
    signed: bool = False
    boolean: bool = False
    char: bool = False


class Float(NamedTuple):
    """A floating-point number; size in bytes."""

    name: str
    size: int


class Enum(NamedTuple):
    """An enumeration: value -> name, the first name of a value wins."""

    name: str
    size: int
    signed: bool
    names: dict[int, str]


class Pointer(NamedTuple):
    """A pointer; its target matters only for globals that name an event's type."""

    size: int
    target: Type | None


class Array(NamedTuple):
    """``length`` elements; 0 for a flexible array member."""

    element: Type
    length: int


class Member(NamedTuple):
    """One member of a struct or union; ``bits`` is 0 unless it is a bit field.

    ``bit_offset`` counts from the start of the struct. ``tags`` are its ``btf_decl_tag`` strings.
    """

    name: str
    type: Type
    bit_offset: int
    bits: int
    tags: tuple[str, ...] = ()


class Struct(NamedTuple):
    """A struct or, where ``union`` is true, a union; size in bytes."""

    name: str
    size: int
    members: tuple[Member, ...]
    union: bool = False
    tags: tuple[str, ...] = ()


class Typedef(NamedTuple):
    """A name for another type, which may give a field its meaning (``errno_t``, ``ipv4_t``, ...).

    ``ours`` is whether the object was compiled with eunomia/types.h: others may use the same names differently.
    """

    name: str
    target: Type
    ours: bool = True


class Opaque(NamedTuple):
    """A type without a layout: void, a function, a forward declaration."""

    name: str


Type = Int | Float | Enum | Pointer | Array | Struct | Typedef | Opaque


def sizeof(type_: Type) -> int:
    """Return a type's size in bytes; 0 if it has none."""
    match type_:
        case Typedef():
            return sizeof(type_.target)
        case Array():
            return type_.length * sizeof(type_.element)
        case Opaque():
            return 0
        case _:
            return type_.size


def open_ended(type_: Type) -> bool:
    """Return whether a struct ends in a flexible array, so that its records may be longer than it."""
    bare = strip(type_)
    if not isinstance(bare, Struct) or bare.union or not bare.members:
        return False
    last = strip(bare.members[-1].type)
    return open_ended(last) or (isinstance(last, Array) and last.length == 0)


def strip(type_: Type) -> Type:
    """Return the type behind typedefs."""
    while isinstance(type_, Typedef):
        type_ = type_.target
    return type_
