# SPDX-License-Identifier: BSD-2-Clause
"""Shows stack ids as text: the frames in a map of stack traces, with names for their addresses."""

from __future__ import annotations

import functools
import struct
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping

from eunomia.process_field import process_field
from eunomia.stream_schema import Field, Schema
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.kernel.map_handle import MapHandle

_LIMIT = 16384  # stacks of one map that are remembered
_PROCESSES = 256  # processes of which the mappings are remembered
_MAPS = 1 << 20  # bytes of /proc/PID/maps that are read


class Symbols:
    """The kernel's functions by address. Raises :class:`OSError` if their list cannot be read."""

    def __init__(self, path: str = "/proc/kallsyms") -> None:
        # "ffffffff81000000 T _stext\t[module]": 16 digits, so lines sort by address
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
    """Return the running kernel's symbols, read once; None if it hides them."""
    try:
        symbols = Symbols()
    except (OSError, ValueError):
        return None
    return symbols if len(symbols) else None


class UserSpace:
    """The memory mappings of running processes: /proc/PID/maps, each read at most once a second."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, list[tuple[int, int, int, str]]]] = {}

    def place(self, address: int, pid: int) -> str:
        """Return the file that contains an address, and the offset in it; the address in hex if not known."""
        for start, end, offset, path in self._maps(pid):
            if start <= address < end:
                return f"{path}+{address - start + offset:#x}"
        return hex(address)

    def _maps(self, pid: int) -> list[tuple[int, int, int, str]]:
        now = time.monotonic()
        read, found = self._known.get(pid, (0.0, []))
        if pid in self._known and now - read < 1:
            return found
        if len(self._known) >= _PROCESSES:
            self._known.clear()
        found = self._read(pid)
        self._known[pid] = now, found
        return found

    @staticmethod
    def _read(pid: int) -> list[tuple[int, int, int, str]]:
        """Return start, end, offset and path of executable mappings; none for a process that has ended."""
        found = []
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                lines = file.read(_MAPS).split(b"\n")
        except OSError:
            return []
        for line in lines:
            # "55d0c0a00000-55d0c0a28000 r-xp 00002000 fe:01 1234   /usr/bin/cat"
            parts = line.split(None, 5)
            if len(parts) == 6 and b"x" in parts[1]:
                start, _, end = parts[0].partition(b"-")
                path = parts[5].decode("utf-8", "backslashreplace")
                found.append((int(start, 16), int(end, 16), int(parts[2], 16), path))
        return found


_users = UserSpace()


def addresses(frames: Iterable[int], pid: int = 0) -> str:
    """Return frames, innermost first, up to the first 0: functions of the kernel, files of user space."""
    shown = []
    symbols: Symbols | None = None
    for address in frames:
        if not address:
            break
        if address >> 63:
            symbols = symbols or kernel_symbols()
            shown.append(symbols.name(address) if symbols else hex(address))
        else:
            shown.append(_users.place(address, _process(pid)) if pid else hex(address))
    return ";".join(shown)


def _process(pid: int) -> int:
    """Return a process's id, which may be the upper half of bpf_get_current_pid_tgid()."""
    return pid >> 32 & 0xFFFFFFFF or pid & 0xFFFFFFFF


_BUILD_ID = struct.Struct("=i20sQ")  # struct bpf_stack_build_id, include/uapi/linux/bpf.h


def build_ids(raw: bytes, _pid: int = 0) -> str:
    """Return frames that are places in files, by build id, or addresses if the kernel found no file."""
    shown = []
    for status, build_id, place in _BUILD_ID.iter_unpack(raw[: len(raw) // _BUILD_ID.size * _BUILD_ID.size]):
        if status not in (1, 2):  # valid, address only
            break
        shown.append(f"{build_id.hex()}+{place:#x}" if status == 1 else hex(place))
    return ";".join(shown)


class Stacks:
    """Shows the ids of one map of stack traces, as long as the map exists."""

    def __init__(self, handle: MapHandle, *, kernel: bool) -> None:
        self._handle: MapHandle | None = handle
        self._kernel = kernel
        self._known: dict[tuple[int, int], str] = {}

    def show(self, id_: int, pid: int = 0) -> str | int:
        """Return a stack, innermost frame first, joined by ``;``, or the id if there is none."""
        pid = 0 if self._kernel else pid
        known = self._known.get((id_, pid))
        if known is not None:
            return known
        if id_ < 0 or self._handle is None:
            return id_
        raw = self._handle.lookup(id_.to_bytes(4, "little" if array("H", [1]).tobytes()[0] else "big"))
        frames = [address for address in array("Q", raw[: len(raw) // 8 * 8]) if address] if raw else []
        if not frames:
            return id_
        if self._kernel and kernel_symbols() is None:
            return id_
        if len(self._known) >= _LIMIT:
            self._known.clear()
        self._known[id_, pid] = addresses(frames, pid)
        return self._known[id_, pid]

    def close(self) -> None:
        """End look-ups: the map's descriptor may be reused."""
        self._handle = None


def resolve(
    schema: Schema, maps: Mapping[str, MapHandle], seen: Collection[tuple[str, bool]] = ()
) -> tuple[Schema, list[Stacks]]:
    """Return a schema that shows stack ids as stacks, and the objects that do so, to be closed with the maps.

    ``maps`` are the object's maps of stack traces, ``seen`` those that programs put stacks into, and whether of
    user space. If several remain, one with ``user`` in its name is not for kernel stacks, and one with ``kern``
    not for those of user space. Frames of user space are looked up in the row's process.
    """
    opened: list[Stacks] = []
    process = process_field(schema)

    def shown(field: Field) -> Field:
        if field.meaning in {"kstack", "ustack"} and maps:
            field = field._replace(show=_show(field, maps, seen, opened))
        if field.meaning in {"ustack", "stack"} and field.show is not None and process is not None:
            field = field._replace(beside=process.field)
        return field

    if not any(f.meaning in {"kstack", "ustack", "stack"} for f in schema.fields.values()):
        return schema, []
    return Schema(schema.name, schema.size, map(shown, schema.fields.values()), schema.doc), opened


def _show(
    field: Field, maps: Mapping[str, MapHandle], seen: Collection[tuple[str, bool]], opened: list[Stacks]
) -> Callable[..., str | int]:
    kernel = field.meaning == "kstack"
    foreign = ("user", "ustack") if kernel else ("kern", "kstack")
    given = [name for name, user in seen if user is not kernel and name in maps] or list(maps)
    fitting = [name for name in given if not any(word in name for word in foreign)] or given
    stacks = Stacks(maps[fitting[0]], kernel=kernel)
    opened.append(stacks)
    return stacks.show
