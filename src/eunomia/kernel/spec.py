# SPDX-License-Identifier: BSD-2-Clause
"""Description of an object file: programs, maps, settings, streams. :mod:`eunomia.kernel.loaded` loads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, cached_property

from eunomia.kernel import casts, elf, entries, lengths, settings, sizes, unions
from eunomia.kernel.btf import Btf
from eunomia.kernel.diagnose import open_error
from eunomia.kernel.errors import BadObject, BadSetting
from eunomia.kernel.libbpf import ffi, lib, log_start, log_take, text
from eunomia.kernel.libbpf_versions import too_new
from eunomia.kernel.schema import schema, spell, table_schema, unknown_schema
from eunomia.kernel.types import Array, Opaque, Pointer, Struct, Type, sizeof, strip
from eunomia.stream_schema import Field, Schema
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.foreign.bytecode import Uses, Walked
    from eunomia.kernel.foreign.discover import BufferContents
    from eunomia.kernel.percpu import Plan

# enum bpf_map_type, include/uapi/linux/bpf.h
HASH, ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_HASH, PERCPU_ARRAY, STACK_TRACE = range(1, 8)
LRU_HASH, LRU_PERCPU_HASH, ARRAY_OF_MAPS, RINGBUF = 9, 10, 12, 27
PER_CPU = frozenset({PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH})
_TABLES = frozenset({HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH})

PRINTK = os.path.join(os.path.dirname(__file__), "foreign", "printk.bpf.o")  # reads what other programs print

LEDGER = "ledger_"
NEXT = "next_"  # of eunomia/hook.h: what the handler of that name calls in the end
RAW = "raw_"  # of eunomia/stream.h
EQUAL = "equal_"  # of eunomia/coalesce.h


class Program(NamedTuple):
    """A program: ``section`` says where it is attached, as in ``tp/sched/sched_process_exec``.

    An ``optional`` one (``SEC("?...")``) is loaded only on request.
    """

    name: str
    section: str
    type: int
    optional: bool = False


class Map(NamedTuple):
    """A map; sizes in bytes. ``type_name`` is libbpf's name for its type.

    ``chosen`` says which sizes the object leaves to its loader, and their values. ``inner`` describes the maps that a
    map of maps holds.
    """

    name: str
    type: int
    type_name: str
    key_size: int
    value_size: int
    max_entries: int
    internal: bool
    chosen: str = ""
    flags: int = 0
    extra: int = 0  # what some types have besides, as a bloom filter its number of hashes
    inner: Map | None = None


class Tag(NamedTuple):
    """A number in each record, of ``size`` bytes at ``offset``, that selects its schema."""

    field: str
    offset: int
    size: int
    schemas: Mapping[int, Schema]


class Coalescing(NamedTuple):
    """What a stream has whose equal events can be counted: ``key`` is what makes them equal, in words.

    ``schema`` is that of rows that say how many events they stand for, ``id`` the field that tells records apart;
    ``table`` is the map from keys to counts.
    """

    key: str
    schema: Schema
    id: Field
    table: Map


class StreamSpec(NamedTuple):
    """One stream: a ring or perf buffer, a table, or the object's global variables.

    ``kind`` is ``ring``, ``perf``, ``table``, ``swapped`` (a table emptied at each interval), ``globals``,
    ``lines`` and ``records`` (what an iterator writes at each interval, named by its program),
    ``derived`` (its rows are made in Python, from records of the rings in :attr:`Spec.raw`) or ``printk``
    (what programs print: :mod:`eunomia.kernel.foreign.printk` reads it).
    ``by_size`` has the schemas of records by their length; ``tags`` distinguishes records of one
    length, or of any length by 0. ``how`` is the evidence for the
    schema; ``hint`` says how to improve it.
    """

    name: str
    kind: str
    schema: Schema
    map: Map
    how: str = ""
    hint: str = ""
    by_size: Mapping[int, Schema] | None = None
    tags: Mapping[int, Tag] | None = None
    cpus: Plan | None = None  # of per-CPU tables: how the CPUs' values are merged into one row
    cpu_rows: bool = False  # ... or whether each CPU has a row
    coalescing: Coalescing | None = None  # how equal events can be counted

    @property
    def shapes(self) -> list[Schema]:
        """The schemas that records may have, except that of unknown ones."""
        found = list((self.by_size or {}).values())
        found += [shape for tag in (self.tags or {}).values() for shape in tag.schemas.values()]
        return found


def _each(stream: StreamSpec, change: Callable[[Schema], Schema]) -> StreamSpec:
    """Return a stream with its schemas changed, each of them once."""
    changed = {id(stream.schema): change(stream.schema)}
    others = [*(stream.by_size or {}).values(), *[s for t in (stream.tags or {}).values() for s in t.schemas.values()]]
    for shape in others:
        if id(shape) not in changed:
            changed[id(shape)] = change(shape)
    by_size = {size: changed[id(s)] for size, s in (stream.by_size or {}).items()}
    tags = {
        size: tag._replace(schemas={number: changed[id(s)] for number, s in tag.schemas.items()})
        for size, tag in (stream.tags or {}).items()
    }
    return stream._replace(schema=changed[id(stream.schema)], by_size=by_size or None, tags=tags or None)


class Spec:
    """The content of an object: ``programs``, ``maps``, ``streams``, ``settings``.

    ``tables`` are the maps whose entries can be set, ``images`` the initial bytes of global variables.
    ``raw`` are the rings from which derived streams are made; they are not streams themselves.
    """

    def __init__(
        self,
        data: bytes,
        name: str,
        events: Mapping[str, str] | None = None,
        *,
        quick: bool = False,
        derived: Mapping[str, Schema] = {},
    ) -> None:
        """Read an object; ``events`` maps a buffer's name to the struct that it carries.

        ``derived`` are the schemas of streams whose rows are made in Python, from records of the ``RAW()`` rings.

        ``quick`` relocates it with only the part of the kernel's BTF that it needs, which loads it in half the time,
        but does not work for objects that need the ids of kernel types.

        Raises :class:`BadObject` if it is not a BPF object for this kind of machine, and
        :class:`BadSetting` if ``events`` names something that does not exist.
        """
        elf.check(data, name)
        self.data = casts.resolved(data)
        self.name = name
        self.quick = quick
        self._object = self._open()
        try:
            self.btf = self._btf()
            self.programs = [self._program(p) for p in walk_programs(self._object)]
            self.maps = {m.name: sizes.by_default(m) for m in map(self._map, walk_maps(self._object))}
            self.own = quick or any(m.startswith(LEDGER) for m in self.maps)
            self.images = self._images()
            self.settings = settings.find(self.btf, self.images)
            self.tables = entries.tables(self.btf, self.maps, self.own)
            found = self._streams(events or {})
            self.raw = {n: s for n, s in found.items() if derived and n.startswith(RAW)}
            self.streams = {n: s for n, s in found.items() if n not in self.raw}
            self.streams |= {n: _derived(n, shape) for n, shape in derived.items()}
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        events: Mapping[str, str] | None = None,
        *,
        quick: bool = False,
        derived: Mapping[str, Schema] = {},
    ) -> Spec:
        """Read an object file; raises :class:`OSError` and what the constructor raises."""
        with open(path, "rb") as file:
            data = file.read()
        return cls(data, name_of(path), events, quick=quick, derived=derived)

    def close(self) -> None:
        """Free libbpf's memory; the rest stays readable."""
        if self._object is not None:
            lib.bpf_object__close(self._object)
            self._object = None

    def take(self) -> Any:
        """Return an opened, not yet loaded libbpf object, which the caller has to close."""
        taken, self._object = self._object, None
        if taken is None:
            taken = self._open()
        if self.quick and lib.eu_reduced_btf(taken, kernel_btf()):
            lib.bpf_object__close(taken)
            self.quick = False
            taken = self._open()
        return taken

    def _open(self) -> Any:
        log_start()
        label = "".join(c if c.isalnum() else "_" for c in self.name)[:15] or "object"
        reduced = f"/proc/self/fd/{kernel_btf()}".encode() if self.quick else ffi.NULL
        opened = lib.eu_open(ffi.from_buffer(self.data), len(self.data), label.encode(), reduced)
        if opened == ffi.NULL:
            reason = ffi.errno
            if newer := too_new(elf.section_names(self.data, self.name)):
                raise BadObject(f"{self.name}: {newer}")
            raise BadObject(f"{self.name}: libbpf cannot read it: {open_error(reason, log_take())}")
        return opened

    def _btf(self) -> Btf:
        btf = lib.bpf_object__btf(self._object)
        size = ffi.new("uint32_t *")
        raw = lib.btf__raw_data(btf, size) if btf != ffi.NULL else ffi.NULL
        if raw == ffi.NULL:
            raise BadObject(f"{self.name}: it has no BTF: compile it with clang -g")
        return Btf(bytes(ffi.buffer(raw, size[0])), elf.has_our_types(self.data))

    def _program(self, program: Any) -> Program:
        return Program(
            text(lib.bpf_program__name(program)),
            text(lib.bpf_program__section_name(program)),
            lib.bpf_program__type(program),
            not lib.bpf_program__autoload(program),
        )

    def _map(self, map_: Any) -> Map:
        type_ = lib.bpf_map__type(map_)
        return Map(
            text(lib.bpf_map__name(map_)),
            type_,
            text(lib.libbpf_bpf_map_type_str(type_)),
            lib.bpf_map__key_size(map_),
            lib.bpf_map__value_size(map_),
            lib.bpf_map__max_entries(map_),
            bool(lib.bpf_map__is_internal(map_)),
            flags=lib.bpf_map__map_flags(map_),
            extra=lib.bpf_map__map_extra(map_),
            inner=self._map(inner) if (inner := lib.bpf_map__inner_map(map_)) != ffi.NULL else None,
        )

    def _images(self) -> dict[str, bytes]:
        """Return the initial bytes of each global data section."""
        images = {}
        for map_ in walk_maps(self._object):
            if lib.bpf_map__is_internal(map_):
                memory, size = memory_of(map_)
                if memory is not None:
                    images[section_of(text(lib.bpf_map__name(map_)))] = bytes(ffi.buffer(memory, size))
        return images

    # Streams

    def _streams(self, events: Mapping[str, str]) -> dict[str, StreamSpec]:
        iterators = {p.name for p in self.programs if is_iterator(p)}
        of_iterators, events = (
            {n: w for n, w in events.items() if n in iterators},
            {n: w for n, w in events.items() if n not in iterators},
        )
        buffers = [m for m in self.maps.values() if m.type in {RINGBUF, PERF_EVENT_ARRAY}]
        declared = {m.name: self._declared(m) for m in buffers}
        typed = {name for name, type_ in declared.items() if type_ is not None}
        doubted = {name for name in typed if self._contradicted(name, declared[name])}
        how = "the map's __type(value, ...)"
        found = [self._buffer(m, declared[m.name], how) for m in buffers if m.name in typed - doubted]
        typed -= doubted
        unknown = [m for m in buffers if m.name not in typed or m.name in events]
        if unknown or events:
            found = [s for s in found if s.name not in events] + self._discover(unknown, events, declared)
        if self.own:
            found = [self._coalescing(s) for s in found]
            tables = [m for m in self.maps.values() if m.type == ARRAY_OF_MAPS and not m.name.startswith(EQUAL)]
            found += [self._swapped(m) for m in tables]
        else:
            found += self._tables(bool(buffers))
            found += self._globals(alone=not found)
        order = list(self.maps)
        if not self.own:
            found = [self._scaled(self._with_stacks(s)) for s in found]
        found.sort(key=lambda s: order.index(s.map.name))
        if not self.own:
            found += self._iterators(of_iterators) + self._printed()
            found = [_said_of_unions(s) for s in found]
        return {s.name: s for s in found}

    def _iterators(self, events: Mapping[str, str]) -> list[StreamSpec]:
        """Return the streams of iterators: text if a program writes any, else structs."""
        uses = {p.name: self.uses[p.name] for p in self.programs if is_iterator(p) and p.name in self.uses}
        if not uses:
            return []
        from eunomia.kernel.foreign import discover

        streams = []
        writers = [n for n, use in uses.items() if n in events or (use.outputs and not use.prints)]
        written = discover.event_types(self.data, writers, self.btf, events, self.uses)
        for name, use in uses.items():
            place = Map(name, 0, "iterator", 0, 0, 0, internal=True)
            if name not in written:
                if use.prints:
                    how = "the program's calls of bpf_seq_printf()"
                    streams.append(StreamSpec(name, "lines", lines_schema(name), place, how))
                continue
            found = written[name]
            shape = unknown_schema(name) if found.type is None else schema(found.type)
            hint = found.hint
            if found.by_size or found.tags:
                hint = f"its records must be of one struct: --event {name}=STRUCT"
                shape = unknown_schema(name)
            stream = StreamSpec(name, "records", shape, place, found.how, hint)
            streams.append(stream)
        return streams

    def _printed(self) -> list[StreamSpec]:
        """Return the stream of what the programs print, if any does."""
        from eunomia.kernel.foreign import bytecode

        if not bytecode.prints(self.data):
            return []
        stream = printed()
        name = "printk_" if "printk" in self.maps else "printk"
        shape = naming(stream.schema, [p.name for p in self.programs])
        return [stream._replace(name=name, kind="printk", schema=shape, how="the programs' calls of bpf_printk()")]

    def _with_stacks(self, stream: StreamSpec) -> StreamSpec:
        from eunomia.kernel.foreign.stack_fields import marked

        has_map = any(m.type == STACK_TRACE for m in self.maps.values())
        seen = self._walked.stacks if has_map else ()
        return _each(stream, lambda shape: marked(shape, seen, has_map))

    @property
    def stack_maps(self) -> set[tuple[str, bool]]:
        """The maps into which a foreign object's programs put stacks, and whether of user space."""
        return set() if self.own else self._walked.stacks

    def _scaled(self, stream: StreamSpec) -> StreamSpec:
        """Return a foreign object's stream with the histograms that its code reveals."""
        from eunomia.kernel.scale import evident, likely

        shape = stream.schema
        if stream.kind in {"table", "globals"}:
            own_map = stream.kind == "table"
            base = aligned(stream.map.key_size) if own_map else 0
            plain = self._entries(stream.map.name, stream.map).fields if own_map else shape.fields
            name = stream.map.name if own_map else section_of(stream.map.name)

            def counts(field: Field, count: int) -> str:
                # in the map, where numbers may be smaller than in a row summed over CPUs
                before = plain.get(field.name)
                if before is None or before.offset < base:
                    return ""
                return self._walked.tries.counts(name, before.offset - base, before.size // count, count)

            shape = evident(shape, counts)
        hint = stream.hint
        if not hint and (maybe := likely(shape)):
            option = f"--histogram {stream.name}.{maybe}=log2"
            hint = f"{maybe} is shown as a list: if it is a histogram, draw it by {option} or linear"
        return stream._replace(schema=shape, hint=hint)

    def choose_scales(self, scales: Mapping[str, str]) -> None:
        """Set which columns are histograms, ``STREAM.COLUMN`` -> scale. Raises :class:`BadSetting`."""
        from eunomia.kernel.scale import chosen

        for word, scale in scales.items():
            name = max((n for n in self.streams if word.startswith(f"{n}.")), key=len)
            stream = self.streams[name]
            shape = chosen(stream.schema, name, {word[len(name) + 1 :]: scale})
            hint = "" if " draw it by --histogram" in stream.hint else stream.hint
            self.streams[name] = stream._replace(schema=shape, hint=hint)

    def _declared(self, map_: Map) -> Type | None:
        """Return the type of a buffer's records by ``__type(value, ...)``; perf buffers have an int there."""
        id_ = self.btf.map_member(map_.name, "value")
        type_ = self.btf.type(id_) if id_ else None
        if type_ is None or isinstance(type_, Opaque) or sizeof(type_) == 0:
            return None
        return None if map_.type == PERF_EVENT_ARRAY and not isinstance(type_, Struct) else type_

    def _contradicted(self, name: str, type_: Type | None) -> bool:
        """Return whether programs send no record of the declared size, but some of the size of a global's target.

        A struct that is shorter than all records may be their beginning; a number is not.
        """
        if self.own or type_ is None:
            return False
        sizes = {output.size for output in use.outputs} if (use := self.uses.get(name)) else set()
        if not sizes or sizes & {sizeof(type_), None}:
            return False
        if not isinstance(strip(type_), Struct):
            return True
        variables = [self.btf.variable_type(id_) for section, *_, id_ in self.btf.variables() if section != ".maps"]
        targets = [t.target for t in variables if isinstance(t, Pointer) and t.target is not None]
        return any(isinstance(strip(t), Struct) and sizeof(t) in sizes for t in targets)

    def _buffer(self, map_: Map, type_: Any, how: str) -> StreamSpec:
        kind = "ring" if map_.type == RINGBUF else "perf"
        shape = schema(type_, longer=self._longer(map_, type_))
        return StreamSpec(map_.name, kind, shape, map_, how, lengths.hint(list(shape.fields.values())))

    def _found(self, map_: Map, found: BufferContents, hint: str) -> StreamSpec:
        kind = "ring" if map_.type == RINGBUF else "perf"
        types = [*found.by_size.values(), *[t for tag in found.tags.values() for t in tag.types.values()]]
        of = {id(t): schema(t) for t in types}
        by_size = {size: of[id(t)] for size, t in found.by_size.items()}
        tags = {
            size: Tag(tag.field, tag.offset, tag.size, {n: of[id(t)] for n, t in tag.types.items()})
            for size, tag in found.tags.items()
        }
        if found.type is not None:
            other = schema(found.type, longer=not tags and self._longer(map_, found.type))
            hint = hint or lengths.hint(list(other.fields.values()))
        else:
            other = unknown_schema(map_.name)
        return StreamSpec(map_.name, kind, other, map_, found.how, hint, by_size or None, tags or None)

    @property
    def uses(self) -> Uses:
        """How the programs use the maps."""
        return self._walked.maps

    def _longer(self, map_: Map, type_: Any) -> bool:
        """Return whether programs send more than a type: a larger constant, or a size that varies without an array."""
        if self.own:
            return False
        sizes = [output.size for output in use.outputs] if (use := self.uses.get(map_.name)) else []
        bare = strip(type_)
        last = strip(bare.members[-1].type) if isinstance(bare, Struct) and bare.members else None
        return any((not isinstance(last, Array)) if s is None else s > sizeof(type_) for s in sizes)

    def _discover(
        self, buffers: list[Map], events: Mapping[str, str], declared: Mapping[str, Type | None]
    ) -> list[StreamSpec]:
        from eunomia.kernel.foreign import discover

        padded = {m.name for m in buffers if m.type == PERF_EVENT_ARRAY}
        names = [m.name for m in buffers]
        found = discover.event_types(self.data, names, self.btf, events, self.uses, padded=padded)
        streams = []
        for map_ in buffers:
            what, said = found[map_.name], declared[map_.name]
            hint = what.hint
            if said is not None and map_.name not in events:
                if not (what.type or what.by_size or what.tags):
                    streams.append(self._buffer(map_, said, "the map's __type(value, ...)"))
                    continue
                hint = hint or (
                    f"its map declares {spell(said)} of {sizeof(said)} bytes, but no program sends that size: "
                    f"choose by --event {map_.name}=STRUCT"
                )
            streams.append(self._found(map_, what, hint))
        return streams

    def _coalescing(self, stream: StreamSpec) -> StreamSpec:
        """Return a stream whose rows lack what only counted ones have; how they can be counted stands beside it."""
        fields = stream.schema.fields.values()
        table = self.maps.get(f"{EQUAL}{stream.name}_a")
        id_ = next((f for f in fields if f.coalesced and f.name == "coalesced_id"), None)
        if table is None or id_ is None:
            return stream
        key = self.btf.type(self.btf.map_member(table.name, "key") or 0)
        said = next((t.removeprefix("doc:") for t in getattr(strip(key), "tags", ()) if t.startswith("doc:")), "")
        shape = stream.schema
        plain = Schema(shape.name, shape.size, [f for f in fields if not f.coalesced], shape.doc)
        counted = Schema(shape.name, shape.size, [f for f in fields if f is not id_], shape.doc)
        return stream._replace(schema=plain, coalescing=Coalescing(said, counted, id_, table))

    def _swapped(self, map_: Map) -> StreamSpec:
        inner = self.maps[f"{map_.name}_a"]
        return StreamSpec(map_.name, "swapped", self._entries(map_.name, inner), map_, "the map's key and value")

    def _entries(self, name: str, map_: Map) -> Schema:
        key, value = (self.btf.map_member(name, part) for part in ("key", "value"))
        return table_schema(
            name,
            self.btf.type(key) if key else None,
            self.btf.type(value) if value else None,
            map_.key_size,
            map_.value_size,
        )

    def _tables(self, has_buffers: bool) -> list[StreamSpec]:
        """Return the maps that hold results, without internal state and configuration."""
        tables = [m for m in self.maps.values() if m.type in _TABLES and not m.internal and not _of_libbpf(m)]
        if not tables:
            return []
        from eunomia.kernel.foreign.results import is_result

        streams = []
        for map_ in tables:
            single = map_.max_entries == 1 and map_.type in {ARRAY, PERCPU_ARRAY}
            if is_result(self.uses.get(map_.name), single, has_buffers):
                streams.append(self._table(map_, {}))
        return streams

    @cached_property
    def _walked(self) -> Walked:
        from eunomia.kernel.foreign import bytecode

        return bytecode.walked(self.data)

    def _table(self, map_: Map, chosen: Mapping[str, str]) -> StreamSpec:
        stream = StreamSpec(map_.name, "table", self._entries(map_.name, map_), map_, "the map's key and value")
        if map_.type not in PER_CPU:
            return stream
        from eunomia.kernel import percpu

        plan = percpu.plan(stream.schema, aligned(map_.key_size), map_.name, chosen)
        return stream._replace(schema=plan.schema, cpus=plan)

    def choose_cpus(self, chosen: Mapping[str, str], rows: Collection[str]) -> None:
        """Set how CPUs' values are merged, ``MAP.COLUMN`` -> rule, and which maps have a row for each CPU.

        Raises :class:`BadSetting`.
        """
        from eunomia.kernel import percpu

        tables = {s.map.name: s for s in self.streams.values() if s.cpus is not None or s.cpu_rows}
        wanted: dict[str, dict[str, str]] = {}
        for word, rule in chosen.items():
            name = next((n for n in tables if word.startswith(f"{n}.")), word.partition(".")[0])
            wanted.setdefault(name, {})[word[len(name) + 1 :]] = rule
        for name in [*wanted, *rows]:
            if name not in tables:
                raise BadSetting(f"{self.name} shows no per-CPU map {name!r}: there are {', '.join(tables) or 'none'}")
        for name, rules in wanted.items():
            map_ = tables[name].map
            percpu.check(self._entries(name, map_), aligned(map_.key_size), rules)
            self.streams[name] = self._scaled(self._with_stacks(self._table(map_, rules)))
        for name in rows:
            map_ = tables[name].map
            shape = percpu.rows_schema(self._entries(name, map_), aligned(map_.key_size))
            split = tables[name]._replace(schema=shape, cpus=None, cpu_rows=True)
            self.streams[name] = self._scaled(self._with_stacks(split))

    def _globals(self, alone: bool) -> list[StreamSpec]:
        """Return the global variables that programs write to; ``alone`` if there is nothing else to show."""
        internal = [m for m in self.maps.values() if m.internal]
        sections = {section_of(m.name): m for m in internal if section_of(m.name).startswith((".bss", ".data"))}
        if not sections:
            return []
        from eunomia.kernel.foreign.results import globals_shown

        streams = []
        for section, map_ in sections.items():
            members = globals_shown(self.btf, self._walked, section, alone)
            if members:
                shape = schema(Struct(section[1:], map_.value_size, tuple(members)))
                name = section[1:] if section[1:] not in self.maps else section
                how = "the global variables that the programs write to"
                streams.append(StreamSpec(name, "globals", shape, map_, how))
        return streams


def is_iterator(program: Program) -> bool:
    """Return whether a program is an iterator, which writes when it is read."""
    return program.section.lstrip("?").partition("/")[0] in {"iter", "iter.s"}


def _derived(name: str, shape: Schema) -> StreamSpec:
    place = Map(name, 0, "none", 0, 0, 0, internal=True)
    return StreamSpec(name, "derived", shape, place, "columns declared in Python")


@cache
def printed() -> StreamSpec:
    """Return the stream of the object that reads what others print."""
    with open(PRINTK, "rb") as file:
        follower = Spec(file.read(), "printk")
    follower.close()
    return follower.streams["printk"]


def lines_schema(name: str) -> Schema:
    """Return the schema of text that an iterator writes: a row per line."""
    return Schema(name, 8, [Field("line", 0, 8, "II", "str", ctype="text", doc="a line of its output")])


def naming(shape: Schema, programs: Sequence[str]) -> Schema:
    """Return the schema of printed text with programs' names for their numbers, or without, if not known."""
    fields = list(shape.fields.values())
    if programs:
        names = dict(enumerate(programs))
        fields = [f._replace(names=names, meaning="enum") if f.name == "program" else f for f in fields]
    else:
        fields = [f for f in fields if f.name != "program"]
    return Schema(shape.name, shape.size, fields, shape.doc)


def _said_of_unions(stream: StreamSpec) -> StreamSpec:
    shapes = [stream.schema, *stream.shapes]
    said = next((hint for shape in shapes if (hint := unions.hint(shape.fields.values()))), "")
    return stream._replace(hint=stream.hint or said)


_kernel_btf: list[int] = []


def kernel_btf() -> int:
    """Return the memory file that has the needed part of the kernel's BTF while an object is loaded."""
    if not _kernel_btf:
        _kernel_btf.append(os.memfd_create("kernel-btf", os.MFD_CLOEXEC))
    return _kernel_btf[0]


def aligned(size: int) -> int:
    """Return a size rounded up to 8 bytes, as for keys and values in the kernel and in our records."""
    return (size + 7) // 8 * 8


def name_of(path: str | os.PathLike[str]) -> str:
    """Return the name of an object in a file: ``probe`` for ``/tmp/probe.bpf.o``."""
    # it is shown in rows and messages: invalid text and control characters must be escaped
    name = "".join([c if c.isprintable() else "_" for c in os.fsdecode(os.path.basename(path))])
    return name.removesuffix(".o").removesuffix(".bpf")


def _of_libbpf(map_: Map) -> bool:
    """Return whether a map is one that <bpf/usdt.bpf.h> declares for libbpf."""
    return map_.name.startswith("__bpf_usdt_")


def section_of(map_name: str) -> str:
    """Return the section of a global data map: libbpf prefixes it with the object's name."""
    return map_name[map_name.index(".") :] if "." in map_name else map_name


def memory_of(map_: Any) -> tuple[Any, int]:
    """Return a global data map's memory and its size; None if it has none."""
    size = ffi.new("size_t *")
    memory = lib.eu_map_memory(map_, size)
    return (None, 0) if memory == ffi.NULL else (memory, size[0])


def walk_programs(object_: Any) -> list[Any]:
    """Return the programs of a libbpf object."""
    return _walk(lib.bpf_object__next_program, object_)


def walk_maps(object_: Any) -> list[Any]:
    """Return the maps of a libbpf object."""
    return _walk(lib.bpf_object__next_map, object_)


def _walk(following: Any, object_: Any) -> list[Any]:
    found, last = [], ffi.NULL
    while (last := following(object_, last)) != ffi.NULL:
        found.append(last)
    return found
