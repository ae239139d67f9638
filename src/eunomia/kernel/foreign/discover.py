# SPDX-License-Identifier: BSD-2-Clause
"""Finds the struct that a foreign ring or perf buffer carries, if its map does not declare it.

Evidence, in this order: the user's option; a global of pointer type to the struct, as bpf2go and
libbpf tutorials have; the size that the code sends, matched against the structs of BTF and DWARF,
first of all those of the sending function's variables.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from eunomia.kernel.elf import section
from eunomia.kernel.errors import BadObject, BadSetting
from eunomia.kernel.foreign import bytecode
from eunomia.kernel.foreign.bytecode import MapUse, Output, Uses
from eunomia.kernel.foreign.core_types import kernel_structs
from eunomia.kernel.foreign.dwarf import Dwarf, Local, named
from eunomia.kernel.schema import schema as shape
from eunomia.kernel.types import Array, Enum, Float, Int, Pointer, Struct, Type, Typedef, open_ended, sizeof, strip
from eunomia.stream_schema import Field
from eunomia.typing import NamedTuple, Protocol

_KIND_STRUCT, _KIND_ENUM, _KIND_TYPEDEF, _KIND_ENUM64 = 4, 6, 8, 19  # enum btf_kind

# Structs that the kernel passes to programs: programs never send them.
_CONTEXT = re.compile(
    r"trace_event_raw_.*|trace_entry|pt_regs|user_pt_regs|user_regs_struct|__sk_buff|xdp_md|(__)?bpf_.*|"
    r"syscall_trace_(enter|exit)|sk_(msg|reuseport)_md|task_struct|.*(_|^)(ctx|context)"
)
_NUMBERS = frozenset("bBhHiIqQ")  # codes of whole numbers
_EVENTLIKE = re.compile(r"event|evt|record|msg|message|sample|data|info|log|entry|payload|packet")
_ARGUMENTS = re.compile(r"_args?(_t)?$")  # tracepoints' own, by custom
_COMMON = {"event", "evt", "rb", "ring", "ringbuf", "perf", "buf", "buffer", "map", "t", "output"}
_SCALARS = {
    **{f"{p}{8 * n}": Int(f"{p}{8 * n}", n) for p in ("u", "__u", "uint") for n in (1, 2, 4, 8)},
    **{f"{p}{8 * n}": Int(f"{p}{8 * n}", n, signed=True) for p in ("s", "__s", "int") for n in (1, 2, 4, 8)},
    "char": Int("char", 1, char=True), "int": Int("int", 4, signed=True), "unsigned": Int("unsigned int", 4),
    "long": Int("long", 8, signed=True), "unsigned long": Int("unsigned long", 8),
    "long long": Int("long long", 8, signed=True), "unsigned long long": Int("unsigned long long", 8),
    **{f"uint{8 * n}_t": Int(f"uint{8 * n}_t", n) for n in (1, 2, 4, 8)},
    **{f"int{8 * n}_t": Int(f"int{8 * n}_t", n, signed=True) for n in (1, 2, 4, 8)},
}  # fmt: skip


class Btf(Protocol):
    """The needed part of an object's BTF; see :class:`eunomia.kernel.btf.Btf`."""

    def kind_ids(self, *kinds: int) -> Iterator[int]:
        """Yield the ids of all types of these kinds."""

    def type(self, id_: int) -> Type:
        """Return a type by id."""

    def variables(self) -> Iterable[tuple[str, str, int, int, int]]:
        """Yield (section, name, offset, size, id) of every global."""

    def variable_type(self, id_: int) -> Type:
        """Return a global's type, a pointer's target filled in."""

    def map_member(self, map_name: str, member: str) -> int:
        """Return the id of the type of a map's ``key`` or ``value``, 0 if it has none."""


class Tag(NamedTuple):
    """A number in each record that distinguishes structs of one length: its place, and its values' structs."""

    field: str
    offset: int
    size: int
    types: Mapping[int, Type]


class BufferContents(NamedTuple):
    """The types of a buffer's records.

    If records have several lengths, ``by_size`` has their types, by the length with which they
    arrive (:func:`arriving`); for those of the same length ``tags`` decide, by that length or, for all, by 0. ``type``
    is that of all others, None if unknown; ``hint`` then says what to add. ``size`` is that of all
    records in bytes, None if they differ or it is not known.
    """

    type: Type | None
    how: str
    size: int | None = None
    hint: str = ""
    by_size: Mapping[int, Type] = {}
    candidates: tuple[str, ...] = ()
    tags: Mapping[int, Tag] = {}


class _Sent(NamedTuple):
    """One output, and the types that it may send."""

    output: Output
    types: list[Type]
    how: str


class _Guess(NamedTuple):
    type: Type
    how: str
    score: int


def event_types(
    data: bytes,
    buffers: Sequence[str],
    btf: Btf,
    overrides: Mapping[str, str],
    uses: Mapping[str, MapUse] | None = None,
    *,
    padded: Container[str] = (),
) -> dict[str, BufferContents]:
    """Return the types that each of these buffers carries.

    ``buffers`` are those without ``__type(value, ...)`` in their map, and those in ``overrides`` (map to
    type name, or ``FIELD:VALUE=TYPE``, several by comma); ``padded`` are perf buffers among them.
    Raises :exc:`BadSetting` if a map or type of ``overrides`` does not exist.
    """
    for name in overrides:
        if name not in buffers:
            known = ", ".join(buffers) or "none"
            similar = _similar(name, buffers)
            raise BadSetting(f"--event {name}: no such ring or perf buffer{similar} (there are: {known})")
    if not buffers:
        return {}
    try:
        search = _Search(data, btf, uses, padded)
        return {n: search.said(n, overrides[n]) if n in overrides else search.buffer(n) for n in buffers}
    except struct.error as error:
        raise BadObject(f"its BTF is broken: {error}") from error


class _Search:
    def __init__(self, data: bytes, btf: Btf, uses: Mapping[str, MapUse] | None, padded: Container[str] = ()) -> None:
        self.btf = btf
        self.padded = padded
        self.uses = uses if uses is not None else bytecode.uses(data)
        self.uses_cut = isinstance(self.uses, Uses) and self.uses.cut
        self.dwarf = Dwarf(data)
        self.kernel = kernel_structs(section(data, ".BTF"), section(data, ".BTF.ext"))
        self.globals: list[tuple[str, Type]] = []
        self.map_types: set[str] = set()
        for place, name, _, _, id_ in btf.variables():
            if place == ".maps":
                for member in ("key", "value"):
                    self.map_types.add(_label(self.map_type(name, member)))
            else:
                self.globals.append((name, btf.variable_type(id_)))
        self.map_types.discard("")
        self.in_btf: dict[str, Type] = {}
        self.in_dwarf: dict[str, Type] = {}
        self._collect()
        self.pointers: list[tuple[str, Type]] = []
        for name, type_ in self.globals:
            if isinstance(type_, Pointer) and type_.target is not None:
                target = self.name_of(named(type_.target))
                if isinstance(target, Struct) and self.own(target):
                    self.pointers.append((name, target))

    def _collect(self) -> None:
        """Collect all named structs, and which of them are the kernel's."""
        own: set[str] = set()
        for name, type_, file in self.dwarf.declared():
            found = named(type_)
            if isinstance(found, Struct) and found.members:
                self.in_dwarf.setdefault(name, found)
                (self.kernel if _is_kernel_file(file) else own).add(found.name)
        self.kernel -= own
        for id_ in self.btf.kind_ids(_KIND_STRUCT, _KIND_TYPEDEF):
            type_ = self.btf.type(id_)
            found = named(type_)
            if isinstance(found, Struct) and found.members and not found.union:
                name = type_.name if isinstance(type_, Typedef) else found.name
                if name:
                    self.in_btf.setdefault(name, found)

    def map_type(self, name: str, member: str) -> Type | None:
        id_ = self.btf.map_member(name, member)
        return self.btf.type(id_) if id_ else None

    def name_of(self, type_: Type) -> Type:
        """Return a struct; if it has no name, with that of a typedef."""
        if isinstance(type_, Struct) and not type_.name:
            for found in self.in_btf.values():
                if isinstance(found, Struct) and found.members == type_.members:
                    return found
        return type_

    def own(self, type_: Type) -> bool:
        name = _label(type_).partition("___")[0]
        return name not in self.kernel and not _CONTEXT.fullmatch(name)

    def said(self, buffer: str, wanted: str) -> BufferContents:
        """Return the types that the user gives: one for all records, or one for each value of a field."""
        default: Type | None = None
        tagged: dict[str, dict[str, Type]] = {}
        for word in wanted.split(","):
            condition, sign, name = word.rpartition("=")
            type_ = self.type_said(buffer, word, name)
            if not sign:
                default = type_
                continue
            field, colon, value = condition.partition(":")
            if not colon or not field or not value:
                raise BadSetting(f"--event {buffer}={word}: write {buffer}=FIELD:VALUE=STRUCT")
            tagged.setdefault(field.strip(), {})[value.strip()] = type_
        if not tagged:
            assert default is not None
            return BufferContents(default, f"{_say(default)}, as --event says", sizeof(default))
        if len(tagged) > 1:
            raise BadSetting(f"--event {buffer}: only one field may select the struct, not {' and '.join(tagged)}")
        ((field, types),) = tagged.items()
        tag = self.tag_said(buffer, field, types)
        how = f"{', '.join(map(_say, types.values()))} by {field}, as --event says"
        return BufferContents(default, how, tags={0: tag})

    def type_said(self, buffer: str, word: str, wanted: str) -> Type:
        name = wanted.strip().removeprefix("struct ").strip()
        type_ = self.in_btf.get(name) or self.in_dwarf.get(name)
        if type_ is None:
            scalars = {d.name: d.type for d in self.dwarf.declared() if not isinstance(strip(d.type), Struct)}
            type_ = scalars.get(name) or _SCALARS.get(name)
        if type_ is None or not sizeof(type_):
            names = self.candidates(None)
            known = ", ".join(names) or "none: was the object stripped?"
            similar = _similar(name, names)
            raise BadSetting(f"--event {buffer}={word}: the object has no such type{similar} (there are: {known})")
        return type_

    def tag_said(self, buffer: str, name: str, types: Mapping[str, Type]) -> Tag:
        common = _common_fields(list(types.values()))
        field = next((f for f in common if f.name in (name, f"{name}_")), None)
        if field is None:
            known = ", ".join(f.name for f in common) or "none"
            structs = ", ".join(map(_say, types.values()))
            raise BadSetting(
                f"--event {buffer}: {name} is not a number at the same offset in {structs} (there are: {known})"
            )
        mask = (1 << 8 * field.size) - 1
        numbers: dict[int, Type] = {}
        for word, type_ in types.items():
            number = self.number(word, field)
            if number is None:
                raise BadSetting(f"--event {buffer}: {word} is neither a number nor an enumeration's name")
            if not -(mask + 1) // 2 <= number <= mask:
                raise BadSetting(f"--event {buffer}: {word} does not fit {name}, which has {field.size} bytes")
            numbers[number & mask] = type_
        return Tag(field.name, field.offset, field.size, numbers)

    def number(self, word: str, field: Field) -> int | None:
        """Return the value of a number or an enumeration's name."""
        try:
            return int(word, 0)
        except ValueError:
            pass
        for names in (field.names or {}, *self.enumerations()):
            for value, name in names.items():
                if name == word:
                    return value
        return None

    def enumerations(self) -> Iterator[Mapping[int, str]]:
        for id_ in self.btf.kind_ids(_KIND_ENUM, _KIND_ENUM64):
            type_ = self.btf.type(id_)
            if isinstance(type_, Enum):
                yield type_.names
        for enum in self.dwarf.enumerations():
            yield enum.names

    def candidates(self, size: int | None) -> tuple[str, ...]:
        """Return the names of structs that a program may send, events first."""
        names = {
            name: type_
            for name, type_ in (self.in_dwarf | self.in_btf).items()
            if self.own(type_) and (size is None or sizeof(type_) == size)
        }
        return tuple(sorted(names, key=self.unlikeliness))

    def unlikeliness(self, name: str) -> tuple[bool, bool, bool, str]:
        """Return a sort key: names of events come first."""
        arguments = bool(_ARGUMENTS.search(name))
        return arguments, not _EVENTLIKE.search(name), name in self.map_types, name

    def buffer(self, name: str) -> BufferContents:
        """Return the types that one buffer carries, as far as they can be found."""
        outputs = self.uses.get(name, MapUse([])).outputs
        if not outputs:
            return self.unseen(name)
        sent = [self.sent(name, output) for output in outputs]
        groups: dict[int | None, list[_Sent]] = {}
        for one in sent:
            size = one.output.size
            groups.setdefault(size and arriving(size, name in self.padded), []).append(one)
        known = _different([t for one in sent for t in one.types])
        if None in groups and len(groups) > 1 and len(known) > 1:
            groups = {None: sent}  # a type without a fixed length may have that of another
        decided = {length: self.decided(name, group) for length, group in groups.items()}
        tags = {length or 0: what for length, what in decided.items() if isinstance(what, Tag)}
        by_size = {n: what for n, what in decided.items() if n is not None and not isinstance(what, Tag | str)}
        only = decided.get(None)
        varying = None if isinstance(only, Tag | str) else only
        hint = next((what for what in decided.values() if isinstance(what, str)), "")
        if varying is not None:
            hint = hint or self.doubt(name, varying)
        sizes = {o.size for o in outputs}
        size = next(iter(sizes)) if len(sizes) == 1 else None
        how = "; ".join(dict.fromkeys(one.how for one in sent if one.how)) or _unknown(name, size)
        for tag in tags.values():
            how += f"; distinguished by the constants that are stored in {tag.field}"
        if self.uses_cut:
            how += "; the code is too long to be analysed completely, so there may be others"
        if len(groups) == 1 and by_size and size is not None:
            ((_, varying),) = by_size.items()
            by_size = {}
        candidates = () if varying or by_size or tags else self.candidates(size)
        return BufferContents(varying, how, size, hint, by_size, candidates, tags)

    def sent(self, name: str, output: Output) -> _Sent:
        """Return the types that one output may send, one if it is known."""
        guesses = self.guesses(name, output)
        if not guesses:
            return _Sent(output, [], "")
        best = max(g.score for g in guesses)
        likely = [g for g in guesses if g.score == best]
        return _Sent(output, _different([g.type for g in likely]), "; or ".join(dict.fromkeys(g.how for g in likely)))

    def decided(self, name: str, group: list[_Sent]) -> Type | Tag | str:
        """Return the type of records of one length, the field that distinguishes types, or a question for the user."""
        types = _different([t for one in group for t in one.types])
        if not types:
            return self.hint(name, group[0].output.size)
        if all(len(one.types) == 1 for one in group):
            if len(types) == 1:
                return types[0]
            tag = _tag_of(group)
            if tag is not None:
                return tag
        return self.ambiguous(name, group, types)

    def ambiguous(self, name: str, group: list[_Sent], types: list[Type]) -> str:
        """Return the sentence that asks which of several structs a record is."""
        names = ", ".join(_label(t) for t in types)
        if any(not one.types for one in group):
            names += " and one that is not known"
        common = _common_fields(types)
        field = common[0].name if common else "FIELD"
        some = _label(types[0])
        return (
            f"{names} have the same length, so records are shown as bytes: use --event {name}={some} "
            f"if all are of one struct; if a field selects it, --event {name}={field}:VALUE={some} for each"
        )

    def unseen(self, name: str) -> BufferContents:
        """Return the types in a buffer to which no code is known to write."""
        if len(self.pointers) == 1:
            variable, type_ = self.pointers[0]
            return BufferContents(type_, f"{_say(type_)}, which the global `{variable}` points at")
        how = f"unknown: no code was found that writes to {name}"
        return BufferContents(None, how, None, self.hint(name, None), candidates=self.candidates(None))

    def hint(self, name: str, size: int | None) -> str:
        names = self.candidates(size)
        if not names or _ARGUMENTS.search(names[0]):
            return "add `__type(value, struct STRUCT);` to the map, or build with -g and don't strip the object"
        in_map = f"`__type(value, struct {names[0]});` in the map"
        return f"say what it carries: --event {name}={names[0]}, or {in_map}"

    def guesses(self, buffer: str, output: Output) -> list[_Guess]:
        """Return the types that one output may send; scores are comparable only within one kind of evidence."""
        size = output.size
        where = output.functions[0] if output.functions else output.section
        direct = self.source(output)
        pointed = [
            _Guess(type_, f"{_say(type_)}, which the global `{variable}` points at", _likeness(buffer, type_) // 2)
            for variable, type_ in self.pointers
            if _may_be_sent_as(type_, size)
        ]
        pointed = [g for g in pointed if sizeof(g.type) == size] or pointed
        if len(_different([g.type for g in pointed])) > 1 and size is not None:
            at_hand = [named(v.type) for v in self.variables(output, size)[0]]
            pointed = [g for g in pointed if any(_same(g.type, t) for t in at_hand)] or pointed
        if size is None and (direct is None or _is_room(direct)):
            # the record is built in memory that has no type
            pointed = pointed or [
                _Guess(t, f"{_say(t)}, which the global `{v}` points at", 0)
                for v, t in (self.pointers if len(self.pointers) == 1 else ())
            ]
            direct = direct if pointed else next((named(v.type) for v in self.variables(output, None)[0]), direct)
        if pointed:
            return pointed
        if direct is not None and size in (None, sizeof(direct)):
            origin = f"the map {output.map_value}" if output.map_value else f"the global `{output.variable}`"
            return [_Guess(direct, f"{_say(direct)}, which {where} sends from {origin}", 0)]
        if size is None:
            return [
                _Guess(named(v.type), f"{_say(named(v.type))}: {where} sends its variable `{v.name}`", 0)
                for v in self.variables(output, None)[0]
            ]
        return self.by_size(buffer, output, size, where)

    def doubt(self, name: str, type_: Type) -> str:
        """Return a hint if a type and a global's target have the same size."""
        other = next((t for _, t in self.pointers if len(self.pointers) == 1 and _label(t) != _label(type_)), None)
        if other is None or _is_room(type_):
            return ""
        return f"it may also be {_say(other)}, to which a global points: choose with --event {name}=STRUCT"

    def source(self, output: Output) -> Type | None:
        """Return the type of the map value or global that is sent directly."""
        if output.map_value:
            type_ = self.map_type(output.map_value, "value")
        else:
            type_ = dict(self.globals).get(output.variable) if output.variable else None
        return self.name_of(named(type_)) if type_ is not None and sizeof(type_) else None

    def by_size(self, buffer: str, output: Output, size: int, where: str) -> list[_Guess]:
        """Return types of the size that is sent: the function's variables first, then any struct."""
        sent = f"{where} sends {size} bytes"
        structs, others = self.variables(output, size)
        found = [
            _Guess(
                named(v.type),
                f"{_say(named(v.type))}: {sent}, the size of its variable `{v.name}`",
                self.score(buffer, named(v.type)) + (v.pointer == output.reserved),
            )
            for v in structs
        ]
        if found:
            return found
        if others:
            names = ", ".join(f"`{v.name}`" for v in others[:3])
            type_ = others[0].type
            return [_Guess(type_, f"{_say(type_)}: {sent}, the size of its variable {names}", 0)]
        for place, types in (("BTF", self.in_btf), ("DWARF", self.in_dwarf)):
            found = [
                _Guess(t, f"{_say(t)}: {sent}, the size of this struct in {place}", self.score(buffer, t))
                for t in types.values()
                if sizeof(t) == size and self.own(t) and self.may_be_sent(_label(t))
            ]
            if found:
                return found
        if size in (1, 2, 4, 8):
            return [_Guess(Int(f"u{8 * size}", size), f"a number: {sent}, and no struct has that size", 0)]
        return []

    @cached_property
    def kernel_names(self) -> bytes:
        """The strings of the running kernel's BTF, each between NULs; some 6 MB, freed after the search."""
        return _kernel_names()

    def may_be_sent(self, name: str) -> bool:
        """Return whether a struct is neither a map's value nor possibly one of the kernel.

        A record that is sent from a map would have been found as such.
        """
        if _EVENTLIKE.search(name):
            return True
        return name not in self.map_types and f"\0{name}\0".encode() not in self.kernel_names

    def variables(self, output: Output, size: int | None) -> tuple[list[Local], list[Local]]:
        """Return structs and others of that size: variables of the sender or, if it has none, its callers.

        If the size varies, only structs that end in a flexible array count.
        """
        structs: list[Local] = []
        others: list[Local] = []
        for depth, function in enumerate(output.functions):
            program = depth == len(output.functions) - 1
            near = [
                v
                for v in self.dwarf.locals(function)
                if _may_be_sent_as(v.type, size) and not (program and v.parameter)
            ]
            ours = [v for v in near if isinstance(named(v.type), Struct) and self.own(named(v.type))]
            # a struct of exactly that size comes before one with which the record may begin
            structs = structs or [v for v in ours if sizeof(v.type) == size] or ours
            others = others or [
                v
                for v in near
                if isinstance(strip(v.type), Int | Float | Enum | Array) and v.pointer == output.reserved
            ]
        return structs, others

    def score(self, buffer: str, type_: Type) -> int:
        name = _label(type_)
        likely = 2 if _EVENTLIKE.search(name) else 0
        return 2 * _likeness(buffer, type_) + likely - (3 if name in self.map_types else 0)


def _may_be_sent_as(type_: Type, size: int | None) -> bool:
    """Return whether a record of this size, None if it varies, may begin with a type."""
    if size is None:
        return open_ended(named(type_))
    return size == sizeof(type_) or (size > sizeof(type_) > 0 and open_ended(named(type_)))


def _is_room(type_: Type) -> bool:
    """Return whether a type is only bytes, such as the memory in which programs build records."""
    members = type_.members if isinstance(type_, Struct) else ()
    inner = strip(members[0].type) if len(members) == 1 else strip(type_)
    return isinstance(inner, Array) and sizeof(inner.element) == 1


def arriving(size: int, padded: bool) -> int:
    """Return the length with which a record arrives: perf buffers pad it, its own 4 bytes of length with it, to 8."""
    return (size + 4 + 7) // 8 * 8 - 4 if padded else size


def _different(types: Sequence[Type]) -> list[Type]:
    """Return types without those of the same layout."""
    found: list[Type] = []
    for type_ in types:
        if not any(_same(type_, other) for other in found):
            found.append(type_)
    return found


def _same(one: Type, other: Type) -> bool:
    if isinstance(one, Struct) and isinstance(other, Struct):
        return (one.members == other.members and one.size == other.size) or (bool(one.name) and one.name == other.name)
    return one == other


def _common_fields(types: Sequence[Type]) -> list[Field]:
    """Return the numbers at the same offset in all these structs, with the names in the first."""
    first, *others = [list(shape(t).fields.values()) for t in types]
    places = [{(f.offset, f.size, f.name) for f in fields} for fields in others]
    return [
        f
        for f in first
        if f.bits is None and f.code in _NUMBERS and all((f.offset, f.size, f.name) in there for there in places)
    ]


def _tag_of(group: Sequence[_Sent]) -> Tag | None:
    """Return the field in which each sender stores constants that no sender of another struct stores."""
    types = _different([one.types[0] for one in group])
    for field in _common_fields(types):
        owners: dict[int, Type] = {}
        for one in group:
            numbers = bytecode.constants(one.output.marks, field.offset, field.size)
            if numbers is None or any(not _same(owners.setdefault(n, one.types[0]), one.types[0]) for n in numbers):
                break
        else:
            return Tag(field.name, field.offset, field.size, owners)
    return None


def _label(type_: Type | None) -> str:
    while isinstance(type_, Array):
        type_ = type_.element
    if type_ is None or isinstance(type_, Pointer):
        return ""
    return type_.name


def _say(type_: Type) -> str:
    if isinstance(type_, Struct):
        return f"{'union' if type_.union else 'struct'} {type_.name}".strip()
    return f"{_say(type_.element)}[{type_.length}]" if isinstance(type_, Array) else _label(type_)


def _unknown(name: str, size: int | None) -> str:
    if size is None:
        return f"unknown: the size of what is sent to {name} varies"
    return f"unknown: {size} bytes are sent to {name}, but no type has that size"


def _words(name: str) -> set[str]:
    return {w.removesuffix("s") for w in name.lower().split("_")}


def _likeness(buffer: str, type_: Type) -> int:
    """Return how similar a type's name is to a buffer's: 2 for a significant word in common, 1 for any."""
    shared = _words(buffer) & _words(_label(type_))
    return 2 if shared - _COMMON else int(bool(shared))


def _similar(name: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return f": did you mean {close[0]}?" if close else ""


_kept_names: list[bytes] = []


def keep_kernel_names() -> None:
    """Read now, and keep, what a process that can open no file may ask for later."""
    _kept_names[:] = [_kernel_names()]


def _kernel_names() -> bytes:
    """Return the strings of the kernel's BTF, each between NULs; empty if it has none."""
    if _kept_names:
        return _kept_names[0]
    try:
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _is_kernel_file(path: str) -> bool:
    base = path.rpartition("/")[2]
    return (base.startswith("vmlinux") and base.endswith(".h")) or path.startswith("/usr/include/")
