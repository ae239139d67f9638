# SPDX-License-Identifier: BSD-2-Clause
"""The helper of :mod:`eunomia.kernel.foreign.sandbox`, and the processes that it forks: one for each object.

The helper gives up its rights first and never reads an object, so what it says can be trusted. A process that it
forks has an object, two pipes and no way to anything else: it may compute, and answer.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import time
from contextlib import suppress

import msgspec

from eunomia.kernel import spec
from eunomia.kernel.errors import BadObject, BadSetting
from eunomia.kernel.foreign import sandbox
from eunomia.kernel.libbpf import lib
from eunomia.typing import NamedTuple

NOBODY = 65534
IDLE = 30  # seconds without a request after which the helper ends

_ALL = (1 << 31) - 1  # descriptors
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # include/uapi/linux/prctl.h


class _Child(NamedTuple):
    pid: int
    status: int  # the pipe that tells how it ended
    until: float


def serve() -> None:
    """Answer requests on the socket that is standard input, until it is closed or nobody asks."""
    os.chdir("/")
    os.closerange(3, _ALL)
    control = socket.socket(fileno=0)
    try:
        _warm_up()
        ready = sandbox.Ready(confined=give_up_rights())
    except Exception as error:
        ready = sandbox.Ready(failed=f"{type(error).__name__}: {error}")
    control.send(msgspec.json.encode(ready))
    if not ready.failed:
        gc.freeze()  # what is here now is not copied for each child
        _Supervisor(control).run()


class _Supervisor:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._children: dict[int, _Child] = {}  # by pidfd

    def run(self) -> None:
        while True:
            wait = min((c.until for c in self._children.values()), default=time.monotonic() + IDLE) - time.monotonic()
            ready = self._poll.poll(max(0, wait) * 1000 + 1)
            if not ready and not self._children:
                return
            for descriptor, _ in ready:
                if descriptor in self._children:
                    self._ended(descriptor)
                elif not self._request():
                    return  # and its children by that
            for descriptor, child in list(self._children.items()):
                if time.monotonic() > child.until:
                    self._ended(descriptor, sandbox.OUT_OF_TIME)

    def _request(self) -> bool:
        """Fork for a request; return whether there may be others."""
        said, passed, _, _ = socket.recv_fds(self._control, 1 << 17, 3)
        if not said:
            return False
        held, answer, status = passed
        request = msgspec.json.decode(said, type=sandbox.Request)
        pid = os.fork()
        if pid == 0:
            _read_one(request, held, answer)
        os.close(held)
        os.close(answer)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = _Child(pid, status, time.monotonic() + request.seconds)
        self._poll.register(pidfd, select.POLLIN)
        return True

    def _ended(self, pidfd: int, flags: int = 0) -> None:
        child = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        if flags:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        os.close(pidfd)
        with suppress(BrokenPipeError):  # who asked does not want to know any more
            os.write(child.status, (status | flags).to_bytes(4, "little"))
        os.close(child.status)


def give_up_rights() -> tuple[str, ...]:
    """Give up all rights for good, and say in words which; those of the network and of the user, where possible."""
    confined = []
    _must("shrink the bounding set", lib.eu_shrink_bounding_set(0))
    alone = lib.eu_leave_network(0) == 0
    if lib.eu_become(NOBODY) == 0:
        confined.append(f"runs as user {NOBODY}")
    if alone or lib.eu_leave_network(1) == 0:
        confined.append("has no network")
    _must("drop capabilities", lib.eu_keep_capabilities(0))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        resource.setrlimit(limit, (0, 0))
    _must("hide from debuggers", lib.eu_prctl(_PR_SET_DUMPABLE, 0))
    confined += ["has no capabilities", "may only compute, read its object and answer (seccomp)"]
    return tuple(confined)


def _must(what: str, err: int) -> None:
    if err:
        raise OSError(-err, f"cannot {what}: {os.strerror(-err)}")


def _read_one(request: sandbox.Request, held: int, answer: int) -> None:
    """Read one object and answer; never returns."""
    code = sandbox.NOT_CONFINED
    with suppress(BaseException):  # memory, first of all: the code says how far it came
        os.dup2(held, 0)
        os.dup2(answer, 1)
        os.closerange(3, _ALL)
        lib.eu_prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        resource.setrlimit(resource.RLIMIT_AS, (request.memory, request.memory))
        resource.setrlimit(resource.RLIMIT_CPU, (request.seconds, request.seconds + 1))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        if lib.eu_only_compute() == 0:
            code = sandbox.OUT_OF_MEMORY
            said = msgspec.json.encode(_answer(request, _all_of(0)))
            while said:
                said = said[os.write(1, said) :]
            code = 0
    os._exit(code)


def _all_of(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _answer(request: sandbox.Request, data: bytes) -> sandbox.Answer:
    try:
        return sandbox.Answer(ok=describe(data, request.name, request.events))
    except BadObject as error:
        return sandbox.Answer(bad_object=str(error)[:4000])
    except BadSetting as error:
        return sandbox.Answer(bad_setting=str(error)[:4000])
    except MemoryError:
        raise
    except Exception as error:  # a fault of ours, which is not to look as if the object were fine
        return sandbox.Answer(bad_object=f"{request.name}: reading it fails: {type(error).__name__}: {error}"[:4000])


def describe(data: bytes, name: str, events: dict[str, str]) -> sandbox.Description:
    """Describe an object, in this process."""
    found = spec.Spec(data, name, events)
    return sandbox.Description(
        programs=tuple(sandbox.Program(p.name, p.section, p.optional) for p in found.programs),
        maps=tuple(sandbox.Map(m.name, m.type_name) for m in found.maps.values()),
        streams=tuple(
            sandbox.Stream(s.name, s.kind, tuple(s.schema.fields), s.hint) for s in found.streams.values()
        ),
        settings=tuple(found.settings),
    )


def _warm_up() -> None:
    """Import what reading may need, as no file can be opened later: by reading an object of ours, and by name."""
    import difflib
    import encodings.ascii
    import encodings.latin_1
    import encodings.utf_8
    import re
    import zlib

    from elftools.elf import elffile

    from eunomia.kernel import percpu, scale, stacks
    from eunomia.kernel.foreign import bytecode, core_types, discover, dwarf, highest_bit, results, stack_fields

    del difflib, encodings, re, zlib, elffile, percpu, scale, stacks
    del bytecode, core_types, dwarf, highest_bit, results, stack_fields
    discover.keep_kernel_names()
    spec.printed()
    with open(spec.PRINTK, "rb") as file:
        describe(file.read(), "printk", {})
