# SPDX-License-Identifier: BSD-2-Clause
"""A map in the kernel: its entries by their bytes."""

from __future__ import annotations

import errno

from eunomia.kernel.libbpf import error, ffi, lib
from eunomia.typing import Any


class MapHandle:
    """A live map, with keys and values as bytes; ``fd`` is its descriptor, valid while the object is loaded."""

    def __init__(self, handle: Any) -> None:
        self.fd: int = lib.bpf_map__fd(handle)
        self.key_size: int = lib.bpf_map__key_size(handle)
        self.value_size: int = lib.bpf_map__value_size(handle)

    def update(self, key: bytes, value: bytes) -> None:
        """Set an entry; raises :class:`OSError`, with E2BIG if the map is full."""
        if lib.bpf_map_update_elem(self.fd, ffi.from_buffer(key), ffi.from_buffer(value), 0):
            raise error()

    def delete(self, key: bytes) -> None:
        """Remove an entry, if it exists."""
        if lib.bpf_map_delete_elem(self.fd, ffi.from_buffer(key)) and ffi.errno != errno.ENOENT:
            raise error()

    def lookup(self, key: bytes) -> bytes | None:
        """Return an entry's value, of every CPU if the map is per-CPU; None if there is none."""
        per_cpu = (self.value_size + 7) // 8 * 8 * lib.libbpf_num_possible_cpus()
        out = ffi.new("char[]", max(per_cpu, self.value_size))
        if lib.bpf_map_lookup_elem(self.fd, ffi.from_buffer(key), out):
            return None
        return bytes(ffi.buffer(out))
