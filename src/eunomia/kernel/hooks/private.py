# SPDX-License-Identifier: BSD-2-Clause
"""A private stub for a program that knows nothing of chains, so that one store can replace it.

The stub is a program of the same type and attach target, which calls the program in its slot. libbpf attaches it as it
would attach the program: the stub's descriptor replaces the program's meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from eunomia.kernel import attach as attaching
from eunomia.kernel.attachment import Attachment, Hook
from eunomia.kernel.diagnose import attach_error, kind
from eunomia.kernel.errors import KernelError
from eunomia.kernel.hooks import code, table
from eunomia.kernel.libbpf import ffi, lib, log_take
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.spec import Program, Spec

# enum bpf_prog_type, enum bpf_attach_type, enum bpf_func_id of include/uapi/linux/bpf.h
_KPROBE, _TRACEPOINT, _PERF_EVENT, _RAW_TRACEPOINT, _TRACING = 2, 5, 7, 17, 26
_TYPES = frozenset({_KPROBE, _TRACEPOINT, _PERF_EVENT, _RAW_TRACEPOINT, _TRACING})
_TRACED = frozenset({23, 24, 25})  # BPF_TRACE_RAW_TP, BPF_TRACE_FENTRY, BPF_TRACE_FEXIT
_GET_FUNC_IP = 173


def _takes_stub(program: Program, handle: Any) -> bool:
    """Whether a program works the same if a stub calls it.

    Sleepable programs cannot be called by tail call; libbpf stores the arguments of USDT probes for each object; and
    the kernel stores the address of a traced function only if the attached program asks for it.
    """
    type_, word = lib.bpf_program__type(handle), program.section.lstrip("?").partition("/")[0]
    if type_ not in _TYPES or kind(word) == "usdt" or "." in word:
        return False
    if type_ != _TRACING:
        return True
    return lib.bpf_program__expected_attach_type(handle) in _TRACED and not lib.eu_calls_helper(handle, _GET_FUNC_IP)


class PrivateStub:
    """A program that calls the one in its slot; the slot is empty at first."""

    def __init__(self, name: str, handle: Any) -> None:
        """Load it for a program that is loaded; raises :class:`KernelError`, and leaves nothing then."""
        program = lib.bpf_program__fd(handle)
        self.words = 0  # of a raw tracepoint's arguments that programs here may read
        self._program = -1
        self._table = table.table(name, 1)
        try:
            read = b""
            if lib.bpf_program__type(handle) == _RAW_TRACEPOINT:
                self.words = _words(program)
                read = code.load(8, 0, 1, 8 * (self.words - 1))
            calls = read + code.map_(2, self._table) + code.number(3, 0) + code.call(code.TAIL_CALL) + code.EXIT
            type_ = lib.bpf_program__expected_attach_type(handle)
            self._program = lib.eu_load_like(
                program, type_, f"eu_{name}".encode()[:15], ffi.from_buffer(calls), len(calls) // 8
            )
            if self._program < 0:
                raise table.refused(f"the stub of {name}", self._program)
            self.put(program)  # whether it may be called from here
            self.put(-1)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def standing_in(self, handle: Any) -> Iterator[None]:
        """Have libbpf attach the stub when it is asked to attach the program."""
        theirs: int = lib.bpf_program__fd(handle)
        kept = os.dup(theirs)
        try:
            os.dup2(self._program, theirs, inheritable=False)
            yield
        finally:
            os.dup2(kept, theirs, inheritable=False)
            os.close(kept)

    def put(self, program: int) -> None:
        """Put a program in the slot, or empty it if the descriptor is negative; raises :class:`KernelError`."""
        table.put(self._table, 0, program)

    def misses(self) -> int:
        """Return how often the kernel skipped it because it was running on that CPU already."""
        out = ffi.new("uint64_t *")
        return int(out[0]) if not lib.eu_recursion_misses(self._program, out) else 0

    def close(self) -> None:
        """Free it; it stays attached until its links are closed."""
        for fd in (self._program, self._table):
            if fd >= 0:
                os.close(fd)
        self._program = self._table = -1


def _words(program: int) -> int:
    """Return how many arguments a program on a raw tracepoint reads, at least 1; the kernel checks it of the stub."""
    words: int = lib.eu_context_words(program)
    if words < 0:
        raise KernelError(f"how many arguments it reads is not known: {os.strerror(-words)}")
    return words


class StubAttachment(Attachment):
    """A program behind a stub of its own."""

    waits = True

    def __init__(self, name: str, hook: Hook, links: Sequence[attaching.Link], stub: PrivateStub, program: int) -> None:
        super().__init__(name, hook, links, is_swappable=True)
        self._stub = stub
        self._there = program

    def check(self, spec: Spec, program: Program, handle: Any, targets: Sequence[str]) -> None:
        """Raise :class:`KernelError` if the kernel would refuse to attach a program here."""
        fd = lib.bpf_program__fd(handle)
        if lib.bpf_program__type(handle) == _RAW_TRACEPOINT and _words(fd) > self._stub.words:
            stub = PrivateStub(program.name, handle)
            try:
                with stub.standing_in(handle):
                    attaching.detach(attaching.attach(spec, program, handle, targets))
                self._stub.words = stub.words
            finally:
                stub.close()
        _check_record(spec, program, handle, targets)

    def put(self, program: int, before: int) -> None:
        """Replace the program ``before``; raises :class:`KernelError`, and then that one stays."""
        self._stub.put(program)
        self._there = program

    def start(self) -> None:
        """Let the program run; raises :class:`KernelError`."""
        self._stub.put(self._there)

    def stop(self) -> None:
        """Let no program run."""
        self._stub.put(-1)

    def misses(self) -> int:
        """Return how often the kernel skipped the stub because it was running on that CPU already."""
        return self._stub.misses()

    def close(self) -> None:
        """Detach it."""
        super().close()
        self._stub.close()


def _check_record(spec: Spec, program: Program, handle: Any, targets: Sequence[str]) -> None:
    """Refuse a program that reads more of a tracepoint's record than there is, which the kernel asks of the stub."""
    if lib.bpf_program__type(handle) != _TRACEPOINT:
        return
    for category, name in attaching.tracepoints(program, targets):
        failed = lib.eu_fits_tracepoint(lib.bpf_program__fd(handle), category.encode(), name.encode())
        if failed:
            raise attach_error(spec, program, -failed, log_take(), targets)


def attach(spec: Spec, program: Program, hook: Hook, handle: Any, targets: Sequence[str]) -> Attachment:
    """Attach a program, behind a stub if possible; then it waits.

    Raises :class:`Unsupported` or another :class:`KernelError`, and leaves nothing attached then.
    """
    if _takes_stub(program, handle):
        try:
            stub = PrivateStub(program.name, handle)
        except KernelError:
            stub = None
        if stub is not None:
            try:
                with stub.standing_in(handle):
                    links = attaching.attach(spec, program, handle, targets)
                try:
                    _check_record(spec, program, handle, targets)
                except BaseException:
                    attaching.detach(links)
                    raise
                return StubAttachment(program.name, hook, links, stub, lib.bpf_program__fd(handle))
            except BaseException:
                stub.close()
                raise
    links = attaching.attach(spec, program, handle, targets)
    return Attachment(program.name, hook, links, is_swappable=attaching.is_updated(program))
