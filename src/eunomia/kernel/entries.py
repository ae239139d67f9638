# SPDX-License-Identifier: BSD-2-Clause
"""Settings of map entries, ``map[key].member=value``: written before anything is attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eunomia.kernel import encode as encoding
from eunomia.kernel import settings
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.schema import spell
from eunomia.kernel.types import Array, Int, Struct, Type, sizeof, strip
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.btf import Btf
    from eunomia.kernel.spec import Map

# enum bpf_map_type, include/uapi/linux/bpf.h
_ARRAYS = frozenset({2, 6})  # and per CPU
_LPM_TRIE, _PROG_ARRAY = 11, 3
_SETTABLE = frozenset({1, 2, 5, 6, 9, 10, _LPM_TRIE, _PROG_ARRAY})
_MEMBERS = 16  # of a struct that are named
_PREFIX = {8: 4, 20: 16}  # bytes of a trie's key, and of the address in it
_PATH = r'(?s)\[(?:"([^"]*)"|([^\[\]]*))\](.*)'
_U32 = Int("__u32", 4)


class SettableMap(NamedTuple):
    """A map whose entries can be set, and the types of its keys and values."""

    map: Map
    key: Type
    value: Type

    @property
    def types(self) -> str:
        """Its types as C spells them."""
        return f"{self.key_type} to {'program' if self.map.type == _PROG_ARRAY else _with_members(self.value)}"

    @property
    def key_type(self) -> str:
        """Its keys' type, for messages."""
        if self.map.type == _LPM_TRIE and self.map.key_size in _PREFIX:
            return "10.0.0.0/8" if self.map.key_size == 8 else "2001:db8::/32"
        return _with_members(self.key)


def _with_members(type_: Type) -> str:
    bare = strip(type_)
    names = [path for path, _ in encoding.leaves(bare)] if isinstance(bare, Struct) else []
    return f"{spell(type_)} {{{', '.join(names)}}}" if 0 < len(names) <= _MEMBERS else spell(type_)


class Entry(NamedTuple):
    """One entry to write, or one member of it: ``part`` has its offset in the entry's value."""

    table: SettableMap
    key: bytes
    part: settings.Setting
    value: object


def tables(btf: Btf, maps: Mapping[str, Map], own: bool) -> dict[str, SettableMap]:
    """Return the maps whose entries users can set: none in eunomia's ``own`` objects."""
    if own:
        return {}
    found = {}
    for map_ in maps.values():
        if map_.internal or map_.type not in _SETTABLE:
            continue
        key = _type(btf, map_.name, "key", map_.key_size)
        value = _U32 if map_.type == _PROG_ARRAY else _type(btf, map_.name, "value", map_.value_size)
        found[map_.name] = SettableMap(map_, key, value)
    return found


def _type(btf: Btf, name: str, member: str, size: int) -> Type:
    id_ = btf.map_member(name, member)
    type_ = btf.type(id_) if id_ else None
    if type_ is not None and sizeof(type_) == size:
        return type_
    return Int(f"__u{8 * size}", size) if size in {1, 2, 4, 8} else Array(Int("__u8", 1), size)


def table_of(tables_: Mapping[str, SettableMap], path: str) -> SettableMap | None:
    """Return the map whose entry a path names, None if there is none."""
    return tables_.get(path.partition("[")[0]) if "[" in path else None


def split(word: str) -> tuple[str, str] | None:
    """Return path and value of ``PATH=VALUE``; a ``=`` in brackets, or in quotes there, belongs to the key."""
    quoted = False
    depth = 0
    for at, letter in enumerate(word):
        if letter == '"' and depth:
            quoted = not quoted
        elif quoted:
            continue
        elif letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "=" and depth <= 0:
            return (word[:at], word[at + 1 :]) if at else None
    return None


def locate(tables_: Mapping[str, SettableMap], path: str, value: object, programs: Sequence[str] = ()) -> Entry | None:
    """Return the entry of ``map[key]`` or ``map[key].member``, None if there is no such map.

    Raises :class:`BadSetting` if key or member do not fit.
    """
    table = table_of(tables_, path)
    if table is None:
        return None
    import re

    match = re.fullmatch(_PATH, path[len(table.map.name) :])
    if match is None:
        name = table.map.name
        raise BadSetting(f"map {name} ({table.types}): write {name}[KEY] or {name}[KEY].MEMBER")
    word = match[2] if match[1] is None else match[1]
    key = _key(table, word)
    whole = settings.Setting(f"{table.map.name}[{word}]", "", 0, table.value, None, "", False, False)
    part = settings.walk(whole, match[3])
    if table.map.type == _PROG_ARRAY:
        _check_program(part.name, value, programs)
    else:
        settings.write(part, value, bytearray(table.map.value_size))
    return Entry(table, key, part, value)


def _check_program(name: str, value: object, programs: Sequence[str]) -> None:
    if programs and value not in programs:
        shown = encoding.shown(str(value))
        raise BadSetting(f"setting {name}: there is no program {shown}: there are {', '.join(programs)}")


def _key(table: SettableMap, word: str) -> bytes:
    map_ = table.map
    try:
        if map_.type == _LPM_TRIE and map_.key_size in _PREFIX and "/" in word:
            return _prefix(word, _PREFIX[map_.key_size])
        raw = encoding.encode(table.key, word)
    except ValueError as error:
        raise BadSetting(f"map {map_.name}: its keys are {table.key_type}: {error}") from None
    if map_.type in _ARRAYS | {_PROG_ARRAY} and encoding.number(word) >= map_.max_entries:
        raise BadSetting(f"map {map_.name}: {word} is not between 0 and {map_.max_entries - 1}")
    return raw


def _prefix(word: str, size: int) -> bytes:
    place, _, length = word.partition("/")
    bits = encoding.number(length)
    if not 0 <= bits <= 8 * size:
        raise ValueError(f"/{bits} is not between /0 and /{8 * size}")
    return encoding.encode(_U32, bits) + encoding.address(place.strip(), size)


def merged(entry: Entry, before: bytes) -> bytes:
    """Return an entry's whole value, with its other members as they were."""
    memory = bytearray(before)
    settings.write(entry.part, entry.value, memory)
    return bytes(memory)
