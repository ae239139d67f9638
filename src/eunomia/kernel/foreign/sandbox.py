# SPDX-License-Identifier: BSD-2-Clause
"""Reads a stranger's object where it can do no harm: in a process without rights, memory and time to waste.

:func:`inspect` asks a helper, which :mod:`eunomia.kernel.foreign.confined` is; that forks a process for each object.
The helper is started when it is needed, gives up its rights before it sees anything, and ends when nobody has asked
for a while. Starting Python for each object would take 0.15 s of processor time each; a fork takes a tenth of that.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl
from threading import BoundedSemaphore, Lock, Thread

import msgspec

from eunomia.kernel.errors import BadObject, BadSetting, KernelError

MEMORY = 512 << 20  # bytes of address space; the interpreter and its libraries take 60 MB of it
SECONDS = 10  # for one object, by the clock and of processor time; the largest we know take two
LARGEST = 64 << 20  # bytes of an object
ANSWER = 1 << 20  # bytes of an answer
AT_ONCE = 4  # objects; each may use the memory above
PATIENCE = 30  # seconds beyond those of an object, before the helper itself is given up

_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
_BOOT = """
import sys
sys.path[:] = sys.argv[1:]
from eunomia.kernel.foreign import confined
confined.serve()
"""


class Program(msgspec.Struct, frozen=True):
    """A program of an object."""

    name: str
    section: str
    optional: bool


class Map(msgspec.Struct, frozen=True):
    """A map of an object; ``type`` is libbpf's name for its type."""

    name: str
    type: str


class Stream(msgspec.Struct, frozen=True):
    """A stream of an object, with the names of its columns; ``kind`` as in :class:`eunomia.kernel.spec.StreamSpec`."""

    name: str
    kind: str
    fields: tuple[str, ...]
    hint: str


class Description(msgspec.Struct, frozen=True):
    """What an object holds. Its names come from a stranger: escape them where they are shown."""

    programs: tuple[Program, ...]
    maps: tuple[Map, ...]
    streams: tuple[Stream, ...]
    settings: tuple[str, ...]


class Answer(msgspec.Struct, omit_defaults=True):
    """What the process without rights answers: a description, or what is wrong with the object or the request."""

    ok: Description | None = None
    bad_object: str = ""
    bad_setting: str = ""


class Request(msgspec.Struct):
    """What is asked about the object in the descriptor that comes along."""

    name: str
    events: dict[str, str]
    memory: int
    seconds: int


class Ready(msgspec.Struct):
    """The helper's first message: how it is confined, or why it cannot be."""

    confined: tuple[str, ...] = ()
    failed: str = ""


def inspect(
    data: bytes,
    name: str = "object",
    events: Mapping[str, str] | None = None,
    *,
    memory: int = MEMORY,
    seconds: int = SECONDS,
) -> Description:
    """Describe an object that anyone may have written; blocks for some tens of milliseconds, at most ``seconds``.

    ``name`` begins its messages, ``events`` says which struct a buffer carries. May be called from any thread.

    Raises :class:`BadObject`, :class:`BadSetting` for wrong ``events``, and :class:`KernelError` if this machine
    cannot confine a process.
    """
    if len(data) > LARGEST:
        raise BadObject(f"{name}: it has more than {LARGEST >> 20} MiB, which no BPF object has")
    request = msgspec.json.encode(Request(name, dict(events or {}), memory, seconds))
    if len(request) > 1 << 16:
        raise BadSetting(f"{name}: the names in the request have more than 64 KiB")
    with _at_once:
        said, ended = _ask(request, data, seconds)
    if ended == _DONE and len(said) <= ANSWER:
        return _description(said, name)
    raise BadObject(f"{name}: {_how_it_ended(ended, len(said) > ANSWER, memory, seconds)}")


def confinement() -> tuple[str, ...]:
    """Return in words what keeps the process that reads objects from the rest of the machine."""
    return _helper.confined()


def close() -> None:
    """End the helper, if it runs; the next :func:`inspect` starts it again."""
    _helper.close()


# How the process ended: what waitpid() says of it, and what the helper adds.
_DONE = 0
NOT_CONFINED, OUT_OF_MEMORY = 3, 4  # exit codes: before it read anything, and after
OUT_OF_TIME = 1 << 16
_GONE = -1  # the helper itself ended


def _description(said: bytes, name: str) -> Description:
    try:
        answer = msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError:
        raise BadObject(f"{name}: it broke the process that read it, which answered nonsense") from None
    if answer.bad_setting:
        raise BadSetting(_printable(answer.bad_setting))
    if answer.ok is None:
        raise BadObject(_printable(answer.bad_object or f"{name}: it cannot be read"))
    return answer.ok


def _how_it_ended(status: int, too_long: bool, memory: int, seconds: int) -> str:
    """Return what is wrong with an object over which the process ended without an answer."""
    by = signal.Signals(os.WTERMSIG(status)) if os.WIFSIGNALED(status) and not status & OUT_OF_TIME else None
    if too_long:
        return f"its description has more than {ANSWER >> 20} MiB"
    if status & OUT_OF_TIME or by == signal.SIGXCPU:
        return f"reading it takes more than {seconds} s"
    if by == signal.SIGSYS:
        return "it makes the process that reads it call what reading does not need; it may be an attack"
    if by is not None and by != signal.SIGKILL:
        return f"it is broken: what reads it crashes ({by.name})"
    return f"reading it needs more than {memory >> 20} MiB of memory, or more than there is"


def _printable(text: str) -> str:
    """Return a message of the process without rights without what could move a cursor."""
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


def _ask(request: bytes, data: bytes, seconds: int) -> tuple[bytes, int]:
    """Return what the process answered, at most a byte more than it may, and how it ended."""
    held = _sealed(data)
    try:
        for _ in range(2):  # the helper may have ended just now, as nobody had asked
            said, ended = _ask_once(request, held, seconds)
            if ended != _GONE:
                break
    finally:
        os.close(held)
    if ended == _GONE:
        raise KernelError("the helper that reads objects ended before it answered: is the machine out of memory?")
    if ended == NOT_CONFINED << 8:
        raise KernelError("a process cannot be confined here: the kernel refuses seccomp filters")
    return said, ended


def _ask_once(request: bytes, held: int, seconds: int) -> tuple[bytes, int]:
    os.lseek(held, 0, os.SEEK_SET)
    answer_from, answer_to = os.pipe2(os.O_CLOEXEC)
    status_from, status_to = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            helper = _helper.send(request, (held, answer_to, status_to))
        finally:
            os.close(answer_to)
            os.close(status_to)
        until = time.monotonic() + seconds + PATIENCE
        try:
            said = _read(answer_from, ANSWER + 1, until)
            if len(said) > ANSWER:
                return said, _DONE
            status = _read(status_from, 5, until)  # to its end: by then the helper holds nothing of this object
        except TimeoutError:
            _helper.forget(helper)
            raise KernelError("the helper that reads objects does not answer") from None
        if len(status) != 4:
            _helper.forget(helper)
            return said, _GONE
        return said, int.from_bytes(status, "little")
    finally:
        os.close(answer_from)
        os.close(status_from)


def _read(descriptor: int, most: int, until: float) -> bytes:
    """Return what a pipe has until its end, or up to ``most`` bytes."""
    out = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(out) < most:
        if not poll.poll(max(0, until - time.monotonic()) * 1000):
            raise TimeoutError
        part = os.read(descriptor, most - len(out))
        if not part:
            break
        out += part
    return bytes(out)


def _sealed(data: bytes) -> int:
    """Return a memory file that nobody can change: other than a pipe it needs nobody to write while it is read."""
    held = os.memfd_create("object", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(held, rest) :]
        fcntl(held, F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(held)
        raise
    return held


class _Helper:
    """The process that forks others: started when something is sent, and again after it ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._control: socket.socket | None = None
        self._confined: tuple[str, ...] = ()

    def send(self, request: bytes, descriptors: Iterable[int]) -> socket.socket:
        """Pass a request on; return to whom: a helper that ends now closes its descriptors without an answer."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        with self._lock:
            control = self._running()
            with suppress(BrokenPipeError, ConnectionResetError):
                control.sendmsg([request], rights)
            return control

    def confined(self) -> tuple[str, ...]:
        with self._lock:
            self._running()
            return self._confined

    def forget(self, control: socket.socket) -> None:
        """Start another helper the next time, unless that was done already."""
        with self._lock:
            if self._control is control:
                self._close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _running(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with theirs:
                    pid = _spawn(theirs.fileno())
                Thread(target=_reap, args=(pid,), daemon=True).start()
                ready = _ready(ours.recv(1 << 16))
            except BaseException:
                ours.close()
                raise
            self._control, self._confined = ours, ready.confined
        return self._control


def _spawn(control: int) -> int:
    """Start the helper with its end of a socket as standard input, and nothing else of ours."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    arguments = [sys.executable, "-I", "-S", "-B", "-c", _BOOT, *(os.path.abspath(place) for place in sys.path)]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, control, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
        return os.posix_spawn(
            sys.executable, arguments, kept, file_actions=actions, setsid=True, setsigmask=(),
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
        )  # fmt: skip
    finally:
        os.close(null)


def _reap(pid: int) -> None:
    """Wait for the helper, which ends by itself: no zombie is left."""
    with suppress(ChildProcessError):  # children of this process are reaped by the kernel, or by somebody else
        os.waitpid(pid, 0)


def _ready(said: bytes) -> Ready:
    if not said:
        raise KernelError("the helper that reads objects cannot start")
    ready = msgspec.json.decode(said, type=Ready)
    if ready.failed:
        raise KernelError(f"a process cannot be confined here: {ready.failed}")
    return ready


_helper = _Helper()
_at_once = BoundedSemaphore(AT_ONCE)
