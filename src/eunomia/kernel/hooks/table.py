# SPDX-License-Identifier: BSD-2-Clause
"""Maps and programs that come from no object, and the table whose slots programs are put in."""

from __future__ import annotations

import errno
import sys

from eunomia.kernel.diagnose import not_permitted, strerror
from eunomia.kernel.errors import TOO_MANY_FILES, KernelError, Unsupported
from eunomia.kernel.libbpf import error, ffi, lib
from eunomia.kernel.spec import ARRAY, PROG_ARRAY


def refused(what: str, number: int) -> KernelError:
    """Return the error for what the kernel refused with a negative errno."""
    from eunomia.kernel.rights import privileged

    if number in {-errno.EPERM, -errno.EACCES} and not privileged():
        return not_permitted()
    if number in {-errno.EPERM, -errno.EINVAL, -errno.ENOENT, -errno.EOPNOTSUPP, -524}:
        return Unsupported(f"{what} ({strerror(-number)})")
    if number in {-errno.EMFILE, -errno.ENFILE}:
        return KernelError(f"{what}: {TOO_MANY_FILES}")
    return KernelError(f"{what}: {strerror(-number)}")


def load(type_: int, attach_type: int, btf_id: int, name: str, code: bytes) -> int:
    """Load a program and return its descriptor; raises :class:`KernelError`."""
    fd: int = lib.eu_load_code(type_, attach_type, btf_id, name.encode()[:15], ffi.from_buffer(code), len(code) // 8)
    if fd < 0:
        raise refused(f"the program {name} on a shared hook", fd)
    return fd


def array(name: str, value: bytes) -> int:
    """Make an array of one value, which the verifier does not know, and return its descriptor."""
    fd = _create(ARRAY, name, len(value), 1)
    write(fd, value)
    return fd


def write(fd: int, value: bytes) -> None:
    """Write the value of an array that has one; raises :class:`OSError`."""
    if lib.bpf_map_update_elem(fd, ffi.from_buffer(bytes(4)), ffi.from_buffer(value), 0):
        raise error()


def _create(type_: int, name: str, value_size: int, entries: int) -> int:
    fd: int = lib.eu_create_map(type_, name.encode()[:15], 4, value_size, entries)
    if fd < 0:
        raise refused(f"the map {name} of a shared hook", fd)
    return fd


def table(name: str, entries: int) -> int:
    """Make an array of programs and return its descriptor; its slots are empty."""
    return _create(PROG_ARRAY, name, 4, entries)


def put(fd: int, index: int, program: int) -> None:
    """Put a program in a slot by one store; a negative ``program`` empties it. Raises :class:`KernelError`."""
    key = ffi.from_buffer(index.to_bytes(4, sys.byteorder))
    if program < 0:
        if lib.bpf_map_delete_elem(fd, key) and ffi.errno != errno.ENOENT:
            raise refused("emptying a slot of a shared hook", -ffi.errno)
        return
    if lib.bpf_map_update_elem(fd, key, ffi.from_buffer(program.to_bytes(4, sys.byteorder)), 0):
        raise refused("putting a program in a slot of a shared hook", -ffi.errno)
