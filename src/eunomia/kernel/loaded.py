# SPDX-License-Identifier: BSD-2-Clause
"""A live object: loaded, attached and detached in separate steps; it owns its links and the readers of its streams."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from eunomia.kernel import attach, casts, entries, iterator, settings, sizes
from eunomia.kernel.attachment import Attachment, HandlerAttachment, Hook
from eunomia.kernel.beside import beside
from eunomia.kernel.coalesced import CoalescedReader, Windows
from eunomia.kernel.count import Count
from eunomia.kernel.diagnose import attach_error, load_error, no_descriptors
from eunomia.kernel.errors import BadSetting, KernelError, NotPermitted, Unsupported
from eunomia.kernel.hooks.chain import Handler
from eunomia.kernel.iterator import IteratorReader
from eunomia.kernel.libbpf import error, ffi, lib, log_start, log_take, text
from eunomia.kernel.map_handle import MapHandle
from eunomia.kernel.map_snapshot import GlobalsReader, SwappedReader, TableReader
from eunomia.kernel.ring import PerfReader, RingReader
from eunomia.kernel.spec import (
    EQUAL,
    HASH,
    LEDGER,
    NEXT,
    PER_CPU,
    PERF_EVENT_ARRAY,
    PROG_ARRAY,
    RINGBUF,
    STACK_TRACE,
    Program,
    Spec,
    StreamSpec,
    is_iterator,
    memory_of,
    section_of,
    walk_maps,
    walk_programs,
)
from eunomia.python_stream import PythonStreamReader
from eunomia.typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from eunomia.kernel.attach import Link
    from eunomia.kernel.hooks.begun import Reader
    from eunomia.kernel.reuse import Side
    from eunomia.kernel.stacks import Stacks

_ITERATED = frozenset({"lines", "records"})
_READER = "eunomia_reader"  # of eunomia/syscall_time.h: which of those it is that ask when calls began
_TIMED = "latency"  # of the same: whether the object asks at all
_UNREAD = "eunomia_unread_"  # of eunomia/stream.h: the constant that turns a stream off

Readers = RingReader | PerfReader | TableReader | PythonStreamReader


_COALESCE = "eunomia_coalesce_"  # of eunomia/coalesce.h: the constant by which a stream's equal events are counted
_SEED = "eunomia_seed"  # ... and what numbers for equal things begin with


class Loaded:
    """A loaded object: :meth:`attach` and :meth:`detach` it any number of times, then :meth:`close` it.

    As a context manager it leaves nothing attached.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        programs: Sequence[str] | None = None,
        set_: Mapping[str, object] | None = None,
        ring_size: int | None = None,
        map_sizes: Mapping[str, int] | None = None,
        share: Mapping[str, int] | None = None,
        targets: Mapping[str, Sequence[str]] | None = None,
        unattached: Sequence[str] = (),
        streams: Sequence[str] = (),
        coalesce: int = 0,
        meanwhile: Callable[[], None] | None = None,
        before: Loaded | None = None,
        fresh_maps: bool = False,
        swappable: bool = False,
    ) -> None:
        """Load a spec's programs, all or those named, without attaching them.

        ``set_`` gives settings and entries of maps by their paths, ``ring_size`` the bytes of each ring (a power
        of two), ``map_sizes`` the numbers of entries of maps, ``share`` the descriptors of maps to be used
        instead of the object's own, ``targets`` where to attach programs instead of where their sections
        say, ``unattached`` programs that are loaded and never attached; ``streams`` are those that will be read,
        all if none is named; ``coalesce`` is the window in ns in which equal events are counted, 0 for none.
        ``meanwhile`` is called while the kernel verifies the programs.
        ``before`` is the object that this one replaces: it uses that one's maps as :mod:`eunomia.kernel.reuse` says,
        and with ``fresh_maps`` empty ones instead of those that differ. With ``swappable``, programs are attached
        so that others can replace them.
        Raises what :mod:`eunomia.kernel.errors` lists.
        """
        self.spec = spec
        self.readers: dict[str, Readers] = {}
        self.maps: dict[str, MapHandle] = {}
        self.refused: dict[str, KernelError] = {}
        self._targets = targets or {}
        self._unattached = frozenset(unattached)
        self._unread = [n for n in spec.streams if streams and n not in streams]
        self._window = coalesce
        can = {name for name, stream in spec.streams.items() if stream.coalescing is not None}
        self._coalesced = can - {*self._unread} if coalesce else set()
        self._ignored: list[Any] = []  # rings of foreign objects that are not read
        self._adopted: dict[str, tuple[Loaded, str]] = {}
        self.attachments: list[Attachment] = []
        self.to_take: dict[str, Attachment] = {}  # of the object that it replaces, by the program that is to be there
        self._before = before
        self._swappable = swappable
        self._missed = 0  # on hooks that it gave away, less what was missed on those that it took before it did
        self._stacks: list[Stacks] = []
        self._armed: Any = None
        self._chosen = [p for p in spec.programs if programs is None or p.name in programs]
        self._sized = sizes.given(spec.name, spec.maps, map_sizes or {})
        if ring_size:
            rings = {n: m for n, m in self._sized.items() if m.type == RINGBUF and n not in (map_sizes or {})}
            self._sized |= {name: map_._replace(max_entries=ring_size) for name, map_ in rings.items()}
        self.kept: frozenset[str] = frozenset()  # maps that it goes on with
        self._entries: list[entries.Entry] = []
        self._images: dict[str, bytes] = {}  # of sections that got values from another object, before that
        self._begun: Reader | None = None
        self._object: Any = None
        try:
            set_, share = self._with_begun(set_ or {}, share or {})
            self._object = spec.take()
            for program in self._chosen:
                if is_iterator(program):
                    maps = [m.name for m in spec.maps.values() if not m.internal]
                    iterator.check(program, "".join(self._targets.get(program.name, ())), maps)
            self._size(ring_size, map_sizes or {})
            self._prepare(set_, share)
            if before is not None:
                self._go_on_with(before, share, fresh_maps)
            self._load(meanwhile)
            self._write_entries()
            self._open_streams()
        except BaseException:
            self.close()
            raise

    @classmethod
    def attached(
        cls, spec: Spec, *, ready: Callable[[Loaded], None] | None = None, skip_refused: bool = False, **options: Any
    ) -> Self:
        """Load a spec and attach it; ``ready`` is called in between. Options as the constructor takes them."""
        live = cls(spec, **options)
        try:
            if ready is not None:
                ready(live)
            live.attach(skip_refused=skip_refused)
        except BaseException:
            live.close()
            raise
        return live

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _with_begun(
        self, set_: Mapping[str, object], share: Mapping[str, int]
    ) -> tuple[Mapping[str, object], Mapping[str, int]]:
        """Return settings and shared maps with those of an object that asks when system calls began."""
        ends = any(p.section.startswith("syscall_exit") for p in self._chosen)
        if not ends or _READER not in self.spec.settings or not self._is_timed(set_):
            return set_, share
        from eunomia.kernel.hooks.begun import MAP, Reader

        self._begun = Reader()
        return {_READER: self._begun.bit, **set_}, {MAP: self._begun.map, **share}

    def _is_timed(self, set_: Mapping[str, object]) -> bool:
        setting = self.spec.settings[_TIMED]
        image = bytearray(self.spec.images[setting.section])
        if _TIMED in set_:
            settings.write(setting, set_[_TIMED], image)
        return bool(image[setting.offset])

    def _size(self, ring_size: int | None, map_sizes: Mapping[str, int]) -> None:
        for handle in walk_maps(self._object):
            name, type_ = text(lib.bpf_map__name(handle)), lib.bpf_map__type(handle)
            sizes.apply(handle, self._sized[name], name in map_sizes)
            if name.startswith(EQUAL) and type_ == HASH and name[len(EQUAL) : -2] not in self._coalesced:
                lib.bpf_map__set_max_entries(handle, 1)  # nothing will be counted
            if type_ == RINGBUF:
                # __type(value, ...) is for us; the kernel requires 0 here
                lib.bpf_map__set_value_size(handle, 0)
                if ring_size and name not in map_sizes:
                    lib.bpf_map__set_max_entries(handle, ring_size)
            elif type_ == PERF_EVENT_ARRAY and lib.bpf_map__value_size(handle) != 4:
                lib.bpf_map__set_value_size(handle, 4)

    def _prepare(self, set_: Mapping[str, object], share: Mapping[str, int]) -> None:
        chosen = {p.name: p for p in self._chosen}
        set_ = {**casts.settings(self.spec.settings), **set_}
        for handle in walk_programs(self._object):
            program = chosen.get(text(lib.bpf_program__name(handle)))
            lib.bpf_program__set_autoload(handle, program is not None)
            if program is not None:
                attach.prepare(self.spec, program, handle, self._targets.get(program.name, ()))
        for handle in walk_maps(self._object):
            name = text(lib.bpf_map__name(handle))
            # nothing of ours stays in the kernel
            lib.bpf_map__set_pin_path(handle, ffi.NULL)
            if name in share:
                self._use(handle, share[name])
        self._set(set_)

    def _use(self, handle: Any, fd: int) -> None:
        """Have a map that is not loaded yet be another that is."""
        if lib.bpf_map__reuse_fd(handle, fd):
            if ffi.errno == errno.EMFILE:
                raise no_descriptors(self.spec.name)
            name = text(lib.bpf_map__name(handle))
            raise KernelError(f"{self.spec.name}: map {name} cannot be shared: {error().strerror}")

    def _go_on_with(self, before: Loaded, shared: Mapping[str, int], fresh: bool) -> None:
        """Take over what another object's maps hold, as far as it fits."""
        from eunomia.kernel import reuse

        kept = reuse.kept(before._side(), self._side(), fresh=fresh)
        handles = {section_of(text(lib.bpf_map__name(h))): h for h in walk_maps(self._object)}
        theirs = {section_of(name): handle for name, handle in before.maps.items()}
        for name in (kept.maps - shared.keys()) | kept.sections:
            self._use(handles[name], theirs[name].fd)
        self.kept = kept.maps
        given = {(e.table.map.name, e.part.name): e.value for e in before._entries}
        self._entries = [
            e for e in self._entries
            if e.table.map.name not in kept.maps or given.get((e.table.map.name, e.part.name), e) != e.value
        ]  # fmt: skip
        values: dict[str, bytes] = {}
        for section, to, at, size in kept.variables:
            memory, length = memory_of(handles[section])
            if section not in values:
                self._images[section] = bytes(ffi.buffer(memory, length))
                values[section] = theirs[section].lookup(bytes(4)) or b""
            ffi.buffer(memory, length)[to : to + size] = values[section][at : at + size]

    def _side(self) -> Side:
        from eunomia.kernel.reuse import Side

        images = {}
        for handle in walk_maps(self._object):
            memory, size = memory_of(handle) if lib.bpf_map__is_internal(handle) else (None, 0)
            if memory is not None:
                images[section_of(text(lib.bpf_map__name(handle)))] = bytes(ffi.buffer(memory, size))
        return Side(self.spec, self._sized, images | self._images)

    def _set(self, set_: Mapping[str, object]) -> None:
        silent = (f"{_UNREAD}{name}" for name in self._unread)
        set_ = {**set_, **{name: True for name in silent if name in self.spec.settings}}
        if self._coalesced:
            counting = {f"{_COALESCE}{name}": True for name in self._coalesced}
            set_ = {**set_, **counting, _SEED: int.from_bytes(os.urandom(8)) | 1}
        if not set_:
            return
        handles = {section_of(text(lib.bpf_map__name(h))): h for h in walk_maps(self._object)}
        memories: dict[str, bytearray] = {}
        tables = {name: table._replace(map=self._sized[name]) for name, table in self.spec.tables.items()}
        for path, value in set_.items():
            entry = entries.locate(tables, path, value, [p.name for p in self.spec.programs])
            if entry is not None:
                self._entries.append(entry)
                continue
            setting = settings.locate(self.spec.settings, path)
            if setting is None:
                types = {name: table.types for name, table in tables.items()}
                raise settings.unknown(self.spec.name, path, self.spec.settings, types)
            if setting.section not in memories:
                memory, size = memory_of(handles[setting.section])
                memories[setting.section] = bytearray(ffi.buffer(memory, size)) if memory is not None else bytearray()
            settings.write(setting, value, memories[setting.section])
        for section, content in memories.items():
            ffi.memmove(memory_of(handles[section])[0], content, len(content))

    def _verified(self) -> tuple[int, str]:
        """Have the kernel create the maps and verify the programs; return libbpf's error and its log."""
        log_start()
        failed = lib.bpf_object__load(self._object)
        return failed, log_take()

    def _write_entries(self) -> None:
        """Write the entries of maps that were set; in per-CPU maps the same value for all CPUs."""
        programs = {text(lib.bpf_program__name(h)): lib.bpf_program__fd(h) for h in walk_programs(self._object)}
        for entry in self._entries:
            map_ = entry.table.map
            handle = self.maps[map_.name]
            if map_.type == PROG_ARRAY:
                content = max(programs[str(entry.value)], 0).to_bytes(4, sys.byteorder)
            else:
                before = handle.lookup(entry.key) or bytes(map_.value_size)
                content = entries.merged(entry, before[: map_.value_size])
            if map_.type in PER_CPU:
                content = content.ljust((map_.value_size + 7) // 8 * 8, b"\0") * lib.libbpf_num_possible_cpus()
            try:
                handle.update(entry.key, content)
            except OSError as failed:
                if failed.errno == errno.E2BIG:
                    room = self._sized[map_.name].max_entries
                    raise BadSetting(f"map {map_.name} has room for {room} entries: raise --map-size") from None
                raise KernelError(f"{self.spec.name}: {entry.part.name} could not be set: {failed.strerror}") from None

    def _load(self, meanwhile: Callable[[], None] | None) -> None:
        failed, said = self._verified() if meanwhile is None else beside(meanwhile, self._verified)
        if failed:
            raise load_error(self.spec, -failed, said, self._chosen)
        self.maps = {text(lib.bpf_map__name(h)): MapHandle(h) for h in walk_maps(self._object)}

    def _open_streams(self) -> None:
        for name, inert in (self.spec.streams | self.spec.raw).items():
            if inert.kind == "printk" or (inert.kind in _ITERATED and name in self._unread):
                continue  # another object's, see adopt(); or not read
            if inert.kind in _ITERATED:
                self.readers[name] = IteratorReader(inert, functools.partial(self._begin, name))
                continue
            if inert.kind == "derived":
                self.readers[name] = PythonStreamReader(inert.schema)
                continue
            handle = self.maps[inert.map.name]
            if name in self._unread:
                if inert.kind == "ring" and f"{_UNREAD}{name}" not in self.spec.settings:
                    self._ignored.append(lib.eu_ring_open(handle.fd, self._max_entries(inert.map.name)))
                    if self._ignored[-1] == ffi.NULL:
                        self._ignored.pop()
                        raise error()
                continue
            stream = self._with_stacks(inert._replace(map=self._sized[inert.map.name]))
            if stream.kind == "ring":
                self.readers[name] = self._ring(stream, handle.fd)
            elif stream.kind == "perf":
                self.readers[name] = PerfReader(stream, handle.fd)
            elif stream.kind == "swapped":
                inner = self._sized[f"{name}_a"]
                fds = (self.maps[f"{name}_a"].fd, self.maps[f"{name}_b"].fd)
                self.readers[name] = SwappedReader(stream, handle.fd, inner, fds)
            elif stream.kind == "globals":
                self.readers[name] = GlobalsReader(stream, handle.fd)
            else:
                self.readers[name] = TableReader(stream, handle.fd)

    def _ring(self, stream: StreamSpec, fd: int) -> RingReader:
        size = self._max_entries(stream.map.name)
        if stream.name not in self._coalesced or stream.coalescing is None:
            return RingReader(stream, fd, size)
        name = f"{EQUAL}{stream.name}"
        tables = (self.maps[f"{name}_a"].fd, self.maps[f"{name}_b"].fd)
        windows = Windows(name, self.maps[name].fd, tables, self._window)
        table = self._sized[stream.coalescing.table.name]
        return CoalescedReader(stream._replace(coalescing=stream.coalescing._replace(table=table)), fd, size, windows)

    def _with_stacks(self, stream: StreamSpec) -> StreamSpec:
        maps = {m.name: self.maps[m.name] for m in self.spec.maps.values() if m.type == STACK_TRACE}
        if not maps and all(f.meaning != "stack" for f in stream.schema.fields.values()):
            return stream
        from eunomia.kernel import stacks

        shape, opened = stacks.resolve(stream.schema, maps, self.spec.stack_maps)
        self._stacks += opened
        return stream._replace(schema=shape)

    def _max_entries(self, name: str) -> int:
        for handle in walk_maps(self._object):
            if text(lib.bpf_map__name(handle)) == name:
                return int(lib.bpf_map__max_entries(handle))
        raise KeyError(name)

    def attach(self, *, skip_refused: bool = False) -> None:
        """Attach the programs; if that fails for one, none stays attached.

        Those that can take the place of another object's wait for :class:`eunomia.kernel.handover.Handover`.

        With ``skip_refused``, programs that cannot be attached are in ``refused`` afterwards, and the others run.
        """
        for reader in self.readers.values():
            if isinstance(reader, CoalescedReader):
                reader.is_last = False
        try:
            self._attach(skip_refused)
            if self._before is None:
                self._start(skip_refused)
        except BaseException:
            self.detach()
            raise

    def _attach(self, skip_refused: bool) -> None:
        wrong = [name for name in self._targets if name not in {p.name for p in self.spec.programs}]
        if wrong:
            names = ", ".join(p.name for p in self.spec.programs)
            raise BadSetting(f"{self.spec.name} has no program {wrong[0]!r}: it has {names}")
        for other, _ in self._adopted.values():
            if not other.is_attached:
                other.attach()
        programs = [p for p in self._chosen if p.name not in self._unattached]
        if self._begun is not None:
            self._begun.begin(p.section for p in programs if p.section.startswith("syscall_exit"))
        hooks: dict[str, Hook] = {}
        for program in programs:
            with self._refusing(program.name, skip_refused):
                hooks[program.name] = attach.hook(program, self._handle(program.name), self._given(program))
        self.to_take = _matching([] if self._before is None else self._before.attachments, hooks)
        for program in programs:
            if program.name not in hooks:
                continue
            with self._refusing(program.name, skip_refused):
                there = self.to_take.get(program.name)
                if there is not None:
                    there.check(self.spec, program, self._handle(program.name), self._given(program))
                else:
                    self.attachments.append(self._attachment(program, hooks[program.name]))
        self.to_take = {name: there for name, there in self.to_take.items() if name not in self.refused}

    def _attachment(self, program: Program, hook: Hook) -> Attachment:
        handle, targets = self._handle(program.name), self._given(program)
        handler = self.program(program.name)
        if isinstance(handler, Handler):
            return HandlerAttachment(
                program.name, hook, functools.partial(attach.attach_handler, program, handler, targets)
            )
        if is_iterator(program):
            return Attachment(program.name, hook, [self._iterate(program, handle)], is_swappable=True)
        if self._swappable:
            from eunomia.kernel.hooks import private

            return private.attach(self.spec, program, hook, handle, targets)
        links = attach.attach(self.spec, program, handle, targets)
        return Attachment(program.name, hook, links, is_swappable=attach.is_updated(program))

    def _start(self, skip_refused: bool) -> None:
        for attachment in list(self.attachments):
            with self._refusing(attachment.name, skip_refused):
                attachment.start()
            if attachment.name in self.refused:
                self.attachments.remove(attachment)

    @contextmanager
    def _refusing(self, program: str, skip: bool) -> Iterator[None]:
        try:
            yield
        except NotPermitted:
            raise
        except KernelError as error_:
            if not skip:
                raise
            self.refused[program] = error_

    def _given(self, program: Program) -> Sequence[str]:
        return self._targets.get(program.name, ())

    def _handle(self, program: str) -> Any:
        return next(h for h in walk_programs(self._object) if text(lib.bpf_program__name(h)) == program)

    def program(self, name: str) -> Handler | int:
        """Return what is put on a hook to have a program run there: its descriptor, with that of a handler's table."""
        fd: int = lib.bpf_program__fd(self._handle(name))
        following = self.maps.get(NEXT + name)
        if following is None:
            return fd
        section = next(p.section for p in self._chosen if p.name == name)
        return Handler(fd, following.fd, section)

    def _iterate(self, program: Program, handle: Any) -> Link:
        log_start()
        maps = {n: self.maps[n].fd for n, m in self.spec.maps.items() if not m.internal}
        target = "".join(self._targets.get(program.name, ()))  # at most one
        made = iterator.attach(program, handle, target, maps)
        if made == ffi.NULL:
            raise attach_error(self.spec, program, ffi.errno or errno.EINVAL, log_take(), [target] if target else ())
        return attach.linked(made)

    def _begin(self, program: str) -> int | None:
        """Return a descriptor to read an iterator's output from; None if it is detached."""
        there = next((a for a in self.attachments if a.name == program and a.links), None)
        if there is None:
            return None
        descriptor: int = lib.bpf_iter_create(there.links[0].fd)
        if descriptor < 0:
            raise error(descriptor)
        return descriptor

    # While it is loaded

    @property
    def is_attached(self) -> bool:
        """Whether a program of it is attached."""
        return any(a.is_attached for a in self.attachments)

    @property
    def ignores_rings(self) -> bool:
        """Whether it has rings that :meth:`ignore` empties."""
        return bool(self._ignored)

    def ignore(self) -> None:
        """Empty the rings of streams that are not read: a full one would change its program's behaviour."""
        for ring in self._ignored:
            lib.eu_ring_skip(ring)

    @property
    def armed(self) -> Any:
        """The word by which the object's probes know that the consumer sleeps; None in foreign objects.

        Also None if a probe could use up the wakeup for a ring that is not read.
        """
        if self._ignored:
            return None
        if self._armed is None:
            handle = next((m for n, m in self.maps.items() if n.endswith(".data.eunomia")), None)
            memory = lib.eu_map_mmap(handle.fd, handle.value_size) if handle else ffi.NULL
            self._armed = ffi.cast("uint32_t *", memory) if memory != ffi.NULL else None
        return self._armed

    def iterate(self, program: str) -> bytes:
        """Run an attached iterator from its beginning to its end; return its output.

        Raises :class:`OSError`.
        """
        descriptor = self._begin(program)
        assert descriptor is not None
        with open(descriptor, "rb", buffering=0) as file:
            written = []
            while piece := os.read(file.fileno(), 1 << 20):
                written.append(piece)
        return b"".join(written)

    def programs(self) -> list[Any]:
        """Return libbpf's handles of the programs that are loaded."""
        chosen = {p.name for p in self._chosen}
        return [h for h in walk_programs(self._object) if text(lib.bpf_program__name(h)) in chosen]

    def adopt(self, name: str, other: Loaded, stream: str) -> None:
        """Own another object and its stream; it is detached and closed with this one."""
        self._adopted[name] = other, stream
        self.readers[name] = other.readers[stream]

    def count(self, stream: str) -> Count:
        """Return the records that a stream's probe has emitted and lost so far.

        A derived stream has emitted the rows that were made, and lost those that did not fit and the records that
        its raw rings refused.
        """
        if stream in self._adopted:
            other, theirs = self._adopted[stream]
            return other.count(theirs)
        reader = self.readers[stream]
        handle = self.maps.get(LEDGER + stream)
        if isinstance(reader, TableReader):
            lost = self._ledger(handle)[1] if handle else 0
            return Count(reader.drained, lost)
        if isinstance(reader, PythonStreamReader):
            refused = sum(self._ledger(self.maps[LEDGER + raw])[1] for raw in self.spec.raw)
            return Count(reader.emitted, reader.lost + refused)
        if handle is not None:
            emitted, lost = self._ledger(handle)
            lost += self.missed()
            if isinstance(reader, CoalescedReader):
                behind, events = reader.behind, emitted + reader.events
                return Count(emitted + reader.rows, lost + behind, events, behind)
            return Count(emitted, lost)
        if isinstance(reader, PerfReader):
            return Count(reader.drained, reader.lost)
        return Count(reader.drained, None)

    def ledgers(self, stream: str) -> frozenset[str]:
        """Return the maps in which a stream's records are counted; none if only the reader counts them."""
        if stream in self._adopted:
            return frozenset()
        names = self.spec.raw if isinstance(self.readers[stream], PythonStreamReader) else [stream]
        return frozenset(LEDGER + name for name in names if LEDGER + name in self.maps)

    @staticmethod
    def _ledger(handle: MapHandle) -> tuple[int, int]:
        raw = handle.lookup(bytes(4)) or b""
        numbers = ffi.from_buffer("uint64_t[]", raw)
        each = list(numbers)
        return sum(each[0::2]), sum(each[1::2])

    def missed(self) -> int:
        """Return how often the kernel skipped a program because it was already running on that CPU.

        They can be attributed to a stream only if the object has just one.
        """
        if len(self.spec.streams) + len(self.spec.raw) != 1:
            return 0
        out, total = ffi.new("uint64_t *"), self._missed + sum(a.misses() for a in self.attachments)
        for handle in self.programs():
            if not lib.eu_recursion_misses(lib.bpf_program__fd(handle), out):
                total += out[0]
        return total

    # Attachments change hands

    def give(self, attachment: Attachment) -> None:
        """Give a program's attachment to another object."""
        self.attachments.remove(attachment)
        self._missed += attachment.misses()

    def take(self, attachment: Attachment) -> None:
        """Take the attachment of another object's program."""
        self.attachments.append(attachment)
        self._missed -= attachment.misses()

    def rest(self) -> None:
        """Detach adopted objects."""
        for other, _ in self._adopted.values():
            other.detach()

    def attach_again(self) -> None:
        """Attach the programs that were detached while another object ran; raises :class:`KernelError`."""
        gone = [a for a in self.attachments if not a.is_attached]
        self.attachments = [a for a in self.attachments if a.is_attached]
        self._before = None
        chosen = self._chosen
        try:
            self._chosen = [p for p in chosen if p.name in {a.name for a in gone}]
            self._attach(False)
            self._start(False)
        finally:
            self._chosen = chosen

    def detach(self) -> None:
        """Detach the programs, and wait for those that run; streams can still be drained."""
        for reader in self.readers.values():
            if isinstance(reader, IteratorReader) and self.is_attached:
                reader.prepare()
        attachments, self.attachments = self.attachments, []
        for attachment in attachments:
            self._missed += attachment.misses()
            attachment.close()
        if self._begun is not None:
            self._begun.end()
        if attachments:
            lib.eu_settle()
        for reader in self.readers.values():
            if isinstance(reader, CoalescedReader):
                reader.is_last = True
        self.rest()

    def close(self) -> None:
        """Detach, unmap and free everything."""
        self.detach()
        for name, reader in self.readers.items():
            if name not in self._adopted:
                reader.close()
        for other, _ in self._adopted.values():
            other.close()
        ignored, self._ignored = self._ignored, []
        for ring in ignored:
            lib.eu_ring_close(ring)
        if self._begun is not None:
            self._begun.close()
            self._begun = None
        if self._armed is not None:
            lib.eu_map_munmap(self._armed, 4)
            self._armed = None
        if self._object is not None:
            lib.bpf_object__close(self._object)
            self._object = None


def _matching(attachments: Sequence[Attachment], hooks: Mapping[str, Hook]) -> dict[str, Attachment]:
    """Return what programs can take over: each that of its own name, or else the first on the same hook."""
    free = [a for a in attachments if a.is_swappable and a.is_attached]
    found: dict[str, Attachment] = {}
    for by_name in (True, False):
        for name, hook in hooks.items():
            there = next((a for a in free if a.hook == hook and (a.name == name or not by_name)), None)
            if there is not None and name not in found:
                found[name] = there
                free.remove(there)
    return found


def load_first(
    spec: Spec, variants: Sequence[tuple[str, Sequence[str]]], always: Sequence[str] = (), **options: Any
) -> tuple[str, Loaded]:
    """Load and attach the first variant that this kernel supports; return its name and the live object.

    ``variants`` are names and the programs that belong to them, the best first; ``always`` are programs that
    every variant needs. Raises the :class:`Unsupported` of the best if none is supported.
    """
    first: Unsupported | None = None
    for name, programs in variants:
        try:
            return name, Loaded.attached(spec, programs=[*programs, *always], **options)
        except Unsupported as error_:
            first = first or error_
    assert first is not None
    raise first
