# SPDX-License-Identifier: BSD-2-Clause
"""Which maps a new object takes over from the one that it replaces: those with the content that it expects."""

from __future__ import annotations

from collections.abc import Mapping

from eunomia.kernel.difference import ABSENT, Difference, of_types
from eunomia.kernel.errors import MapChanged
from eunomia.kernel.spec import EQUAL, LEDGER, PERF_EVENT_ARRAY, PROG_ARRAY, section_of
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.spec import Map, Spec, StreamSpec
    from eunomia.stream_schema import Schema

# Never shared: they hold the old programs, or descriptors of the old reader.
_OWN = frozenset({PROG_ARRAY, PERF_EVENT_ARRAY})
_LIBBPF = "__bpf_usdt_"  # of <bpf/usdt.bpf.h>: libbpf numbers their entries for each object
_STREAMED = frozenset({"ring", "swapped", "derived"})  # what they hold is on its way: it may be read as it was


class Kept(NamedTuple):
    """What is kept: ``maps`` by name, ``sections`` of variables as a whole, and ``variables`` that are copied.

    A variable is its section, its new and its old offset there, and its size.
    """

    maps: frozenset[str]
    sections: frozenset[str]
    variables: tuple[tuple[str, int, int, int], ...]


class Side(NamedTuple):
    """One of the two objects: its maps as they are sized, its sections' bytes before any program ran."""

    spec: Spec
    maps: Mapping[str, Map]
    images: Mapping[str, bytes]


def kept(before: Side, after: Side, *, fresh: bool = False) -> Kept:
    """Return what the object ``after`` keeps of ``before``.

    Rings, and tables of ours, are new if their struct has changed; program arrays and perf buffers always are.
    Raises :class:`MapChanged` for any other map that differs, unless ``fresh``: then it starts empty.
    """
    streams = _streams(before, after)
    maps = set()
    for name, map_ in after.maps.items():
        was = before.maps.get(name)
        if was is None or map_.internal or map_.type in _OWN or name.startswith(_LIBBPF):
            continue
        if name in streams:
            if streams[name]:
                maps.add(name)
            continue
        found = difference(name, before, after)
        if found is None:
            maps.add(name)
        elif not fresh:
            raise MapChanged(after.spec.name, name, *found)
    return Kept(frozenset(maps), *_globals(before, after))


def _streams(before: Side, after: Side) -> dict[str, bool]:
    """Return the maps that are streams, with those that belong to each, and whether they agree, all or none of them."""
    found: dict[str, bool] = {}
    for name, stream in (after.spec.streams | after.spec.raw).items():
        if stream.kind not in _STREAMED:
            continue
        own = stream.map.name
        equal = EQUAL + name
        group = [own, f"{own}_a", f"{own}_b", LEDGER + name, equal, f"{equal}_a", f"{equal}_b"]
        group = [n for n in group if n in after.maps]
        was = (before.spec.streams | before.spec.raw).get(name)
        agrees = was is not None and _same_rows(was, stream)
        agrees = agrees and all(n in before.maps and difference(n, before, after) is None for n in group)
        found |= dict.fromkeys(group, agrees)
    return found


def _same_rows(before: StreamSpec, after: StreamSpec) -> bool:
    shapes = (_looks(s.schema) for s in (before, after))
    sizes = ({size: _looks(s) for size, s in (one.by_size or {}).items()} for one in (before, after))
    tags = (
        {
            size: (tag[:3], {number: _looks(s) for number, s in tag.schemas.items()})
            for size, tag in (one.tags or {}).items()
        }
        for one in (before, after)
    )
    return before.kind == after.kind and all(one == other for one, other in (shapes, sizes, tags))


def _looks(schema: Schema) -> tuple[object, ...]:
    return schema.name, schema.size, schema.doc, [*schema.fields.items()]


def difference(name: str, before: Side, after: Side) -> Difference | None:
    """Return the first difference of two maps of one name; None if the programs of one can use the other's."""
    was, is_ = before.maps[name], after.maps[name]
    if was.type != is_.type:
        return Difference("", f"a map of type {was.type_name}", f"of type {is_.type_name}")
    for part in ("key", "value"):
        ids = [(side.spec.btf, side.spec.btf.map_member(name, part)) for side in (before, after)]
        if (found := of_types(part, ids[0], ids[1])) is not None:
            return found
    return _defined("", was, is_)


def _defined(prefix: str, was: Map, is_: Map) -> Difference | None:
    for part, one, other in zip(_PARTS, _parts(was), _parts(is_), strict=True):
        if one != other:
            return Difference(f"{prefix}{part}", one, other)
    if was.inner is not None and is_.inner is not None:
        return _defined("values.", was.inner, is_.inner)
    return None


_PARTS = ("type", "key", "value", "max_entries", "map_flags", "map_extra", "values")


def _parts(map_: Map) -> tuple[str, ...]:
    return (
        map_.type_name, f"{map_.key_size} bytes", f"{map_.value_size} bytes", str(map_.max_entries),
        f"{map_.flags:#x}", f"{map_.extra:#x}", "declared" if map_.inner is not None else ABSENT,
    )  # fmt: skip


# Global variables


class _Variable(NamedTuple):
    offset: int
    size: int
    id: int


def _globals(before: Side, after: Side) -> tuple[frozenset[str], tuple[tuple[str, int, int, int], ...]]:
    """Return the sections of variables that go on, and the variables of others whose values are copied.

    A variable keeps its value if its type and its initial value are unchanged: a new initial value in the source is
    meant to be used.
    """
    old, new = _variables(before), _variables(after)
    sections, copied = set(), []
    for section in new.keys() & old.keys():
        were, are = old[section], new[section]
        agreeing = {n for n in were.keys() & are.keys() if _agrees(section, n, (before, were[n]), (after, are[n]))}
        same_places = all(were[n][:2] == are[n][:2] for n in agreeing)
        if len(agreeing) == len(were) == len(are) and same_places and _as_large(section, before, after):
            sections.add(section)
        else:
            copied += [(section, are[n].offset, were[n].offset, are[n].size) for n in sorted(agreeing)]
    return frozenset(sections), tuple(copied)


def _variables(side: Side) -> dict[str, dict[str, _Variable]]:
    found: dict[str, dict[str, _Variable]] = {}
    for section, name, offset, size, id_ in side.spec.btf.variables():
        if section in side.images and section.startswith((".bss", ".data")):
            found.setdefault(section, {})[name] = _Variable(offset, size, id_)
    return found


def _agrees(section: str, name: str, before: tuple[Side, _Variable], after: tuple[Side, _Variable]) -> bool:
    was, is_ = before[1], after[1]
    if of_types(name, *[(side.spec.btf, side.spec.btf.type_of(v.id)) for side, v in (before, after)]) is not None:
        return False
    begins = [side.images[section][v.offset : v.offset + v.size] for side, v in (before, after)]
    return was.size == is_.size and begins[0] == begins[1]


def _as_large(section: str, *sides: Side) -> bool:
    sizes = {len(side.images[section]) for side in sides}
    flags = {m.flags for side in sides for m in side.maps.values() if m.internal and section_of(m.name) == section}
    return len(sizes) == len(flags) == 1
