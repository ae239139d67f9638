# SPDX-License-Identifier: BSD-2-Clause
"""Field, Schema and Batch: the nouns that all other parts share.

A batch is one drained piece of one stream. Its records' fixed parts stand in ``data``, one every
``schema.size`` bytes; what varies in length (``str_t``) stands in ``heap``, and the fixed part holds
its place there. It has two faces, by column (numpy, imported when first asked for) and by row
(msgspec structs), and neither is built before somebody asks.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from eunomia import meaning
from eunomia.identity import NOBODY_KNOWS, Identity

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import pyarrow

_ORDER = "<" if sys.byteorder == "little" else ">"

# Columns that every batch has, whatever its struct holds. "time" is the event's, or else the drain's.
VIRTUAL = ("time", "tracker", "stream")
JOINED = (
    "container.id",
    "container.name",
    "container.image",
    "container.runtime",
    "pod.name",
    "pod.namespace",
    "pod.uid",
    "identity",
)


class Field(NamedTuple):
    """One column: where it stands in the record and what it means.

    ``offset`` and ``size`` are bytes. ``code`` is its :mod:`struct` code without byte order. ``meaning``
    is a key of :data:`eunomia.meaning.MEANINGS`, empty for a plain number. ``bits`` is ``(shift, width)``
    counted from the least significant bit of ``size`` bytes, for bit fields. ``names`` are an
    enumeration's. ``parts`` describes an array's element, or the members of a struct or union that is shown
    whole. ``tag`` names the field that says which member of a union holds; on such a member it is the value.
    ``hidden`` fields are left out of tables unless asked for.
    """

    name: str
    offset: int
    size: int
    code: str
    meaning: str = ""
    ctype: str = ""
    doc: str = ""
    bits: tuple[int, int] | None = None
    names: dict[int, str] | None = None
    parts: tuple[Field, ...] = ()
    tag: str = ""
    hidden: bool = False
    signed_bits: bool = False  # of a bit field whose code is that of bytes, as it crosses its storage units

    @property
    def signed(self) -> bool:
        """Whether it is a signed integer."""
        return self.signed_bits or self.code in {"b", "h", "i", "q"}


class _Atom(NamedTuple):
    """A piece of the record that :func:`struct.unpack` yields as one value."""

    offset: int
    size: int
    code: str


class _Layout:
    """How :func:`struct.unpack` takes records apart: fields that overlap share one atom of bytes."""

    __slots__ = ("_atoms", "_code", "_places", "_width", "fields")

    def __init__(self, size: int, fields: Sequence[Field]) -> None:
        self.fields = {f.name for f in fields}
        self._atoms: list[_Atom] = []
        for field in sorted(fields, key=lambda f: (f.offset, -f.size)):
            width = struct.calcsize(_ORDER + field.code)
            last = self._atoms[-1] if self._atoms else None
            if last and field.offset < last.offset + last.size:
                end = max(last.offset + last.size, field.offset + width)
                self._atoms[-1] = _Atom(last.offset, end - last.offset, f"{end - last.offset}s")
            else:
                self._atoms.append(_Atom(field.offset, width, field.code))
        codes, at, self._width = [], 0, 0
        self._places: dict[str, tuple[int, int, _Atom]] = {}
        for atom in self._atoms:
            codes.append(f"{atom.offset - at}x{atom.code}" if atom.offset > at else atom.code)
            at = atom.offset + atom.size
            elements = len(struct.unpack(_ORDER + atom.code, bytes(atom.size)))
            for field in fields:
                if atom.offset <= field.offset < at or (field.offset == atom.offset and not field.size):
                    self._places[field.name] = (self._width, elements, atom)
            self._width += elements
        if size > at:
            codes.append(f"{size - at}x")
        self._code = "".join(codes)

    def flat(self, data: bytes, count: int) -> tuple[Any, ...]:
        """Unpack ``count`` records into one flat tuple; :meth:`column` takes columns out of it."""
        return struct.unpack(_ORDER + self._code * count, data)

    def column(self, flat: tuple[Any, ...], field: Field) -> Sequence[Any]:
        """Return one column of :meth:`flat`: numbers, bytes, or tuples of an array's numbers."""
        place, elements, atom = self._places[field.name]
        width = self._width
        if field.bits is not None:
            return _bits(flat[place::width], field, field.offset - atom.offset)
        if (atom.offset, atom.code) == (field.offset, field.code):
            if elements == 1 and (field.meaning != "array" or field.parts):
                return flat[place::width]
            return list(zip(*(flat[place + i :: width] for i in range(elements)), strict=True))
        cut = slice(field.offset - atom.offset, field.offset - atom.offset + field.size)
        unpack = struct.Struct(_ORDER + field.code).unpack
        values = [unpack(v[cut]) for v in flat[place::width]]
        if field.meaning == "array" and not field.parts:
            return values
        return [v[0] if len(v) == 1 else v for v in values]


def _bits(column: Sequence[Any], field: Field, start: int) -> list[int]:
    """Return a bit field's values out of its storage unit, or out of bytes that hold it."""
    assert field.bits is not None  # noqa: S101
    shift, width = field.bits
    mask, top = (1 << width) - 1, 1 << (width - 1)
    if isinstance(column[0] if column else b"", int):
        values = [(v >> shift) & mask for v in column]
    else:
        cut = slice(start, start + field.size)
        values = [(int.from_bytes(v[cut], sys.byteorder) >> shift) & mask for v in column]
    return [(v ^ top) - top for v in values] if field.signed else values


class Schema:
    """The columns of a stream, in the order of its C struct. ``size`` is the fixed part's, in bytes."""

    __slots__ = ("_compiled", "_types", "doc", "fields", "name", "packs", "size", "strings", "time")

    def __init__(self, name: str, size: int, fields: Iterable[Field], doc: str = "") -> None:
        self.name = name
        self.size = size
        self.doc = doc
        self.fields: dict[str, Field] = {field.name: field for field in fields}
        self.time = next((f for f in self.fields.values() if f.meaning == "time"), None)
        variable = [f for f in self.fields.values() if f.meaning in meaning.VARIABLE]
        # Offsets of the str_t places in the fixed part; the drain makes them point into the heap.
        self.strings = tuple(f.offset for f in variable)
        # Which of a row's texts each field is, where splitting the heap at its NULs gives them all.
        texts = {f.name: i for i, f in enumerate(variable)}
        self.packs = {} if any(f.meaning in {"argv", "blob"} for f in variable) else texts
        self._compiled: dict[bool, _Layout] = {}
        self._types: dict[tuple[str, ...], type] = {}

    def __repr__(self) -> str:
        return f"Schema({self.name!r}, {self.size}, {list(self.fields)})"

    @property
    def columns(self) -> list[str]:
        """Names of all columns that a row shows: the virtual ones, its own, the joined ones."""
        own = [name for name in self.fields if self.time is None or name != self.time.name]
        return [*VIRTUAL, *own, *JOINED]

    def layout(self, lean: bool = False) -> _Layout:
        """Return how to unpack a record; a ``lean`` one leaves out its time and the places of its texts."""
        if lean not in self._compiled:
            left_out = {*self.packs, self.time.name if self.time else ""} if lean else set()
            self._compiled[lean] = _Layout(self.size, [f for f in self.fields.values() if f.name not in left_out])
        return self._compiled[lean]

    def dtype(self) -> np.dtype[Any]:
        """Return the numpy structured type of a record; bit fields appear as their storage unit."""
        import numpy as np

        formats = [_numpy_format(f) for f in self.fields.values()]
        return np.dtype(
            {
                "names": list(self.fields),
                "formats": formats,
                "offsets": [f.offset for f in self.fields.values()],
                "itemsize": self.size,
            }
        )


def _numpy_format(field: Field) -> str:
    if field.bits is not None:
        return f"V{field.size}"
    if field.meaning in meaning.VARIABLE:
        return "(2,)u4"
    code = field.code.lstrip("0123456789")
    count = field.code[: -len(code)] or "1"
    if code == "s":
        return f"{'S' if field.meaning == 'text' else 'V'}{field.size}"
    kind = {"?": "?", "e": "f2", "f": "f4", "d": "f8"}.get(code)
    if kind is None:
        kind = f"{'i' if code.islower() else 'u'}{struct.calcsize(_ORDER + code)}"
    kind = kind if kind == "?" else _ORDER + kind
    return kind if count == "1" else f"({count},){kind}"


class Batch:
    """Some records of one stream, in time order. Cheap to slice; nothing is decoded before it is read.

    ``clock`` is what to add to the kernel's monotonic nanoseconds to get nanoseconds since the epoch;
    ``taken`` is when the batch was drained, in nanoseconds since the epoch.
    """

    __slots__ = (
        "_flat", "_lean", "_text", "clock", "count", "data", "heap", "identities", "packed", "schema", "stream",
        "taken", "tracker",
    )  # fmt: skip

    def __init__(
        self,
        schema: Schema,
        data: bytes,
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
        self.identities = identities
        self.packed = packed
        self._flat: tuple[Any, ...] | None = None
        self._lean: tuple[Any, ...] | None = None
        self._text: meaning.Text | None = None

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Batch {self.tracker}/{self.stream}, {self.count} rows>"

    # By row

    def raw(self, name: str) -> Sequence[Any]:
        """Return a field's values as the kernel wrote them: numbers, bytes, places in the heap."""
        field = self.schema.fields[name]
        lean = self.schema.layout(lean=True)
        if name in lean.fields:
            if self._lean is None:
                self._lean = lean.flat(self.data, self.count)
            return lean.column(self._lean, field)
        whole = self.schema.layout()
        if self._flat is None:
            self._flat = whole.flat(self.data, self.count)
        return whole.column(self._flat, field)

    def integers(self, name: str) -> list[int]:
        """Return one integer field's values, without unpacking the others where that can be."""
        field, size = self.schema.fields[name], self.schema.size
        if field.bits is None and len(field.code) == 1 and not field.offset % field.size and not size % field.size:
            view = memoryview(self.data).cast(field.code)
            return view[field.offset // field.size :: size // field.size].tolist()
        return list(self.raw(name))

    def values(self, name: str) -> Sequence[Any]:
        """Return a column as people read it: text, names of errors and flags, addresses, numbers.

        ``name`` may be a field, one of :data:`VIRTUAL` or one of :data:`JOINED`. Text is exact; whoever
        prints it to a terminal escapes it.
        """
        schema = self.schema
        if name == "time":
            if schema.time is None:
                return [meaning.rfc3339(self.taken)] * self.count
            return meaning.times(self.data, schema.size, schema.time.offset, self.count, self.clock)
        field = schema.fields.get(name)
        if field is None:
            return self._joined(name)
        if field.meaning == "time":
            return meaning.times(self.data, schema.size, field.offset, self.count, self.clock)
        if self._text is None:
            texts = len(self.schema.packs) if self.packed else 0
            self._text = meaning.Text(self.heap, texts, self.count)
        if self.packed and field.meaning in meaning.VARIABLE and name in self.schema.packs:
            column = self._text.column(self.schema.packs[name])
            if column is not None:
                return self._text.tidy(column) if field.meaning == "path" else column
        if field.tag:
            return meaning.tagged(field, self.raw(name), self.raw(field.tag))
        return meaning.render(field, self.raw(name), self._text)

    def _joined(self, name: str) -> Sequence[Any]:
        if name == "tracker":
            return [self.tracker] * self.count
        if name == "stream":
            return [self.stream] * self.count
        identities = self.identities or [NOBODY_KNOWS] * self.count
        if name == "identity":
            return [i.state for i in identities]
        noun, _, attribute = name.partition(".")
        if name not in JOINED:
            raise KeyError(name)
        return [getattr(getattr(i, noun), attribute, "") for i in identities]

    def rows(self) -> Iterator[Any]:
        """Yield msgspec structs with ``time``, every field, and ``container``, ``pod``, ``identity``."""
        names = [n for n in self.schema.columns if n not in JOINED]
        struct_type = self._row_type(names)
        identities = self.identities or [NOBODY_KNOWS] * self.count
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

            safe = {n: n.replace(".", "_") for n in names}
            self.schema._types[key] = msgspec.defstruct(
                "Row",
                [*safe.values(), "container", "pod", "identity"],
                rename={s: n for n, s in safe.items()},
                gc=False,
            )
        return self.schema._types[key]

    # By column

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """Return a column as a numpy array: numbers as they are, all else as :meth:`values` in objects.

        Times are integer nanoseconds since the epoch.
        """
        import numpy as np

        field = self.schema.fields.get(name)
        if name == "time" and self.schema.time is None:
            return np.full(self.count, self.taken, np.int64)
        if name == "time" or (field is not None and field.meaning == "time"):
            chosen = field if field is not None and field.meaning == "time" else self.schema.time
            assert chosen is not None  # noqa: S101
            return self._array()[chosen.name].astype(np.int64) + self.clock
        if field is not None and field.bits is not None:
            return np.asarray(self.raw(name))
        if field is not None and field.code.lstrip("0123456789") != "s" and field.meaning not in meaning.VARIABLE:
            return self._array()[name]
        array = np.empty(self.count, object)
        array[:] = self.values(name)
        return array

    def _array(self) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.frombuffer(self.data, self.schema.dtype())

    @overload
    def __getitem__(self, key: str) -> np.ndarray[Any, Any]: ...
    @overload
    def __getitem__(self, key: slice | Sequence[bool] | np.ndarray[Any, Any]) -> Batch: ...
    def __getitem__(self, key: Any) -> Any:
        """Return a column by name, or the rows that a slice or a mask of booleans selects."""
        if isinstance(key, str):
            return self.column(key)
        if isinstance(key, slice):
            return self._pick(range(self.count)[key])
        if len(key) != self.count:
            raise IndexError(f"mask of {len(key)} values for {self.count} rows")
        return self._pick([i for i, chosen in enumerate(key) if chosen])

    def _pick(self, indexes: Sequence[int]) -> Batch:
        size = self.schema.size
        if isinstance(indexes, range) and indexes.step == 1:
            data = self.data[indexes.start * size : indexes.stop * size]
        else:
            data = b"".join([self.data[i * size : i * size + size] for i in indexes])
        identities = None if self.identities is None else [self.identities[i] for i in indexes]
        return self._like(data, self.heap, identities)

    def _like(self, data: bytes, heap: bytes, identities: Sequence[Identity] | None) -> Batch:
        return Batch(
            self.schema,
            data,
            heap,
            tracker=self.tracker,
            stream=self.stream,
            clock=self.clock,
            taken=self.taken,
            identities=identities,
        )

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
            pieces.append(batch._moved(strings, base, first.clock))
            heaps.append(batch.heap)
            base += len(batch.heap)
        identities = None
        if all(b.identities is not None for b in batches):
            identities = [i for b in batches for i in b.identities or ()]
        return first._like(b"".join(pieces), b"".join(heaps), identities)

    def _moved(self, strings: tuple[int, ...], base: int, clock: int) -> bytes:
        """Return ``data`` with its places in the heap shifted by ``base``, times as under ``clock``."""
        times = [f.offset for f in self.schema.fields.values() if f.meaning == "time"]
        drift = self.clock - clock
        if not (strings and base) and not (times and drift):
            return self.data
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

    def to_arrow(self) -> pyarrow.Table:
        """Return a pyarrow table of all columns; times are nanoseconds since the epoch.

        Raises :class:`ImportError` where the extra ``eunomia[arrow]`` is not installed.
        """
        pa = _extra("pyarrow", "arrow")
        return pa.table({name: self._arrow(pa, name) for name in self.schema.columns})

    def _arrow(self, pa: Any, name: str) -> Any:
        field = self.schema.fields.get(name)
        if name == "time" or (field is not None and field.bits is None and meaning.is_number(field)):
            return pa.array(self.column(name).copy())
        values = list(self._plain(name))
        try:
            return pa.array(values, None if field is not None else pa.string())
        except (pa.ArrowException, OverflowError):  # names and numbers, or members of a union, side by side
            return pa.array(list(map(str, values)))

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas data frame of all columns; times are nanoseconds since the epoch.

        Raises :class:`ImportError` where the extra ``eunomia[pandas]`` is not installed.
        """
        pd = _extra("pandas", "pandas")
        return pd.DataFrame({name: list(self._plain(name)) for name in self.schema.columns})

    def _plain(self, name: str) -> Iterable[Any]:
        if name == "time":
            return [int(t) for t in self.column("time")]
        if name in {"tracker", "stream"}:
            return repeat(getattr(self, name), self.count)
        return self.values(name)


def _extra(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ImportError(f"this needs {module}: pip install 'eunomia[{extra}]'") from None
