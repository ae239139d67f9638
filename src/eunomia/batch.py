# SPDX-License-Identifier: BSD-2-Clause
"""Batch: one drained piece of one stream.

The fixed parts of its records stand in ``data``, one every ``schema.size`` bytes; what varies in length (``str_t``)
stands in ``heap``, and the fixed part holds its place there. Values are made by column or by row (msgspec structs),
and only when they are asked for; :mod:`eunomia.arrays` has its columns for numpy, pyarrow and pandas.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, repeat

from eunomia import _native, meaning
from eunomia.columns import column as columns
from eunomia.columns import joined
from eunomia.columns.column import Coded
from eunomia.columns.meanings import MEANINGS, in_use, render, tagged
from eunomia.identity import UNKNOWN_IDENTITY, Identity
from eunomia.process_identity import UNKNOWN_PROCESS, Process
from eunomia.stream_schema import Data, Field, Schema
from eunomia.typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import pyarrow

_ORDER = "<" if sys.byteorder == "little" else ">"
_FEW = 4  # a coded column is less work than a value a row where so many rows share each value, or more
_fresh = _native.ffi.new_allocator(should_clear_after_alloc=False)  # memory that C writes before it is read


class Batch:
    """Some records of one stream, in time order. Cheap to slice; nothing is decoded before it is read.

    ``clock`` is what to add to the kernel's monotonic nanoseconds to get nanoseconds since the epoch;
    ``taken`` is when the batch was drained, in nanoseconds since the epoch.
    """

    __slots__ = (
        "_codes",
        "_text",
        "actor",
        "actors",
        "clock",
        "count",
        "data",
        "groups",
        "heap",
        "heap_at",
        "owner",
        "owners",
        "packed",
        "records",
        "schema",
        "stream",
        "taken",
        "tidy",
        "tracker",
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        data: Data,
        heap: bytes = b"",
        *,
        tracker: str = "",
        stream: str = "",
        clock: int = 0,
        taken: int = 0,
        identities: Sequence[Identity] | None = None,
        packed: bool = False,
    ) -> None:
        """Take records; ``packed`` says that the heap holds all texts of all rows in order, with a NUL each."""
        self.schema = schema
        self.data = data
        self.heap = heap
        self.tracker = tracker
        self.stream = stream
        self.clock = clock
        self.taken = taken
        self.count = len(data) // schema.size
        # Who each row belongs to: the identities that there are, and which of them each row has; the latter
        # is None where there is but one.
        self.owners: Sequence[Identity] = (UNKNOWN_IDENTITY,)
        self.owner: Sequence[int] | None = None
        # Who did it: the same of processes, where somebody asked for them.
        self.actors: Sequence[Process] = (UNKNOWN_PROCESS,)
        self.actor: Sequence[int] | None = None
        if identities is not None:
            self.identities = identities
        self.packed = packed
        self.tidy = False  # whether no path needs to be tidied
        self._text: meaning.Text | None = None
        self._codes: dict[str, Coded | int] = {}  # coded fields; a number says that there are more values than it
        self.groups: tuple[str, list[int], Sequence[int] | None] | None = None  # a field as the drain has grouped it
        self.heap_at = 0  # where in the drain's heap this one's starts
        self.records: np.ndarray[Any, Any] | None = None

    @staticmethod
    def made(
        schema: Schema, rows: Iterable[Mapping[str, int | str]], identities: Sequence[Identity] | None = None
    ) -> Batch:
        """Make a batch of rows by their fields' names: numbers, and texts where the field is a ``str_t``.

        Fields that a row does not name are 0 or empty.
        """
        data, heap = bytearray(), bytearray()
        for row in rows:
            at = len(data)
            data += bytes(schema.size)
            for field in schema.fields.values():
                value = row.get(field.name, "" if MEANINGS[field.meaning].variable else 0)
                if value == 0 and field.code[-1] == "s":
                    continue
                if isinstance(value, str):
                    text = meaning.encode(value)
                    struct.pack_into(_ORDER + "II", data, at + field.offset, len(heap), len(text))
                    heap += text + b"\0"
                else:
                    struct.pack_into(_ORDER + field.code, data, at + field.offset, value)
        batch = Batch(schema, bytes(data), bytes(heap), identities=identities)
        batch.packed = bool(schema.packs)
        return batch

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Batch {self.tracker}/{self.stream}, {self.count} rows>"

    # Whose the rows are

    def group(self, name: str) -> tuple[list[int], Sequence[int] | None]:
        """Return a 64-bit field's distinct values, and which of them each row has; None for "the only one"."""
        if self.groups is not None and self.groups[0] == name:
            return self.groups[1:]
        field = self.schema.fields[name]
        first, index = self._code([(field.offset, field.size, 0)], self.count)
        return list(self.schema.read(name, self._rows(first))), index

    @property
    def identities(self) -> Sequence[Identity]:
        """Each row's identity."""
        if self.owner is None:
            return [self.owners[0]] * self.count
        return list(map(self.owners.__getitem__, self.owner))

    @identities.setter
    def identities(self, identities: Sequence[Identity]) -> None:
        if len(identities) != self.count:
            raise ValueError(f"{len(identities)} identities for {self.count} rows")
        places: dict[Identity, int] = {}
        self.owner = [places.setdefault(identity, len(places)) for identity in identities]
        self.owners = list(places) or (UNKNOWN_IDENTITY,)

    # By row

    def raw(self, name: str) -> Sequence[Any]:
        """Return a field's values as the kernel wrote them: numbers, bytes, places in the heap."""
        return self.schema.read(name, self.data)

    def values(self, name: str) -> Sequence[Any]:
        """Return a column as people read it: text, names of errors and flags, addresses, numbers.

        ``name`` may be a field, one of :data:`VIRTUAL` or one of :mod:`eunomia.columns.joined`. Text is exact; whoever
        prints it to a terminal escapes it.
        """
        return self.schema.column(name).values(self)

    def times(self, field: Field | None = None) -> Sequence[str]:
        """Return each row's time, or the times of a field, as RFC 3339."""
        field = field or self.schema.time
        if field is None:
            return [meaning.rfc3339(self.taken)] * self.count
        return meaning.times(self.data, self.schema.size, field.offset, self.count, self.clock)

    def coded(self, name: str) -> Coded:
        """Return a column as its distinct values, as :meth:`values` shows them, and which of them each row has.

        Made when first asked for, and kept, also by slices and masks.
        """
        field = self.schema.fields.get(name)
        if field is None or name == "time":
            return self.schema.column(name).coded(self)
        return self._coded(field, self.count) or Coded((), None)

    def few(self, field: Field) -> Coded | None:
        """Return a field coded, where there are so few distinct values that this is less work; else None."""
        return self._coded(field, self.count // _FEW)

    def _coded(self, field: Field, most: int) -> Coded | None:
        known = self._codes.get(field.name)
        if isinstance(known, Coded):
            return known if len(known.values) <= most or most == self.count else None
        if known is not None and known >= most:
            return None  # it had more
        spans = self._spans(field)
        found = self._code(spans, most) if spans is not None else None
        if found is not None and found[0] is None:
            self._codes[field.name] = most
            return None
        if found is None:
            made = columns.coded(self.render(field))
        else:
            made = _distinct(self._rendered(field, self._rows(found[0])), found[1])
        self._codes[field.name] = made
        return made if len(made.values) <= most or most == self.count else None

    def _spans(self, field: Field) -> list[tuple[int, int, int]] | None:
        """Return what of a record tells two values apart: offset, size, kind; None where it is not whole bytes."""
        spans = []
        for name in dict.fromkeys((field.name, field.tag, field.length, field.count_in, field.beside)):
            one = self.schema.fields.get(name)
            if one is None:
                continue
            if one.bits is not None:
                return None
            kind = _native.lib.EU_HEAP if MEANINGS[one.meaning].variable else _native.lib.EU_BYTES
            if one.meaning == "text" and not one.length:
                kind = _native.lib.EU_TEXT
            spans.append((one.offset, one.size, kind))
        return spans

    def _code(self, spans: Sequence[tuple[int, int, int]], most: int) -> tuple[Any, Sequence[int] | None]:
        """Return the first row of each distinct value, and which of the values each row has.

        The first is None where there are more than ``most``, the second where there is one.
        """
        ffi, lib, count = _native.ffi, _native.lib, self.count
        if not count:
            return [], None
        first = _fresh("uint32_t[]", min(most, count) or 1)
        index = bytearray(4 * count)
        found = lib.eu_code(
            ffi.from_buffer(self.data), self.schema.size, count, ffi.from_buffer(self.heap), len(self.heap),
            self.heap_at, ffi.new("struct eu_span[]", spans), len(spans), most, first,
            ffi.from_buffer("uint32_t[]", index),
        )  # fmt: skip
        if found < 0:
            raise MemoryError
        if not found:
            return None, None
        return ffi.unpack(first, found), None if found == 1 else memoryview(index).cast("I")

    def _rows(self, places: Sequence[int]) -> bytes:
        """Return the records of some rows."""
        size, data = self.schema.size, self.data
        return b"".join([data[i * size : i * size + size] for i in places])

    @property
    def _texts(self) -> meaning.Text:
        if self._text is None:
            texts = len(self.schema.packs) if self.packed else 0
            self._text = meaning.Text(self.heap, texts, self.count, self.heap_at, self.tidy)
        return self._text

    def render(self, field: Field) -> Sequence[Any]:
        """Return a field's values as people read them."""
        if self.packed and field.name in self.schema.packs:
            column = self._texts.column(self.schema.packs[field.name])
            if column is not None:
                return self._texts.tidy(column) if field.meaning == "path" else column
        return self._rendered(field, self.data)

    def _rendered(self, field: Field, data: Data) -> Sequence[Any]:
        """Return a field's values in these records of the batch."""
        read = self.schema.read
        if field.meaning == "time":
            count = len(data) // self.schema.size
            return meaning.times(data, self.schema.size, field.offset, count, self.clock)
        raw = read(field.name, data)
        if field.length or field.count_in or field.meaning == "tail":
            return self._in_use(field, raw, data)
        if field.tag:
            return tagged(field, raw, read(field.tag, data))
        if field.show is not None and field.beside:
            return list(map(field.show, raw, read(field.beside, data)))
        shown = render(field, raw, self._texts)
        if field.none is None:
            return shown
        return [None if number == field.none else value for number, value in zip(raw, shown, strict=True)]

    def _in_use(self, field: Field, raw: Sequence[Any], data: Data) -> Sequence[Any]:
        """Return what is in use of an array: as much as another field says, or all that the record has."""
        if field.meaning == "tail":
            raw = [self.heap[at - self.heap_at : at - self.heap_at + size] for at, size in raw]
        lengths = self.schema.read(field.length, data) if field.length else repeat(None)
        counts = self.schema.read(field.count_in, data) if field.count_in else repeat(None)
        return [in_use(field, *one) for one in zip(raw, lengths, counts, strict=False)]

    def rows(self) -> Iterator[Any]:
        """Yield msgspec structs with ``time``, every field, and ``container``, ``pod``, ``identity``."""
        names = [n for n in self.schema.columns if n not in joined.JOINED]
        struct_type = self._row_type(names)
        identities = self.identities
        return map(
            struct_type,
            *(self.values(n) for n in names),
            (i.container for i in identities),
            (i.pod for i in identities),
            (i.state for i in identities),
        )

    def _row_type(self, names: list[str]) -> Any:
        key = tuple(names)
        if key not in self.schema._types:
            import msgspec

            safe = _attributes(names)
            self.schema._types[key] = msgspec.defstruct(
                "Row",
                [*safe.values(), "container", "pod", "identity"],
                rename={s: n for n, s in safe.items()},
                gc=False,
            )
        return self.schema._types[key]

    @overload
    def __getitem__(self, key: str) -> np.ndarray[Any, Any]: ...
    @overload
    def __getitem__(self, key: slice | Sequence[bool] | bytes | np.ndarray[Any, Any]) -> Batch: ...
    def __getitem__(self, key: Any) -> Any:
        """Return a column by name, or the rows that a slice or a mask of booleans selects."""
        if isinstance(key, str):
            records = self.records
            if records is not None and self.schema.faces.get(key) == "plain":
                return records[key]
            return self.column(key)
        if isinstance(key, slice):
            return self._pick(range(self.count)[key])
        if len(key) != self.count:
            raise IndexError(f"mask of {len(key)} values for {self.count} rows")
        return self._masked(_mask(key))

    def _pick(self, indexes: range) -> Batch:
        if indexes.step == 1:
            return self.part(indexes.start, max(indexes.start, indexes.stop))
        picked = self._like(self._rows(indexes), self.heap)
        self._lend(picked, lambda index: [index[i] for i in indexes])
        return picked

    def _masked(self, mask: bytes | bytearray) -> Batch:
        """Return the rows whose byte of the mask is not 0."""
        ffi, size, count = _native.ffi, self.schema.size, self.count
        kept = count - mask.count(0)
        if kept == count:
            return self.part(0, count)
        picked = self._compacted(mask, kept) if self.packed and kept else None
        if picked is None:
            data = bytearray(kept * size)
            _native.lib.eu_select(ffi.from_buffer(mask), count, ffi.from_buffer(self.data), size, ffi.from_buffer(data))
            picked = self._like(data, self.heap if kept else b"")

        def chosen(index: Sequence[int]) -> Sequence[int]:
            if not isinstance(index, memoryview):
                return list(compress(index, mask))
            out = bytearray(kept * index.itemsize)
            _native.lib.eu_select(
                ffi.from_buffer(mask), count, ffi.from_buffer(index), index.itemsize, ffi.from_buffer(out)
            )
            return memoryview(out).cast(index.format)  # type: ignore[call-overload, no-any-return]

        self._lend(picked, chosen)
        return picked

    def _compacted(self, mask: bytes | bytearray, kept: int) -> Batch | None:
        """Return the chosen rows with their own part of the heap; None where a text is not where it should be."""
        ffi, strings = _native.ffi, self.schema.strings
        data, heap = bytearray(kept * self.schema.size), bytearray(len(self.heap))
        length = _native.lib.eu_select_packed(
            ffi.from_buffer(mask), self.count, ffi.from_buffer(self.data), self.schema.size, ffi.from_buffer(data),
            ffi.new("uint32_t[]", strings), len(strings), ffi.from_buffer(self.heap), len(self.heap), self.heap_at,
            ffi.from_buffer(heap),
        )  # fmt: skip
        if length < 0:
            return None
        picked = self._like(data, bytes(memoryview(heap)[:length]))
        picked.packed, picked.heap_at = True, 0
        return picked

    def _lend(self, picked: Batch, chosen: Callable[[Sequence[int]], Sequence[int]]) -> None:
        """Give some of the rows their owners and actors, and what is known of their columns."""
        picked.owners, picked.actors = self.owners, self.actors
        picked.owner = None if self.owner is None else chosen(self.owner)
        picked.actor = None if self.actor is None else chosen(self.actor)
        for name, known in list(self._codes.items()):
            if isinstance(known, Coded):
                picked._codes[name] = known if known.index is None else Coded(known.values, chosen(known.index))

    def part(self, start: int, end: int) -> Batch:
        """Return the rows from ``start`` to before ``end``, with no more of the heap than is theirs."""
        size = self.schema.size
        data = self.data[start * size : end * size]
        if not self.packed or not data:
            picked = self._like(data, self.heap)
        else:
            places = struct.Struct(_ORDER + "II")
            first, _ = places.unpack_from(data, self.schema.strings[0])
            last, length = places.unpack_from(data, len(data) - size + self.schema.strings[-1])
            at = self.heap_at
            picked = self._like(data, self.heap[first - at : last + length + 1 - at])
            picked.packed, picked.heap_at = True, first
        self._lend(picked, lambda index: index[start:end])
        return picked

    def _like(self, data: Data, heap: bytes) -> Batch:
        like = Batch(
            self.schema, data, heap, tracker=self.tracker, stream=self.stream, clock=self.clock, taken=self.taken
        )
        like.heap_at = self.heap_at
        like.tidy = self.tidy
        return like

    @staticmethod
    def concatenate(batches: Sequence[Batch]) -> Batch:
        """Join batches of one stream, in the order given."""
        if not batches:
            raise ValueError("nothing to concatenate")
        first = batches[0]
        if len(batches) == 1:
            return first
        if any(b.schema is not first.schema for b in batches):
            raise ValueError("only batches of one schema can be concatenated")
        strings = first.schema.strings
        pieces, heaps, base = [], [], 0
        for batch in batches:
            pieces.append(batch._moved(strings, base - batch.heap_at, first.clock))
            heaps.append(batch.heap)
            base += len(batch.heap)
        joined = first._like(b"".join(pieces), b"".join(heaps))
        joined.heap_at = 0
        joined.packed = all(b.packed for b in batches)
        joined.tidy = all(b.tidy for b in batches)
        joined.identities = [i for b in batches for i in b.identities]
        actors: dict[Process, int] = {}
        joined.actor = [
            actors.setdefault(b.actors[i], len(actors))
            for b in batches
            for i in (repeat(0, b.count) if b.actor is None else b.actor)
        ]
        joined.actors = list(actors) or (UNKNOWN_PROCESS,)
        return joined

    def _moved(self, strings: tuple[int, ...], base: int, clock: int) -> bytes:
        """Return ``data`` with its places in the heap shifted by ``base``, times as under ``clock``."""
        times = [f.offset for f in self.schema.fields.values() if f.meaning == "time"]
        drift = self.clock - clock
        if not (strings and base) and not (times and drift):
            return bytes(self.data)
        moved = bytearray(self.data)
        for at in range(0, len(moved), self.schema.size):
            for offset in strings:
                (place,) = struct.unpack_from(_ORDER + "I", moved, at + offset)
                struct.pack_into(_ORDER + "I", moved, at + offset, place + base & 0xFFFFFFFF)
            for offset in times if drift else ():
                (when,) = struct.unpack_from(_ORDER + "Q", moved, at + offset)
                struct.pack_into(_ORDER + "Q", moved, at + offset, when + drift & 0xFFFFFFFFFFFFFFFF)
        return bytes(moved)

    # For notebooks; the libraries are extras

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """Return a column as a numpy array: numbers as they are, all else as :meth:`values` in objects.

        Times are integer nanoseconds since the epoch.
        """
        from eunomia import arrays

        return arrays.column(self, name)

    def to_arrow(self) -> pyarrow.Table:
        """Return a pyarrow table of all columns; times are nanoseconds since the epoch.

        Raises :class:`ImportError` where the extra ``eunomia[arrow]`` is not installed.
        """
        from eunomia import arrays

        return arrays.to_arrow(self)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas data frame of all columns; times are nanoseconds since the epoch.

        Raises :class:`ImportError` where the extra ``eunomia[pandas]`` is not installed.
        """
        from eunomia import arrays

        return arrays.to_pandas(self)


def _attributes(names: Sequence[str]) -> dict[str, str]:
    """Return what attributes of a row are called, by field: broken BTF may have any name for one, or two for two."""
    found: dict[str, str] = {}
    taken = {"container", "pod", "identity"}
    for name in names:
        plain = "".join(c if c.isidentifier() or c.isdecimal() else "_" for c in name) or "_"
        plain = plain if plain.isidentifier() else f"_{plain}"
        if plain.startswith("__"):  # which Python would take for private to the class, and rename
            plain = "_" + plain.lstrip("_")
        while plain in taken:
            plain += "_"
        taken.add(plain)
        found[name] = plain
    return found


def _mask(key: Any) -> bytes | bytearray:
    """Return a mask as bytes, 0 for rows that are left out."""
    if isinstance(key, bytes | bytearray):
        return key
    if str(getattr(key, "dtype", "")) == "bool":
        return bytes(key.tobytes())
    return bytes(map(bool, key))


def _distinct(values: Sequence[Any], index: Sequence[int] | None) -> Coded:
    """Return a coded column whose texts are distinct, where several values of the kernel's have one text."""
    texts = [value for value in values if isinstance(value, str)]
    if index is None or len(set(texts)) == len(texts):
        return Coded(values, index)
    places: dict[str, int] = {}
    kept: list[Any] = []
    moved = []
    for value in values:
        at = places.setdefault(value, len(kept)) if isinstance(value, str) else len(kept)
        if at == len(kept):
            kept.append(value)
        moved.append(at)
    return Coded(kept, array("I", map(moved.__getitem__, index)) if len(kept) > 1 else None)
