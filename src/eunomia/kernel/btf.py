# SPDX-License-Identifier: BSD-2-Clause
"""Reads BTF, the type information that clang writes into an object (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence

from eunomia.kernel.errors import BadObject
from eunomia.kernel.types import (
    Array,
    Enum,
    Float,
    Int,
    Member,
    Opaque,
    Pointer,
    Struct,
    Type,
    Typedef,
    sizeof,
)
from eunomia.typing import Any

# enum btf_kind, include/uapi/linux/btf.h
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST = range(1, 11)
_RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(11, 20)

# bytes after the 12 that each type begins with, for each of its vlen entries
_ENTRY = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_EXTRA = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_TRANSPARENT = {_VOLATILE, _CONST, _RESTRICT, _TYPE_TAG}

_POINTER_SIZE = 8
_DEPTH = 64  # of nested types; deeper BTF is broken or malicious


class Btf:
    """The types of one object, decoded on first use."""

    def __init__(self, raw: bytes, ours: bool = True) -> None:
        """Index raw BTF; raises :class:`BadObject` if it is not BTF. ``ours`` is as in :class:`Typedef`."""
        self._ours = ours
        self._order = "<" if sys.byteorder == "little" else ">"
        try:
            magic, _version, _flags, header, types_at, types_size, strings_at, strings_size = struct.unpack_from(
                self._order + "HBBIIIII", raw
            )
            if magic != 0xEB9F:
                raise BadObject("its .BTF section is not BTF")
            self._types = raw[header + types_at : header + types_at + types_size]
            self._strings = raw[header + strings_at : header + strings_at + strings_size]
            self._offsets, self._kinds = [0], bytearray(1)
            self._index()
        except struct.error as error:
            raise BadObject(f"its .BTF section is broken: {error}") from None
        self._decoded: dict[int, Type] = {0: Opaque("void")}
        self._tags: dict[tuple[int, int], list[str]] | None = None
        self._variables: list[tuple[str, str, int, int, int]] | None = None

    def _index(self) -> None:
        """Note where each type starts, and its kind."""
        types, offsets, kinds = self._types, self._offsets, self._kinds
        info_at = struct.Struct(self._order + "I").unpack_from
        at, end = 0, len(types)
        while at < end:
            (info,) = info_at(types, at + 4)
            kind = info >> 24 & 0x1F
            offsets.append(at)
            kinds.append(kind)
            at += 12 + _EXTRA.get(kind, 0) + _ENTRY.get(kind, 0) * (info & 0xFFFF)

    def _unpack(self, form: str, at: int) -> tuple[Any, ...]:
        try:
            return struct.unpack_from(self._order + form, self._types, at)
        except struct.error:
            raise BadObject("its BTF is broken: it ends within a type") from None

    def _head(self, id_: int) -> tuple[str, int, int, bool, int, int]:
        """Return name, kind, vlen, kind flag, size or type, and the offset of what follows."""
        if not 0 < id_ < len(self._offsets):
            raise BadObject(f"its BTF refers to type {id_}, which does not exist")
        at = self._offsets[id_]
        name, info, size = self._unpack("III", at)
        return self._string(name), info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31), size, at + 12

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise BadObject("its BTF is broken: a name has no end")
        return self._strings[offset:end].decode("utf-8", "backslashreplace")

    def __len__(self) -> int:
        return len(self._offsets)

    def kind_ids(self, *kinds: int) -> Iterator[int]:
        """Return the ids of all types of these kinds."""
        return (id_ for id_, kind in enumerate(self._kinds) if kind in kinds)

    def tags(self, id_: int, component: int = -1) -> tuple[str, ...]:
        """Return the ``btf_decl_tag`` strings of a type, or of its member or argument ``component``."""
        if self._tags is None:
            self._tags = {}
            for tag in self.kind_ids(_DECL_TAG):
                name, _, _, _, target, at = self._head(tag)
                (index,) = self._unpack("i", at)
                self._tags.setdefault((target, index), []).append(name)
        return tuple(self._tags.get((id_, component), ()))

    def type(self, id_: int, depth: int = 0) -> Type:
        """Return a type by id; raises :class:`BadObject` if BTF is broken."""
        known = self._decoded.get(id_)
        if known is None:
            if depth > _DEPTH:
                raise BadObject("its BTF nests types too deep")
            try:
                known = self._decode(id_, depth + 1)
            except struct.error as error:
                raise BadObject(f"its BTF is broken at type {id_}: {error}") from None
            self._decoded[id_] = known
        return known

    def _decode(self, id_: int, depth: int) -> Type:
        name, kind, _, _, size, at = self._head(id_)
        if kind == _INT:
            (encoding,) = self._unpack("I", at)
            bits = encoding >> 24 & 0xF
            char = name == "char" or bool(bits & 2)  # "signed char" is __s8: a number
            return Int(name, size, signed=bool(bits & 1), boolean=bool(bits & 4), char=char)
        if kind == _PTR:
            # Pointers may form cycles; only the types that globals point to are ever needed.
            return Pointer(_POINTER_SIZE, None)
        if kind == _ARRAY:
            element, _, count = self._unpack("III", at)
            return Array(self.type(element, depth), count)
        if kind in {_STRUCT, _UNION}:
            return self._struct(id_, depth)
        if kind in {_ENUM, _ENUM64}:
            return self._enum(id_)
        if kind == _FLOAT:
            return Float(name, size)
        if kind == _TYPEDEF:
            return Typedef(name, self.type(size, depth), self._ours)
        if kind in _TRANSPARENT:
            return self.type(size, depth)
        return Opaque(name or "void")

    def _struct(self, id_: int, depth: int) -> Struct:
        name, kind, vlen, flag, size, at = self._head(id_)
        members = []
        for index in range(vlen):
            label, type_, offset = self._unpack("III", at + 12 * index)
            bits = offset >> 24 if flag else 0
            offset = offset & 0xFFFFFF if flag else offset
            member = Member(self._string(label), self.type(type_, depth), offset, bits, self.tags(id_, index))
            if offset + (bits or 8 * sizeof(member.type)) > 8 * size:
                raise BadObject(f"its BTF is broken: {name}.{member.name} is outside its struct")
            members.append(member)
        return Struct(name, size, tuple(members), kind == _UNION, self.tags(id_))

    def _enum(self, id_: int) -> Enum:
        name, kind, vlen, flag, size, at = self._head(id_)
        values = []
        for index in range(vlen):
            if kind == _ENUM:
                label, value = self._unpack("II", at + 8 * index)
            else:
                label, low, high = self._unpack("III", at + 12 * index)
                value = high << 32 | low
            values.append((value, self._string(label)))
        given = 32 if kind == _ENUM else 64
        if kind == _ENUM and size == 8 and not flag:
            # clang 14 cuts 64-bit values to 32 bits: a number is better than a wrong name
            values = []
        # clang 14 does not say whether an enumeration is signed: values with the sign bit set are then small
        # negative numbers, or else flags
        negative = [value for value, _ in values if value >> given - 1]
        signed = flag or (given == 32 and bool(negative) and min(negative) >= 0xFFFF0000)
        bits = min(given, 8 * size)
        names: dict[int, str] = {}
        for value, label in values:
            number = value & (1 << bits) - 1
            names.setdefault(number - (number >> bits - 1 << bits) if signed else number, label)
        return Enum(name, size, signed, names)

    def target(self, id_: int) -> int:
        """Return the id of the type behind pointers, typedefs and qualifiers."""
        for _ in range(_DEPTH):
            if id_ == 0:
                return 0
            _, kind, _, _, size, _ = self._head(id_)
            if kind not in _TRANSPARENT | {_PTR, _TYPEDEF}:
                return id_
            id_ = size
        raise BadObject("its BTF has a cycle of types")

    def structs(self) -> Iterator[Struct]:
        """Yield every struct that has a name and members."""
        for id_ in self.kind_ids(_STRUCT):
            name, _, vlen, *_ = self._head(id_)
            if name and vlen:
                type_ = self.type(id_)
                assert isinstance(type_, Struct)
                yield type_

    def variables(self) -> Sequence[tuple[str, str, int, int, int]]:
        """Return (section, name, offset in section, size, id of the variable) of every global."""
        if self._variables is None:
            self._variables = list(self._walk_variables())
        return self._variables

    def _walk_variables(self) -> Iterator[tuple[str, str, int, int, int]]:
        for id_ in self.kind_ids(_DATASEC):
            section, _, vlen, _, _, at = self._head(id_)
            for index in range(vlen):
                variable, offset, size = self._unpack("III", at + 12 * index)
                yield section, self._head(variable)[0], offset, size, variable

    def variable_type(self, id_: int) -> Type:
        """Return a global's type; a pointer's target is filled in."""
        _, _, _, _, type_id, _ = self._head(id_)
        type_ = self.type(type_id)
        if isinstance(type_, Pointer):
            return Pointer(type_.size, self.type(self.target(type_id)))
        return type_

    def type_of(self, id_: int) -> int:
        """Return the id of a global's type."""
        return self._head(id_)[4]

    def name(self, id_: int) -> str:
        """Return a type's name."""
        return self._head(id_)[0]

    def pointees(self, id_: int, depth: int = 0) -> Iterator[str]:
        """Yield what each pointer in a type leads to, in the order in which they stand, with its tags (``kptr``)."""
        if not id_ or depth > _DEPTH:
            return
        _, kind, vlen, _, target, at = self._head(id_)
        if kind in {_STRUCT, _UNION}:
            for index in range(vlen):
                yield from self.pointees(self._unpack("III", at + 12 * index)[1], depth + 1)
        elif kind == _ARRAY:
            yield from self.pointees(self._unpack("III", at)[0], depth + 1)
        elif kind in _TRANSPARENT or kind == _TYPEDEF:
            yield from self.pointees(target, depth + 1)
        elif kind == _PTR:
            yield self._spelled(target, depth + 1)

    def _spelled(self, id_: int, depth: int) -> str:
        if not id_ or depth > _DEPTH:
            return "void"
        name, kind, _, _, target, _ = self._head(id_)
        if kind == _PTR:
            return f"{self._spelled(target, depth + 1)} *"
        if kind in _TRANSPARENT:
            tag = f"__{name} " if kind == _TYPE_TAG else ""
            return tag + self._spelled(target, depth + 1)
        return name or "?"

    def map_member(self, map_name: str, member: str) -> int:
        """Return the id of the type that ``__type(member, ...)`` declares for a map, 0 if there is none.

        For a map of maps, it is the inner maps' type.
        """
        for section, name, _, _, variable in self.variables():
            if section == ".maps" and name == map_name:
                return self._map_member(self._head(variable)[4], member)
        return 0

    def _map_member(self, id_: int, member: str) -> int:
        _, kind, vlen, _, _, at = self._head(self.target(id_))
        if kind != _STRUCT:
            return 0
        found = {
            self._string(label): type_
            for label, type_, _ in (self._unpack("III", at + 12 * index) for index in range(vlen))
        }
        if "values" in found:
            _, kind, _, _, _, at = self._head(found["values"])
            if kind == _ARRAY:
                (element, _, _) = self._unpack("III", at)
                return self._map_member(element, member)
        return self._pointee(found[member]) if member in found else 0

    def _pointee(self, id_: int) -> int:
        _, kind, _, _, target, _ = self._head(id_)
        return target if kind == _PTR else 0
