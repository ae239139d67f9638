# SPDX-License-Identifier: BSD-2-Clause
"""When system calls began: one program writes it down for all that ask (``eunomia/syscall_time.h``), while any do."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable

from eunomia.kernel.errors import Absent, KernelError
from eunomia.kernel.hooks import LOCK, syscalls
from eunomia.kernel.hooks.chain import Handler
from eunomia.kernel.hooks.dispatcher import NUMBERS
from eunomia.kernel.hooks.functions import usable, works
from eunomia.kernel.hooks.place import Place
from eunomia.kernel.libbpf import lib, text
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.kernel.loaded import Loaded

MAP = "eunomia_begun"
_READERS = 64  # bits in the setting
_ANY = ""
_OBJECT = os.path.join(os.path.dirname(__file__), "begun.bpf.o")

_writers: list[Writer] = []  # one, while there are readers


class Writer:
    """The program that writes, and the map that it writes to."""

    def __init__(self) -> None:
        from eunomia.kernel.loaded import Loaded
        from eunomia.kernel.spec import Spec

        chosen = ["begin_any", "begin_function" if works() else "begin_some"]
        self.live: Loaded = Loaded(Spec.open(_OBJECT, quick=True), programs=chosen)
        self.readers: list[Reader] = []
        self._links: dict[str, Callable[[], None]] = {}  # by name, or _ANY: what takes it off
        names = {text(lib.bpf_program__name(p)): lib.bpf_program__fd(p) for p in self.live.programs()}
        self._any = Handler(names["begin_any"], self.live.maps["next_begin_any"].fd)
        self._some = Handler(names[chosen[1]], self.live.maps["next_begin_function"].fd)

    def follow(self) -> None:
        """Hang it on what readers want now; raises :class:`KernelError`."""
        calls = {name: at for reader in self.readers for name, at in reader.calls.items()}
        wanted = set(calls)
        # new ones first: what is seen twice meanwhile has the later time
        if _ANY not in wanted:
            try:
                for name in sorted(wanted - self._links.keys()):
                    self._links[name] = self._hang(name, calls[name])
            except Absent:  # the kernel has no such tracepoints (CONFIG_FTRACE_SYSCALLS), or another name for this one
                wanted.add(_ANY)
        if _ANY in wanted:
            wanted = {_ANY}
            if _ANY not in self._links:
                self._links[_ANY] = syscalls.attach_at("sys_enter", self._any, {}).close
        for name in self._links.keys() - wanted:
            self._links.pop(name)()

    def _hang(self, name: str, at: list[int]) -> Callable[[], None]:
        if not works():
            link = Place("tp", f"syscalls/sys_enter_{name}").attach(self._some.program)
            return functools.partial(os.close, link)
        if not usable({name: at}):
            raise Absent(f"this kernel has no function for {name}")
        return syscalls.attach_at("sys_enter", self._some, {name: at}).close

    def close(self) -> None:
        """Take it off, and free it."""
        for take_off in self._links.values():
            take_off()
        self._links.clear()
        lib.eu_settle()
        self.live.close()


class Reader:
    """An object that asks when calls began: the map to share with it, and the bit that it is."""

    def __init__(self) -> None:
        """Load what writes, if it is not there. Raises :class:`KernelError`."""
        self.calls: dict[str, list[int]] = {}
        with LOCK:
            if not _writers:
                _writers.append(Writer())
            self._writer = _writers[0]
            free = set(range(_READERS)) - {reader.number for reader in self._writer.readers}
            if not free:
                raise KernelError(
                    f"there are {_READERS} objects that ask when system calls began, and no room for more"
                )
            self.number: int = min(free)
            self._writer.readers.append(self)

    @property
    def map(self) -> int:
        """The descriptor of the map."""
        return self._writer.live.maps[MAP].fd

    @property
    def bit(self) -> int:
        """What the object's setting is."""
        return 1 << self.number

    def begin(self, sections: Iterable[str]) -> None:
        """Have written down what handlers of these sections may ask for; raises :class:`KernelError`."""
        with LOCK:
            for section in sections:
                calls = syscalls.calls(section)
                native = {name: at for name, at in calls.items() if min(at, default=NUMBERS) < NUMBERS}
                self.calls |= native if calls else {_ANY: []}
            self._writer.follow()

    def end(self) -> None:
        """Ask for nothing any more."""
        with LOCK:
            self.calls.clear()
            self._writer.follow()

    def close(self) -> None:
        """Be a reader no more; what writes goes with the last of them."""
        with LOCK:
            self.calls.clear()
            self._writer.readers.remove(self)
            if self._writer.readers:
                self._writer.follow()
            else:
                _writers.remove(self._writer)
                self._writer.close()
