# SPDX-License-Identifier: BSD-2-Clause
"""A stream of what a foreign object's programs print by ``bpf_printk()``.

The trace pipe has one reader at a time, and does not name the program. Our program on the tracepoint
behind it does, and does not affect the pipe's reader.
"""

from __future__ import annotations

from collections.abc import Mapping

from eunomia.kernel.libbpf import ffi, lib, text
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.ring import RingReader
from eunomia.kernel.spec import PRINTK, Spec, naming

_FUNCTIONS = 256  # as in printk.bpf.c


def follow(live: Loaded, name: str, constants: Mapping[str, object]) -> None:
    """Give a loaded object, whose programs are not attached yet, the stream ``name`` of their output.

    ``constants`` are those of :meth:`Hierarchy.constants`. Raises :class:`Unsupported` before Linux 5.9.
    """
    programs, starts, ends = _code(live)
    settings: dict[str, object] = dict(constants)
    if starts:
        settings |= {"eunomia_functions": len(starts), "eunomia_starts": starts, "eunomia_ends": ends}
    follower = Loaded.attached(Spec.open(PRINTK, quick=True), set_=settings)
    reader = follower.readers["printk"]
    assert isinstance(reader, RingReader)
    reader.schema = naming(reader.schema, programs)
    reader.spec = reader.spec._replace(schema=reader.schema)
    live.adopt(name, follower, "printk")


def _code(live: Loaded) -> tuple[list[str], list[int], list[int]]:
    """Return the functions of an object's programs: the program's name, where its code starts and ends.

    None if the kernel hides them (``kernel.kptr_restrict``), or if they are too many.
    """
    names: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    start, end = ffi.new("uint64_t[]", _FUNCTIONS), ffi.new("uint64_t[]", _FUNCTIONS)
    for handle in live.programs():
        count = lib.eu_program_code(lib.bpf_program__fd(handle), start, end, _FUNCTIONS)
        if count <= 0 or len(starts) + count > _FUNCTIONS or not all(start[i] for i in range(count)):
            return [], [], []
        names += [text(lib.bpf_program__name(handle))] * count
        starts += list(start[0:count])
        ends += list(end[0:count])
    return names, starts, ends
