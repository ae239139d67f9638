# SPDX-License-Identifier: BSD-2-Clause
"""Field and Schema: the columns of a stream, where they stand in its records, and how they are read."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Sequence

from eunomia.columns import column as columns
from eunomia.columns import joined
from eunomia.columns.column import VIRTUAL, Column
from eunomia.columns.meanings import MEANINGS
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

_ORDER = "<" if sys.byteorder == "little" else ">"
Data = bytes | bytearray | memoryview  # records, one after another


class Scale(NamedTuple):
    """What the elements of a histogram count.

    Of ``log2`` element i counts the values from 2^i up to 2^(i+1) - 1, and the first 0 too; of ``linear`` those
    from i * ``step`` up to (i+1) * ``step`` - 1. ``unit`` is the values'. ``more``: the last element counts all
    greater values too. ``why`` says how that is known.
    """

    kind: str
    unit: str = ""
    step: int = 1
    more: bool = False
    why: str = ""


class Field(NamedTuple):
    """One column: where it stands in the record and what it means.

    ``offset`` and ``size`` are bytes. ``code`` is its :mod:`struct` code without byte order. ``meaning``
    is a key of :data:`eunomia.columns.meanings.MEANINGS`, empty for a plain number. ``bits`` is ``(shift, width)``
    counted from the least significant bit of ``size`` bytes, for bit fields. ``names`` are an
    enumeration's. ``parts`` describes an array's element, or the members of a struct or union that is shown
    whole. ``tag`` names the field that says which member of a union holds; on such a member it is the value.
    ``hidden`` fields are left out of tables unless asked for. ``none`` is the number that stands for no value.
    ``length`` names the field that says how much of an array is in use, ``count_in`` how many texts it holds.
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
    none: int | None = None
    signed_bits: bool = False  # of a bit field whose code is that of bytes, as it crosses its storage units
    length: str = ""
    count_in: str = ""
    show: Callable[..., Any] | None = None  # how a live object shows it, in place of its meaning
    coalesced: bool = False  # whether rows have it only if equal events are counted
    beside: str = ""  # the field whose value ``show`` takes, too
    scale: Scale | None = None  # of an array that is a histogram

    @property
    def signed(self) -> bool:
        """Whether it is a signed integer."""
        return self.signed_bits or self.code in {"b", "h", "i", "q"}


_BLOCK = 64  # records that are unpacked by one call
_CASTS = frozenset("bBhHiIqQ?fd")  # codes that memoryview.cast() knows


class _Reader:
    """How one field's values are taken out of many records, apart from all other fields."""

    __slots__ = ("_block", "_cast", "_elements", "_field", "_one", "_start", "_step", "_stride")

    def __init__(self, field: Field, stride: int) -> None:
        self._field = field
        self._stride = stride
        size = field.size
        aligned = field.code in _CASTS and not field.offset % size and not stride % size
        self._cast = field.code if aligned else ""
        if aligned:
            self._start, self._step = field.offset // size, stride // size
            return
        code = field.code
        if (field.bits is not None and field.code[-1] == "s") or not struct.calcsize(_ORDER + code):
            code = f"{size}s"
        rest = stride - field.offset - struct.calcsize(_ORDER + code)
        shape = f"{field.offset}x{code}{rest}x"
        self._one = struct.Struct(_ORDER + shape)
        self._block = struct.Struct(_ORDER + shape * _BLOCK)
        numbers = field.meaning == "array" and not field.parts
        self._elements = len(self._one.unpack(bytes(stride))) if code[-1] != "s" else 1
        if self._elements == 1 and numbers and code[-1] != "s":
            self._elements = -1  # an array of one number is still an array

    def read(self, data: Data) -> Sequence[Any]:
        """Return the field's values: numbers, bytes, or tuples of numbers."""
        if self._cast:
            view: memoryview[Any] = memoryview(data).cast(self._cast)  # type: ignore[call-overload]
            values: list[Any] = view[self._start :: self._step].tolist()
        else:
            values = []
            view = memoryview(data)
            whole = len(data) // (self._stride * _BLOCK) * self._stride * _BLOCK
            for block in self._block.iter_unpack(view[:whole]):
                values += block
            for one in self._one.iter_unpack(view[whole:]):
                values += one
            if self._elements != 1:
                values = list(zip(*[iter(values)] * abs(self._elements), strict=True))
        return values if self._field.bits is None else self._bits(values)

    def _bits(self, units: list[Any]) -> list[int]:
        """Return a bit field's values out of its storage units, or out of the bytes that hold it."""
        assert self._field.bits is not None
        shift, width = self._field.bits
        mask, top = (1 << width) - 1, 1 << (width - 1)
        if units and isinstance(units[0], bytes):
            units = [int.from_bytes(u, sys.byteorder) for u in units]
        values = [(u >> shift) & mask for u in units]
        return [(v ^ top) - top for v in values] if self._field.signed else values


class Schema:
    """The columns of a stream, in the order of its C struct.

    ``size`` is the fixed part's, in bytes; ``fixed`` how much of it the record itself begins with, where a
    field is made of what stands behind that.
    """

    __slots__ = (
        "_columns", "_dtype", "_readers", "_types", "doc", "faces", "fields", "fixed", "name", "packs", "size",
        "strings", "texts", "time",
    )  # fmt: skip

    def __init__(self, name: str, size: int, fields: Iterable[Field], doc: str = "") -> None:
        self.name = name
        self.size = size
        self.doc = doc
        self.fields: dict[str, Field] = {field.name: field for field in fields}
        self.time = next((f for f in self.fields.values() if f.meaning == "time"), None)
        self.fixed = next((f.offset for f in self.fields.values() if f.meaning == "tail"), size)
        variable = [f for f in self.fields.values() if MEANINGS[f.meaning].variable]
        # Offsets of the str_t places in the fixed part; the drain makes them point into the heap.
        self.strings = tuple(f.offset for f in variable)
        # Which of a row's texts each field is, where splitting the heap at its NULs gives them all.
        self.texts = {f.name: i for i, f in enumerate(variable)}
        self.packs = {} if any(f.meaning in {"argv", "blob", "tail"} for f in variable) else self.texts
        self._columns: dict[str, Column] = {}
        self._readers: dict[str, _Reader] = {}
        self._types: dict[tuple[str, ...], type] = {}
        self._dtype: np.dtype[Any] | None = None
        self.faces: dict[str, str] = {}  # how each column becomes an array, once known

    def __repr__(self) -> str:
        return f"Schema({self.name!r}, {self.size}, {list(self.fields)})"

    @property
    def columns(self) -> list[str]:
        """Names of all columns that a row shows: the virtual ones, its own, the joined ones."""
        own = [name for name in self.fields if self.time is None or name != self.time.name]
        return [*VIRTUAL, *own, *joined.usual()]

    def column(self, name: str) -> Column:
        """Return a column: a field, one that all streams have, or one of containers, pods and processes.

        Raises :class:`KeyError` for a name that is none of these.
        """
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = columns.find(self, name)
        return found

    def read(self, name: str, data: Data) -> Sequence[Any]:
        """Return one field's values out of records, as the kernel wrote them."""
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = _Reader(self.fields[name], self.size)
        return reader.read(data)

    def dtype(self) -> np.dtype[Any]:
        """Return the numpy structured type of a record; bit fields appear as their storage unit."""
        import numpy as np

        if self._dtype is None:
            self._dtype = np.dtype(
                {
                    "names": list(self.fields),
                    "formats": [_numpy_format(f) for f in self.fields.values()],
                    "offsets": [f.offset for f in self.fields.values()],
                    "itemsize": self.size,
                }
            )
        return self._dtype


def _numpy_format(field: Field) -> str:
    if field.bits is not None:
        return f"V{field.size}"
    if MEANINGS[field.meaning].variable:
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
