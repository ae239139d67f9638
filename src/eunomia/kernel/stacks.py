# SPDX-License-Identifier: BSD-2-Clause
"""Stack ids as text: what a map of stack traces holds, with the kernel's own names for its addresses."""

from __future__ import annotations

import functools
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from eunomia.batch import Field, Schema

if TYPE_CHECKING:
    from eunomia.kernel.loaded import MapHandle

_LIMIT = 16384  # stacks of one map that are remembered


class Symbols:
    """The kernel's functions by address. Raises :class:`OSError` where their list cannot be read."""

    def __init__(self, path: str = "/proc/kallsyms") -> None:
        # "ffffffff81000000 T _stext\t[module]": 16 digits, so that to sort lines is to sort addresses
        with open(path, "rb") as file:
            lines = [line for line in file.read().split(b"\n") if line[17:18] in {b"t", b"T", b"w", b"W"}]
        lines.sort()
        self._addresses = array("Q", [int(line[:16], 16) for line in lines])
        self._lines = lines
        if self._addresses and not self._addresses[-1]:
            self._lines, self._addresses = [], array("Q")  # kptr_restrict shows them all at 0

    def name(self, address: int) -> str:
        """Return the function that an address is in, or the address in hex."""
        index = bisect_right(self._addresses, address) - 1
        if index < 0:
            return hex(address)
        return self._lines[index][19:].partition(b"\t")[0].decode("utf-8", "backslashreplace")

    def __len__(self) -> int:
        return len(self._lines)


@functools.cache
def kernel_symbols() -> Symbols | None:
    """Return the running kernel's symbols, read once; None where it does not tell them."""
    try:
        symbols = Symbols()
    except (OSError, ValueError):
        return None
    return symbols if len(symbols) else None


class Stacks:
    """Shows the ids of one map of stack traces, as long as the map lives."""

    def __init__(self, handle: MapHandle, *, kernel: bool) -> None:
        self._handle: MapHandle | None = handle
        self._kernel = kernel
        self._known: dict[int, str] = {}

    def show(self, id_: int) -> str | int:
        """Return a stack, innermost frame first, joined by ``;``, or the id where there is none to be had."""
        known = self._known.get(id_)
        if known is not None:
            return known
        if id_ < 0 or self._handle is None:
            return id_
        raw = self._handle.lookup(id_.to_bytes(4, "little" if array("H", [1]).tobytes()[0] else "big"))
        frames = [address for address in array("Q", raw[: len(raw) // 8 * 8]) if address] if raw else []
        if not frames:
            return id_
        symbols = kernel_symbols() if self._kernel else None
        if self._kernel and symbols is None:
            return id_
        if len(self._known) >= _LIMIT:
            self._known.clear()
        self._known[id_] = ";".join(map(symbols.name if symbols else hex, frames))
        return self._known[id_]

    def close(self) -> None:
        """Look nothing up any more: the map's descriptor may soon be another's."""
        self._handle = None


def resolve(schema: Schema, maps: Mapping[str, MapHandle]) -> tuple[Schema, list[Stacks]]:
    """Return a schema whose stack ids are shown as stacks, and what shows them, to be closed with the maps.

    ``maps`` are the object's maps of stack traces. Of several, one that says ``user`` in its name is not for
    kernel stacks, and one that says ``kern`` not for those of user space.
    """
    opened: list[Stacks] = []

    def shown(field: Field) -> Field:
        show = _show(field, maps, opened)
        return field._replace(show=show) if show else field

    if not maps or not any(f.meaning in {"kstack", "ustack"} for f in schema.fields.values()):
        return schema, []
    return Schema(schema.name, schema.size, map(shown, schema.fields.values()), schema.doc), opened


def _show(
    field: Field, maps: Mapping[str, MapHandle], opened: list[Stacks]
) -> Callable[[int], str | int] | None:
    if field.meaning not in {"kstack", "ustack"}:
        return None
    kernel = field.meaning == "kstack"
    foreign = ("user", "ustack") if kernel else ("kern", "kstack")
    fitting = [m for name, m in maps.items() if not any(word in name for word in foreign)]
    stacks = Stacks(fitting[0] if fitting else next(iter(maps.values())), kernel=kernel)
    opened.append(stacks)
    return stacks.show
