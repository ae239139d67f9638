# SPDX-License-Identifier: BSD-2-Clause
"""Handlers of system calls on the functions that do these calls, where the kernel has fentry: other calls pay nothing.

Each function has a stub, which calls what is in the table under the call's index; the handlers are verified once, for
all of these functions have one prototype.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from eunomia.kernel.errors import KernelError
from eunomia.kernel.hooks import code, table
from eunomia.kernel.hooks.chain import Chain, Handler
from eunomia.kernel.libbpf import ffi, lib
from eunomia.typing import NamedTuple

_TRACING = 26  # BPF_PROG_TYPE_TRACING
ATTACH_TYPES = {"sys_enter": 24, "sys_exit": 25}  # BPF_TRACE_FENTRY, BPF_TRACE_FEXIT
_ABI = 1024  # the first index of the 32-bit ABI; that of x32 is twice as much
_INDEXES = 3 * _ABI
_MOST = 32

# The functions of a call by each ABI, the first that there is; by x32 the native one where it has none of its own.
_FORMS = {
    "x86_64": (("__x64_sys_",), ("__ia32_compat_sys_", "__ia32_sys_"), ("__x64_compat_sys_",)),
    "aarch64": (("__arm64_sys_",), ("__arm64_compat_sys_",), ()),
}.get(os.uname().machine, ((), (), ()))
_PROBED = "getpgid"

Calls = Mapping[str, list[int]]


class Function(NamedTuple):
    """A function of the kernel's by its BTF."""

    name: str
    id: int
    prototype: int


_known: dict[str, Function | None] = {}
_works: list[bool] = []


def _find(names: list[str]) -> None:
    """Look functions up that were not yet looked for."""
    new = [n for n in names if n not in _known]
    if not new:
        return
    ids, prototypes = ffi.new("uint32_t[]", len(new)), ffi.new("uint32_t[]", len(new))
    text = b"".join(n.encode() + b"\0" for n in new)
    if lib.eu_kernel_functions(ffi.from_buffer(text), len(new), ids, prototypes):
        ids = prototypes = [0] * len(new)
    for name, id_, prototype in zip(new, ids, prototypes, strict=True):
        _known[name] = Function(name, id_, prototype) if id_ else None


def functions(calls: Calls) -> dict[int, Function]:
    """Return the functions that do some calls, by the index of the call that each does; not all need be there."""
    _find([prefix + name for name in calls for forms in _FORMS for prefix in forms])
    found = {}
    for name, indexes in calls.items():
        for index in indexes:
            there = [_known[prefix + name] for prefix in _FORMS[index // _ABI]]
            function = next((f for f in there if f is not None), None)
            if function is not None:
                found[index] = function
    return found


def works() -> bool:
    """Return whether this kernel lets programs hang on functions; tried once."""
    if not _works:
        found = functions({_PROBED: [0]})
        _works.append(bool(found) and _can_hang(found[0]))
    return _works[0]


def _can_hang(function: Function) -> bool:
    try:
        program = table.load(_TRACING, ATTACH_TYPES["sys_exit"], function.id, "eu_probe", code.EXIT)
    except KernelError:
        return False
    link = lib.eu_attach_raw(program, ffi.NULL)
    os.close(program)
    if link < 0:
        return False
    os.close(link)
    return True


def usable(calls: Calls) -> bool:
    """Return whether handlers of some calls can hang on functions: each call has one, and all are of one prototype."""
    if not calls or not works():
        return False
    found = functions(calls)
    native = {index for indexes in calls.values() for index in indexes if index < _ABI}
    prototype = functions({_PROBED: [0]})[0].prototype
    if not native <= found.keys() or any(f.prototype != prototype for f in found.values()):
        return False
    lib.eu_use_function(found[min(native)].id if native else 0)
    return bool(native)


class Functions:
    """Stubs on functions where calls begin (``sys_enter``) or end, each from its first handler to its last."""

    def __init__(self, event: str) -> None:
        """Raises :class:`KernelError`."""
        self._attach_type = ATTACH_TYPES[event]
        self._table = table.table(f"{event}_fn", _INDEXES)
        self._chains: dict[int, Chain] = {}
        self._stubs: dict[int, tuple[int, int]] = {}  # program and link

    @property
    def descriptor(self) -> int:
        """Of what keeps a stub attached."""
        return next((link for _, link in self._stubs.values()), -1)

    @property
    def is_used(self) -> bool:
        """Whether there is a handler."""
        return bool(self._chains)

    def misses(self) -> int:
        """Return how often the kernel skipped a stub because it was running on that CPU already."""
        out, total = ffi.new("uint64_t *"), 0
        for program, _ in self._stubs.values():
            total += out[0] if not lib.eu_recursion_misses(program, out) else 0
        return total

    def insert(self, handler: Handler, calls: Calls) -> None:
        """Have a handler called for some calls, after those that are there; raises :class:`KernelError`."""
        done: dict[str, list[int]] = {}
        found = functions(calls)
        try:
            for name, indexes in calls.items():
                done[name] = []
                for index in indexes:
                    if index not in self._chains:
                        self._chains[index] = Chain(self._table, index, f"system call {name}", limit=_MOST)
                    done[name].append(index)
                    self._chains[index].insert(handler)
                    if index in found and index not in self._stubs:
                        self._stubs[index] = self._stub(found[index], index)
        except BaseException:
            self.remove(handler, done)
            raise

    def _stub(self, function: Function, index: int) -> tuple[int, int]:
        name = f"eu_{function.name.rpartition('sys_')[2]}"
        calls = code.map_(2, self._table) + code.number(3, index) + code.call(code.TAIL_CALL) + code.EXIT
        program = table.load(_TRACING, self._attach_type, function.id, name, calls)
        link: int = lib.eu_attach_raw(program, ffi.NULL)
        if link < 0:
            os.close(program)
            raise table.refused(f"attaching to {function.name}", link)
        return program, link

    def remove(self, handler: Handler, calls: Calls) -> None:
        """Have a handler not called any more."""
        for index in [i for indexes in calls.values() for i in indexes]:
            chain = self._chains[index]
            if handler in chain.handlers:
                chain.remove(handler)
            if not chain.handlers:
                for fd in reversed(self._stubs.pop(index, ())):
                    os.close(fd)
                del self._chains[index]

    def replace(self, old: Handler, new: Handler, calls: Calls) -> None:
        """Have another handler called in the place of one: each call meets one of the two."""
        for index in [i for indexes in calls.values() for i in indexes]:
            self._chains[index].replace(old, new)

    def close(self) -> None:
        """Take off what hangs, and free it."""
        for program, link in self._stubs.values():
            os.close(link)
            os.close(program)
        self._stubs.clear()
        if self._table >= 0:
            os.close(self._table)
        self._table = -1
