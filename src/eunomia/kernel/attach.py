# SPDX-License-Identifier: BSD-2-Clause
"""Hang programs on what their sections name; what libbpf leaves open is decided here."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from eunomia.hierarchy import unified
from eunomia.kernel.diagnose import attach_error, kind
from eunomia.kernel.errors import BadSetting, KernelError
from eunomia.kernel.libbpf import ffi, lib, log_start, log_take

if TYPE_CHECKING:
    from eunomia.kernel.spec import Program, Spec

# Kinds of sections whose target is a cgroup: the root of the v2 hierarchy unless told otherwise.
_CGROUP = frozenset({"cgroup_skb", "cgroup", "sockops", "sk_msg"})
_DIGITS = 20  # of a number of samples: Python refuses to read thousands
_SAMPLES = 49  # a second: prime, so that it does not beat with timers


def attach(spec: Spec, program: Program, handle: Any, target: str = "") -> list[Any]:
    """Attach one program, to ``target`` where its section names none; return its links.

    ``target`` is a network device (XDP), a cgroup's directory, ``BINARY:SYMBOL`` (uprobes) or a number of
    samples a second (perf_event). Raises :class:`Unsupported` or another :class:`KernelError`.
    """
    log_start()
    word, _, rest = program.section.lstrip("?").partition("/")
    if word in {"tp", "tracepoint"}:
        category, _, name = rest.partition("/")
        links = [lib.eu_attach_tracepoint(handle, category.encode(), n.encode()) for n in alternatives(name)]
    elif word == "perf_event":
        hertz = _number(program, target or str(_SAMPLES))
        links = [lib.eu_attach_clock(handle, cpu, hertz) for cpu in online_cpus()]
    elif kind(program.section) == "xdp":
        links = [lib.bpf_program__attach_xdp(handle, _device(program, target))]
    elif word in _CGROUP:
        links = [_to_cgroup(handle, target)]
    elif word in {"uprobe", "uretprobe"} and target:
        section = f"{word}/{target}"
        raise BadSetting(f"program {program.name}: name its target in its section, as in SEC({section!r})")
    else:
        links = [lib.bpf_program__attach(handle)]
    failed = [link for link in links if link == ffi.NULL]
    if failed:
        number = ffi.errno or errno.EINVAL
        detach([link for link in links if link != ffi.NULL])
        if word in {
            "socket",
            "tc",
            "classifier",
            "action",
            "tcx",
            "sk_skb",
            "flow_dissector",
            "struct_ops",
            "syscall",
        }:
            raise KernelError(
                f"{spec.name}: program {program.name} ({program.section}) says not what to attach it to, "
                f"and eunomia attaches no programs of this kind"
            )
        raise attach_error(spec, program, number, log_take())
    return links


def alternatives(name: str) -> list[str]:
    """Return the tracepoints that a section names: ``sys_exit_{open,openat}`` stands for two.

    libbpf leaves tracepoints' names alone until it attaches them itself, which it doesn't here.
    """
    before, brace, rest = name.partition("{")
    if not brace:
        return [name]
    words, _, after = rest.partition("}")
    return [f"{before}{word}{after}" for word in words.split(",")]


def detach(links: list[Any]) -> None:
    """Take programs off what they hang on."""
    for link in links:
        lib.bpf_link__destroy(link)


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


def _number(program: Program, word: str) -> int:
    number = int(word) if word.isascii() and word.isdigit() and len(word) < _DIGITS else 0
    if not 0 < number <= 100_000:
        shown = word if len(word) <= 40 else f"{word[:40]}..."
        raise BadSetting(f"program {program.name}: '{shown}' is not a number of samples a second")
    return number


def _device(program: Program, name: str) -> int:
    import socket

    if not name:
        devices = ", ".join(n for _, n in socket.if_nameindex())
        raise BadSetting(
            f"program {program.name} needs a network device: --attach {program.name}=DEVICE ({devices})"
        )
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise BadSetting(f"program {program.name}: there is no network device {name!r}") from None


def _to_cgroup(handle: Any, path: str) -> Any:
    if not path:
        root = unified()
        if root is None:
            raise BadSetting("cgroup v2, which such programs hang on, is not mounted: mount -t cgroup2 none DIR")
        path = root.mount or ""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadSetting(f"cgroup {path}: {error.strerror}") from None
    try:
        return lib.bpf_program__attach_cgroup(handle, directory)
    finally:
        os.close(directory)
