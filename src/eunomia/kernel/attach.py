# SPDX-License-Identifier: BSD-2-Clause
"""Attaches programs to what their sections name, and to targets that users give."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Sequence

from eunomia.cgroup_hierarchy import unified
from eunomia.kernel import targets as means
from eunomia.kernel.diagnose import attach_error, kind, strerror
from eunomia.kernel.errors import Absent, BadSetting, KernelError
from eunomia.kernel.libbpf import ffi, lib, log_start, log_take
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.kernel.hooks.chain import Handler
    from eunomia.kernel.hooks.shared import HookLink
    from eunomia.kernel.hooks.syscalls import CallLink
    from eunomia.kernel.perf_events import PerfEvent
    from eunomia.kernel.spec import Program, Spec

# enum bpf_attach_type and the flags of XDP, include/uapi/linux/bpf.h and if_link.h
_XDP, _TCX = 37, {"ingress": 46, "egress": 47}
_XDP_MODES = {"": 0, "generic": 1 << 1, "native": 1 << 2, "offload": 1 << 3}
_SO_ATTACH_BPF = 50
SYSCALLS = frozenset({"syscall_enter", "syscall_exit"})  # of eunomia/syscall.h
# enum bpf_prog_type of kinds for which libbpf knows only some section names.
_TYPES = {"socket": 1, "tc": 3, "tcx": 3, "classifier": 3}


class Link:
    """Keeps a program attached until :meth:`close`; ``fd`` is its descriptor.

    ``update`` puts another program here by one store, given by its descriptor; it returns 0 or a negative errno, and
    is None where there is no such thing.
    """

    def __init__(self, fd: int, close: Callable[[], object], update: Callable[[int], int] | None = None) -> None:
        self.fd = fd
        self.close = close
        self._update = update

    def replace(self, new: Any) -> None:
        """Put another program here; raises :class:`KernelError`, and the old one goes on then."""
        failed = -errno.EOPNOTSUPP if self._update is None else self._update(new)
        if failed:
            raise KernelError(f"its program cannot be replaced: {strerror(-failed)}")

    def misses(self) -> int:
        """Return 0: the program itself counts how often the kernel skipped it."""
        return 0


if TYPE_CHECKING:
    AnyLink = Link | HookLink | CallLink


def attach_handler(program: Program, handler: Handler, targets: Sequence[str] = ()) -> list[HookLink | CallLink]:
    """Put a program that was written for shared hooks (``eunomia/hook.h``) behind the others there; return its links.

    Raises :class:`Unsupported` or another :class:`KernelError`, and leaves nothing attached then.
    """
    from eunomia.kernel.hooks import place, shared, syscalls

    try:
        if syscalls.is_of_calls(program.section):
            return [syscalls.attach(program.section, handler)]
        word = program.section.partition("/")[0]
        sections = [f"{word}/{target}" for target in targets] or [program.section]
        places = [p for p in map(place.place, sections) if p is not None]
        if len(sections) > 1 or not places:
            raise BadSetting(f"program {program.name} ({program.section}) shares a hook: it takes one tracepoint")
        return [shared.attach(places[0], handler)]
    except KernelError as error:
        error.program = program.name
        raise


def attach(spec: Spec, program: Program, handle: Any, targets: Sequence[str] = ()) -> list[Link]:
    """Attach one program, to each of ``targets`` or to what its section names; return its links.

    :mod:`eunomia.kernel.targets` says what a target is. Raises :class:`Unsupported` or another
    :class:`KernelError`, and leaves nothing attached then.
    """
    obstacle = means.obstacle(program, [program], targets)
    if obstacle is not None:
        raise obstacle
    places = means.check(program, targets)
    links: list[Link] = []
    log_start()
    try:
        makers = _makers(program, handle, places, bool(targets))
        for i, make in enumerate(makers):
            ffi.errno = 0
            made = make()
            if made is None:
                number, at = ffi.errno or errno.EINVAL, i * len(targets) // len(makers)
                raise attach_error(spec, program, number, log_take(), targets[at : at + 1])
            links.append(made)
    except BaseException:
        detach(links)
        raise
    return links


def hook(program: Program, handle: Any, targets: Sequence[str]) -> tuple[object, ...]:
    """Return what a program hangs on; programs of which it is the same can take each other's place."""
    word = program.section.lstrip("?").partition("/")[0]
    if word in {"syscall_enter", "syscall_exit"}:  # of eunomia/syscall.h, whatever calls it names
        return (word, lib.bpf_program__expected_attach_type(handle))
    where = tuple(means.check(program, targets)) if targets else (program.section.partition("/")[2],)
    types = lib.bpf_program__type(handle), lib.bpf_program__expected_attach_type(handle)
    return (means.family(program), word.endswith(".s"), word.rpartition("ret")[1], *types, *where)


def is_updated(program: Program) -> bool:
    """Whether the kernel puts another program on the link of one of this kind."""
    return kind(program.section) in means.CGROUP | means.TC | means.SOCKETS | {"xdp", "iter"}


def prepare(spec: Spec, program: Program, handle: Any, targets: Sequence[str]) -> None:
    """Set, before libbpf loads a program, what its section does not say."""
    word = kind(program.section)
    if word in SYSCALLS and lib.eu_find_syscall_hooks() and os.path.exists("/sys/kernel/btf/vmlinux"):
        raise Absent("this kernel has no tracepoints sys_enter and sys_exit in its BTF")
    if word in SYSCALLS:
        from eunomia.kernel.hooks.syscalls import by_functions

        lib.bpf_program__set_expected_attach_type(handle, by_functions(program.section))
    if not program.type and word in _TYPES:
        lib.bpf_program__set_type(handle, _TYPES[word])
    if word in means.BY_TYPE and targets:
        (target,) = means.check(program, targets)
        log_start()
        if failed := lib.bpf_program__set_attach_target(handle, 0, target.encode()):
            raise attach_error(spec, program, -failed, log_take(), targets)


def _makers(program: Program, handle: Any, places: list[Any], given: bool) -> list[Callable[[], Link | None]]:
    """Return a function for each link; it returns None and leaves an errno if the kernel refuses."""
    word = kind(program.section)
    returns = int("ret" in word)
    if word in means.TRACEPOINTS:
        pairs = tracepoints(program, places)
        return [_linked(lib.eu_attach_tracepoint, handle, c.encode(), n.encode()) for c, n in pairs]
    if word == "perf_event":
        return [_sampling(handle, cpu, event) for event in places for cpu in online_cpus()]
    if word == "xdp":
        return [_on_device(handle, p.number, _XDP, _XDP_MODES[p.way]) for p in places]
    if word in means.TC:
        return [_tc(handle, p.number, p.way) for p in places]
    if word in means.SOCKETS:
        return [_socket(handle, p.name) for p in places]
    if word in means.CGROUP:
        return [_to_cgroup(handle, path) for path in places or [""]]
    if word == "usdt" and places:
        return [_usdt(handle, p) for p in places]
    if word in {"ksyscall", "kretsyscall"} and given:
        return [_linked(lib.eu_attach_ksyscall, handle, returns, p.encode()) for p in places]
    if word in means.UPROBES | means.KPROBES and places:
        return [_probe(handle, returns, p) for p in places]
    if word in means.RAW_TRACEPOINTS and given:
        return [_linked(lib.bpf_program__attach_raw_tracepoint, handle, p.encode()) for p in places]
    return [_linked(lib.bpf_program__attach, handle)]


def _linked(call: Callable[..., Any], *arguments: Any) -> Callable[[], Link | None]:
    def make() -> Link | None:
        made = call(*arguments)
        return None if made == ffi.NULL else linked(made)

    return make


def linked(made: Any) -> Link:
    """Return libbpf's link as one of ours."""
    fd: int = lib.bpf_link__fd(made)
    return Link(fd, lambda: lib.bpf_link__destroy(made), functools.partial(_update, fd))


def _update(link: int, program: int) -> int:
    """Put a program on a link, where the kernel can (cgroups, iterators, XDP, tcx); EINVAL where it cannot."""
    return int(lib.bpf_link_update(link, program, ffi.NULL))


def _probe(handle: Any, returns: int, place: means.Place | str) -> Callable[[], Link | None]:
    if isinstance(place, str):
        function, _, offset = place.partition("+")
        return _linked(lib.eu_attach_kprobe, handle, returns, function.encode(), means.number_of(offset or "0"))
    path, symbol = os.fsencode(place.path), place.function.encode()
    return _linked(lib.eu_attach_uprobe, handle, returns, place.pid, path, symbol, place.offset)


def _usdt(handle: Any, place: means.Place) -> Callable[[], Link | None]:
    path, provider, name = os.fsencode(place.path), place.provider.encode(), place.function.encode()
    return _linked(lib.bpf_program__attach_usdt, handle, place.pid, path, provider, name, ffi.NULL)


def _sampling(handle: Any, cpu: int, event: PerfEvent) -> Callable[[], Link | None]:
    return _linked(lib.eu_attach_sampling, handle, cpu, event.type, event.config, event.rate, int(event.frequent))


def _on_device(handle: Any, device: int, attach_type: int, flags: int = 0) -> Callable[[], Link | None]:
    def make() -> Link | None:
        fd = lib.eu_link_to_device(lib.bpf_program__fd(handle), device, attach_type, flags)
        if fd < 0:
            ffi.errno = -fd
            return None
        return Link(fd, lambda: os.close(fd), functools.partial(_update, fd))

    return make


def _tc(handle: Any, device: int, way: str) -> Callable[[], Link | None]:
    """Attach by a BPF link (tcx, Linux 6.6), or else by a filter that is deleted at the end."""
    by_link = _on_device(handle, device, _TCX[way])

    def make() -> Link | None:
        link = by_link()
        if link is not None or ffi.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            return link
        numbers, made = ffi.new("uint32_t[2]"), ffi.new("int *")
        egress = int(way == "egress")
        failed = lib.eu_tc_attach(lib.bpf_program__fd(handle), device, egress, numbers, numbers + 1, made)
        if failed:
            ffi.errno = -failed
            return None
        return Link(
            -1,
            lambda: lib.eu_tc_detach(device, egress, numbers[0], numbers[1], made[0]),
            lambda program: int(lib.eu_tc_replace(program, device, egress, numbers[0], numbers[1])),
        )

    return make


def _socket(handle: Any, device: str) -> Callable[[], Link | None]:
    """Attach to our own socket that receives a device's packets; only the program sees them."""

    def make() -> Link | None:
        import socket

        try:
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)  # 0: receives nothing yet
            try:
                ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                ear.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, lib.bpf_program__fd(handle))
                ear.bind((device, 3))  # ETH_P_ALL
            except OSError:
                ear.close()
                raise
        except OSError as error:
            ffi.errno = error.errno or errno.EINVAL
            return None

        def update(program: int) -> int:
            try:
                ear.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, program)
            except OSError as error:
                return -(error.errno or errno.EINVAL)
            return 0

        return Link(ear.fileno(), ear.close, update)

    return make


def _to_cgroup(handle: Any, path: str) -> Callable[[], Link | None]:
    def make() -> Link | None:
        directory = _open_cgroup(path)
        try:
            return _linked(lib.bpf_program__attach_cgroup, handle, directory)()
        finally:
            number = ffi.errno
            os.close(directory)
            ffi.errno = number

    return make


def _open_cgroup(path: str) -> int:
    if not path:
        root = unified()
        if root is None:
            raise BadSetting("cgroup v2, to which they are attached, is not mounted: mount -t cgroup2 none DIR")
        path = root.mount or ""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadSetting(f"cgroup {path}: {error.strerror}") from None


def tracepoints(program: Program, places: Sequence[str]) -> list[tuple[str, str]]:
    """Return the tracepoints that a program hangs on, each as its category and its name there."""
    names = places or [program.section.partition("/")[2]]
    return [(category, n) for category, _, rest in (n.partition("/") for n in names) for n in alternatives(rest)]


def alternatives(name: str) -> list[str]:
    """Return the tracepoints that a section names: ``sys_exit_{open,openat}`` stands for two.

    libbpf expands these only if it attaches the program itself, which it does not here.
    """
    before, brace, rest = name.partition("{")
    if not brace:
        return [name]
    words, _, after = rest.partition("}")
    return [f"{before}{word}{after}" for word in words.split(",")]


def detach(links: Sequence[AnyLink]) -> None:
    """Detach programs."""
    for link in links:
        link.close()


def online_cpus() -> list[int]:
    """Return the numbers of the processors that are online."""
    try:
        with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
            spans = file.read().strip().split(",")
    except OSError:
        return list(range(os.cpu_count() or 1))
    cpus: list[int] = []
    for span in spans:
        first, _, last = span.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus
