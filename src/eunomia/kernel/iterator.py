# SPDX-License-Identifier: BSD-2-Clause
"""Streams of BPF iterators, read completely at each interval: a row for each line of text, or for each struct."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable, Collection, Mapping

from eunomia.batch import Batch
from eunomia.cgroup_hierarchy import unified
from eunomia.kernel.errors import BadSetting, KernelError
from eunomia.kernel.libbpf import lib
from eunomia.kernel.map_snapshot import TableReader
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.spec import Program, StreamSpec

_PIECE = 256 << 10  # bytes that one drain takes
_LINE = 64 << 10  # bytes; a longer line continues in another row
_PLACE = struct.Struct("<II" if sys.byteorder == "little" else ">II")
_RAW = struct.Struct("<III" if sys.byteorder == "little" else ">III")

# What an iterator iterates over, if it must be named when it is attached.
OF_MAPS = frozenset({"bpf_map_elem", "bpf_sk_storage_map", "sockmap"})
_OF_TASKS = frozenset({"task", "task_file", "task_vma"})


def check(program: Program, target: str, maps: Collection[str]) -> None:
    """Refuse a target that an iterator does not take, or a missing one; ``maps`` are the object's.

    A target is a map's name, a cgroup's directory or a process id, by the kind of iterator.
    """
    kind = _kind(program)
    if kind in OF_MAPS and target not in maps:
        known = ", ".join(maps) or "it has none"
        wrong = f"the object has no map {target!r}" if target else "it iterates over the entries of a map"
        raise BadSetting(f"program {program.name}: {wrong}: --attach {program.name}=MAP ({known})")
    if kind in _OF_TASKS and target:
        if not (target.isascii() and target.isdigit() and len(target) < 11 and 0 < int(target) < 1 << 31):
            raise BadSetting(f"program {program.name}: {target!r} is not a process id")
    elif target and kind != "cgroup" and kind not in OF_MAPS:
        raise BadSetting(f"program {program.name}: iterators of {kind} take no target")


def attach(program: Program, handle: Any, target: str, maps: Mapping[str, int]) -> Any:
    """Attach an iterator to its target; ``maps`` are the object's, by descriptor. Return the link."""
    kind = _kind(program)
    if kind in OF_MAPS:
        return lib.eu_attach_iter(handle, maps[target], 0, 0)
    if kind != "cgroup":
        return lib.eu_attach_iter(handle, 0, 0, int(target or 0))
    directory = _cgroup(program, target)
    try:
        return lib.eu_attach_iter(handle, 0, directory, 0)
    finally:
        os.close(directory)


def _kind(program: Program) -> str:
    return program.section.lstrip("?").partition("/")[2]


def _cgroup(program: Program, path: str) -> int:
    root = unified()
    path = path or (root.mount if root is not None else "") or ""
    if not path:
        raise BadSetting(f"program {program.name}: cgroup v2 is not mounted: --attach {program.name}=DIRECTORY")
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadSetting(f"program {program.name}: cgroup {path}: {error.strerror}") from None


class IteratorReader(TableReader):
    """Reads the output of an iterator from its beginning to its end, a piece at a time."""

    def __init__(self, spec: StreamSpec, begin: Callable[[], int | None]) -> None:
        super().__init__(spec, -1)
        self._begin = begin
        self._file: int | None = None
        self._rest = b""

    def prepare(self) -> None:
        """Begin, if it has not begun: it can then be read after its program is detached."""
        if self._file is None:
            self._file = self._begin()

    def drain(self, clock: int = 0, taken: int = 0) -> list[Batch]:
        """Return the next rows; call again while ``waiting``."""
        self.prepare()
        if self._file is None:
            return []
        written, ended = self._read(self._file)
        if ended:
            self.close()
        self.waiting = int(not ended)
        rows, data, heap = self._rows(written, ended)
        self.drained += rows
        if not rows:
            return []
        return [Batch(self.schema, data, heap, stream=self.spec.name, clock=clock, taken=taken)]

    def _read(self, file: int) -> tuple[bytes, bool]:
        """Return the rest of the last piece and what follows, and whether that is the end."""
        pieces, length, ended = [self._rest], 0, False
        self._rest = b""
        while length < _PIECE and not ended:
            try:
                piece = os.read(file, _PIECE)
            except OSError as error:
                if error.errno == errno.EAGAIN:  # the kernel pauses after many objects without output
                    continue
                self.close()
                raise KernelError(f"iterator {self.spec.name}: {error.strerror}") from None
            pieces.append(piece)
            length += len(piece)
            ended = not piece
        return b"".join(pieces), ended

    def _rows(self, written: bytes, ended: bool) -> tuple[int, bytes, bytes]:
        if self.spec.kind == "lines":
            return self._lines(written, ended)
        if any(field.meaning == "blob" for field in self.schema.fields.values()):
            parts = [written[i : i + _LINE] for i in range(0, len(written), _LINE)]
            places = [_RAW.pack(len(part), i * _LINE, len(part)) for i, part in enumerate(parts)]
            return len(parts), b"".join(places), written
        count, left = divmod(len(written), self.schema.size)
        if left and ended:
            raise KernelError(
                f"iterator {self.spec.name}: it wrote {left} bytes more than whole records of {self.schema.size}: "
                f"say which struct it is: --event {self.spec.name}=STRUCT"
            )
        whole = count * self.schema.size
        self._rest = written[whole:]
        return count, written[:whole], b""

    def _lines(self, written: bytes, ended: bool) -> tuple[int, bytes, bytes]:
        lines = written.split(b"\n")
        last = lines.pop()
        if ended or len(last) >= _LINE:
            lines += [last] if last else []
        else:
            self._rest = last
        parts = [line[i : i + _LINE] for line in lines for i in range(0, max(1, len(line)), _LINE)]
        at, places = 0, []
        for part in parts:
            places.append(_PLACE.pack(at, len(part)))
            at += len(part) + 1
        return len(parts), b"".join(places), b"".join([part + b"\0" for part in parts])

    def close(self) -> None:
        """End it."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
