# SPDX-License-Identifier: BSD-2-Clause
"""Where in the kernel a stub hangs: what kind of program that takes, and how it is attached."""

from __future__ import annotations

import errno

from eunomia.kernel.diagnose import no_tracepoint, not_permitted
from eunomia.kernel.errors import Absent
from eunomia.kernel.hooks.table import load, refused
from eunomia.kernel.libbpf import ffi, lib
from eunomia.kernel.rights import lack
from eunomia.typing import NamedTuple

_TRACEPOINT, _RAW_TRACEPOINT, _TRACING = 5, 17, 26  # enum bpf_prog_type
_TRACE_RAW_TP = 23  # enum bpf_attach_type
_TYPEDEF = 8  # BTF_KIND_TYPEDEF


class Place(NamedTuple):
    """A tracepoint: ``kind`` is ``raw_tp``, ``tp`` (its name with the category) or ``tp_btf``."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    def load(self, name: str, code: bytes) -> int:
        """Load a program that can hang here, and return its descriptor; raises :class:`KernelError`."""
        if self.kind == "tp_btf":
            id_ = lib.eu_kernel_type(f"btf_trace_{self.name}".encode(), _TYPEDEF)
            if id_ < 0:
                raise Absent(f"this kernel has no tracepoint {self.name}", f"tracepoint {self.name}")
            return load(_TRACING, _TRACE_RAW_TP, id_, name, code)
        return load(_TRACEPOINT if self.kind == "tp" else _RAW_TRACEPOINT, 0, 0, name, code)

    def attach(self, program: int) -> int:
        """Hang a program here; closing the descriptor that is returned takes it off. Raises :class:`KernelError`."""
        if self.kind == "tp":
            category, _, name = self.name.partition("/")
            fd = lib.eu_attach_event(program, category.encode(), name.encode())
        else:
            fd = lib.eu_attach_raw(program, self.name.encode() if self.kind == "raw_tp" else ffi.NULL)
        if fd == -errno.ENOENT:
            raise not_permitted() if lack() else no_tracepoint(self.kind, self.name)
        if fd < 0:
            raise refused(f"attaching to {self}", fd)
        return int(fd)


def place(section: str) -> Place | None:
    """Return the place that a section names; None for those that take no stub."""
    kind, _, name = section.partition("/")
    kind = {"tracepoint": "tp", "raw_tracepoint": "raw_tp"}.get(kind, kind)
    return Place(kind, name) if kind in {"raw_tp", "tp", "tp_btf"} and name else None
