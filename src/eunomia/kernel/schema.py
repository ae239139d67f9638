# SPDX-License-Identifier: BSD-2-Clause
"""Makes columns from C types: a stream's struct, flattened, with the meaning of each field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eunomia.columns.column import VIRTUAL
from eunomia.columns.meanings import MEANINGS
from eunomia.kernel import addresses, lengths, scale, width
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
    strip,
)
from eunomia.stream_schema import Field, Schema

# Typedefs with a meaning: those of eunomia/types.h, and the kernel's own.
_TYPEDEFS = {typedef: name for name, meaning in MEANINGS.items() for typedef in meaning.typedefs}

_INT_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOAT_CODES = {2: "e", 4: "f", 8: "d"}
_NOUNS = frozenset({"container", "pod", "process", "k8s"})  # of columns that every row can have: container.id, ...
_ENVELOPE = {*VIRTUAL, *_NOUNS, "identity"}
# Names that mean the same in all objects: the kernel's own, and our cgroup_id_t.
_EVERYBODYS = {"pid_t": 4, "uid_t": 4, "gid_t": 4, "mode_t": 4, "umode_t": 2, "cgroup_id_t": 8}


def schema(type_: Type, name: str = "", longer: bool = False) -> Schema:
    """Return the schema of a stream with records of this type, or that begin with it if they are ``longer``.

    Each member of a struct becomes a column; nested structs are flattened to dotted names. Anything else
    becomes one column, ``value``.
    """
    width.check(name, type_)
    bare = strip(type_)
    if isinstance(bare, Struct) and not bare.union and not _is_whole(type_):
        fields = list(_flatten(bare, 0, ""))
        doc = _doc(bare.tags)
        name = name or bare.name
        rest = _rest(bare)
    else:
        fields, doc, rest = [_field("value", type_, 0, ())], "", None
    if longer and rest is None:
        rest = _behind("rest", sizeof(type_), Array(Int("unsigned char", 1), 0), "bytes after the struct")
    if rest is not None:
        return Schema(name, rest.offset + rest.size, _unique([*fields, rest]), doc)
    return Schema(name, max(1, sizeof(type_)), _unique(fields), doc)


def _rest(struct: Struct) -> Field | None:
    """Return the column of a flexible array, which has the bytes of a record after its struct.

    Their place in the batch's heap is stored after the struct.
    """
    last = struct.members[-1] if struct.members else None
    if last is None:
        return None
    bare = strip(last.type)
    if isinstance(bare, Struct) and not bare.union and last.bit_offset // 8 + bare.size == struct.size:
        inner = _rest(bare)
        return inner and inner._replace(name=f"{last.name}.{inner.name}", offset=struct.size)
    if not isinstance(bare, Array) or bare.length or not sizeof(bare.element):
        return None
    return _behind(last.name, struct.size, bare, _doc(last.tags))


def _behind(name: str, size: int, array: Array, doc: str) -> Field:
    whole = _array(Field("", 0, 0, "0s"), array)
    part = whole if whole.meaning in {"text", "bytes"} else _field("element", array.element, 0, ())
    return Field(name, size, 8, "II", "tail", f"{spell(array.element)}[]", doc, parts=(part,))


def table_schema(name: str, key: Type | None, value: Type | None, key_size: int, value_size: int) -> Schema:
    """Return the schema of a map's entries: the key's columns, then the value's.

    The parts of key or value that are not structs are called ``key`` and ``value``. Records hold the key,
    then, from the next multiple of 8, the value.
    """
    width.check(name, *[type_ for type_ in (key, value) if type_ is not None])
    at = (key_size + 7) // 8 * 8
    fields = [*_part("key", key, 0, key_size), *_part("value", value, at, value_size)]
    doc = _doc(value.tags) if isinstance(value, Struct) else ""
    return Schema(name, at + (value_size + 7) // 8 * 8, _unique(fields), doc)


def _part(name: str, type_: Type | None, at: int, size: int) -> list[Field]:
    if type_ is None:
        if size in _INT_CODES:
            return [Field(name, at, size, _INT_CODES[size].upper(), ctype=f"{size} bytes")]
        return [Field(name, at, size, f"{size}s", "bytes", ctype=f"{size} bytes")]
    bare = strip(type_)
    if isinstance(bare, Struct) and not bare.union and bare.members and not _is_whole(type_):
        return list(_flatten(bare, at, ""))
    return [_field(name, type_, at, ())]


def unknown_schema(name: str) -> Schema:
    """Return the schema of records of an unknown struct: their size, and their bytes in hex."""
    return Schema(
        name,
        12,
        [
            Field("size", 0, 4, "I", ctype="__u32", doc="bytes in the record"),
            Field("data", 4, 8, "II", "blob", ctype="bytes", doc="the record, of which the struct is not known"),
        ],
    )


def _unique(fields: list[Field]) -> list[Field]:
    """Rename fields that collide with the columns of every row, or with other fields, and invalid names."""
    fields = lengths.resolved(addresses.resolved(fields))
    seen: dict[str, Field] = {}
    renamed: dict[str, str] = {}
    for field in fields:
        name = "".join([c if c.isalnum() or c in "_." else "_" for c in field.name]) or "_"
        noun, dot, rest = name.partition(".")
        if dot and noun in _NOUNS:
            name = f"{noun}_.{rest}"
        elif name in _ENVELOPE and field.meaning != "time":
            name += "_"
        while name in seen:
            name += "_"
        if field.name:
            renamed.setdefault(field.name, name)
        seen[name] = field._replace(name=name)
    fields = [f._replace(length=renamed.get(f.length, ""), count_in=renamed.get(f.count_in, "")) for f in seen.values()]
    return [_chosen(f, seen.get(renamed.get(f.tag, ""))) if f.tag else f for f in fields]


def _chosen(union: Field, tag: Field | None) -> Field:
    """Return a tagged union whose members know their tag's numbers; untagged if there is no such tag."""
    if tag is None or (tag.bits is None and (len(tag.code) != 1 or tag.code in "efd")):  # not a whole number
        return union._replace(tag="")
    numbers = {name: value for value, name in (tag.names or {}).items()}
    parts = tuple(part._replace(tag=_literal(part.tag, numbers)) for part in union.parts)
    return union._replace(tag=tag.name, parts=parts)


def _literal(word: str, numbers: Mapping[str, int]) -> str:
    """Return the number that a C literal or an enumeration's name stands for, as text; empty for none."""
    if word in numbers:
        return str(numbers[word])
    if len(word) == 3 and word[0] == word[2] == "'":
        return str(ord(word[1]))
    word = word.strip("() ").rstrip("uUlL")
    octal = word.removeprefix("-").startswith("0") and word.lstrip("-0").isdigit()
    try:
        return str(int(word, 8 if octal else 0))
    except ValueError:
        return ""


def _flatten(struct: Struct, base: int, prefix: str) -> Iterator[Field]:
    for member in struct.members:
        at = base + member.bit_offset // 8
        bare = strip(member.type)
        meant = _is_whole(member.type)
        if isinstance(bare, Struct) and not meant and (not bare.union or not member.name):
            # Members of an unnamed union become columns: each is one view of the same bytes.
            if bare.union and _tag(bare.tags, "selected_by:"):
                yield _field(prefix + "value", member.type, at, bare.tags)
            else:
                yield from _flatten(bare, at, f"{prefix}{member.name}." if member.name else prefix)
        elif member.name and (sizeof(member.type) or isinstance(bare, Array)):
            if isinstance(bare, Array) and bare.length == 0:
                continue  # a flexible array: the size of what follows is not known here
            yield _bits(prefix, member, base, struct.size) if member.bits else _member(prefix, member, at)


def _member(prefix: str, member: Member, at: int) -> Field:
    field = _field(prefix + member.name, member.type, at, member.tags)
    bare = strip(member.type)
    tags = (*member.tags, *bare.tags) if isinstance(bare, Struct) else member.tags
    tag = _tag(tags, "selected_by:")
    return field._replace(tag=prefix + tag) if tag else field


def _bits(prefix: str, member: Member, base: int, size: int) -> Field:
    """Return a bit field as a column of its own: its storage unit, and its position in it."""
    unit = sizeof(member.type)
    first, shift = divmod(member.bit_offset, 8 * unit)
    start = first * unit
    if shift + member.bits > 8 * unit or start + unit > size:  # packed: the bytes that it touches
        start, shift = divmod(member.bit_offset, 8)
        unit = (shift + member.bits + 7) // 8
    whole = _field(prefix + member.name, member.type, base + start, member.tags)
    code = whole.code.replace("?", "B") if unit == whole.size else f"{unit}s"
    return whole._replace(size=unit, code=code, bits=(shift, member.bits), signed_bits=whole.signed)


def _field(name: str, type_: Type, at: int, tags: tuple[str, ...]) -> Field:
    bare = strip(type_)
    size = sizeof(type_)
    meaning = _meaning(type_) or addresses.meaning(name, type_)
    field = Field(name, at, size, f"{size}s", ctype=spell(type_), doc=_doc(tags), hidden="hidden" in tags)
    field = field._replace(none=_number(_tag(tags, "none:")), coalesced="coalesced" in tags)
    if meaning and MEANINGS[meaning].size in {0, size}:
        code = MEANINGS[meaning].code
        if isinstance(bare, Int) and (not code or code == "I"):
            code = _code(bare)
        if code:
            return field._replace(code=field.code if code == "s" else code, meaning=meaning)
    match bare:
        case Int(boolean=True):
            return field._replace(code="?" if size == 1 else _code(bare), meaning="bool")
        case Int() if size in _INT_CODES or size == 16:
            wide = size == 16
            return field._replace(code=_code(bare), meaning="wide" * wide, signed_bits=wide and bare.signed)
        case Float() if size in _FLOAT_CODES:
            return field._replace(code=_FLOAT_CODES[size], meaning="float")
        case Enum() if size in _INT_CODES:
            code = _INT_CODES[size] if bare.signed else _INT_CODES[size].upper()
            return field._replace(code=code, meaning="enum", names=bare.names)
        case Pointer():
            return field._replace(code="Q", meaning="pointer")
        case Array():
            return scale.declared(_array(field, bare), bare, tags)
        case Struct(union=True):
            parts = tuple(
                _field(m.name, m.type, 0, m.tags)._replace(tag=_tag(m.tags, "selected_for:")) for m in bare.members
            )
            return field._replace(meaning="union", parts=parts, tag=_tag(bare.tags, "selected_by:"))
        case Struct():
            return field._replace(meaning="struct", parts=tuple(_flatten(bare, 0, "")))
    return field._replace(meaning="bytes")


def _array(field: Field, array: Array) -> Field:
    element = strip(array.element)
    plain = _field("element", array.element, 0, ())
    if isinstance(element, Int) and element.char and _meaning(array.element) == "":
        return field._replace(meaning="text")
    if isinstance(element, Int) and element.size == 1 and not element.boolean and not element.signed:
        return field._replace(meaning="bytes")
    if isinstance(element, Int | Float) and plain.meaning in {"", "float"} and plain.code[-1] != "s":
        return field._replace(code=f"{array.length}{plain.code}", meaning="array")
    return field._replace(meaning="array", parts=(plain,))


def _code(type_: Int) -> str:
    code = _INT_CODES.get(type_.size)
    if code is None:
        return f"{type_.size}s"
    return code if type_.signed else code.upper()


def _meaning(type_: Type) -> str:
    """Return the meaning of the outermost typedef that has one, else empty."""
    while isinstance(type_, Typedef):
        if type_.name in _TYPEDEFS and (type_.ours or _is_everybodys(type_)):
            return _TYPEDEFS[type_.name]
        type_ = type_.target
    return addresses.STRUCTS.get(type_.name.partition("___")[0], "") if isinstance(type_, Struct) else ""


def _is_whole(type_: Type) -> bool:
    """Whether a type is one value, even if it is a struct: its meaning has a size of its own."""
    meaning = _meaning(type_)
    return bool(meaning) and bool(MEANINGS[meaning].size)


def _is_everybodys(type_: Typedef) -> bool:
    return _EVERYBODYS.get(type_.name) == sizeof(type_) and isinstance(strip(type_), Int)


def _number(text: str) -> int | None:
    """Return a number as C writes it; None for anything else, such as a macro's name."""
    try:
        return int(text.strip("() "), 0)
    except ValueError:
        return None


def _tag(tags: tuple[str, ...], prefix: str) -> str:
    return next((t[len(prefix) :] for t in tags if t.startswith(prefix)), "")


def _doc(tags: tuple[str, ...]) -> str:
    return _tag(tags, "doc:")


def spell(type_: Type) -> str:
    """Return a type approximately as C spells it."""
    match type_:
        case Typedef():
            return type_.name
        case Array():
            element: Type = type_.element
            counts = f"[{type_.length}]"
            while isinstance(element, Array):
                counts = f"{counts}[{element.length}]"
                element = element.element
            return spell(element) + counts
        case Pointer(target=target):
            return f"{spell(target) if target is not None else 'void'} *"
        case Struct(union=True):
            return f"union {type_.name}".rstrip()
        case Struct():
            return f"struct {type_.name}".rstrip()
        case Enum():
            return f"enum {type_.name}".rstrip()
        case Opaque() | Int() | Float():
            return type_.name
    return "?"
