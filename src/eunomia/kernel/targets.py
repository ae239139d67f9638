# SPDX-License-Identifier: BSD-2-Clause
"""Parses ``--attach PROGRAM=TARGET`` for each kind of program, before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence

from eunomia.kernel import iterator
from eunomia.kernel.diagnose import kind
from eunomia.kernel.encode import shown
from eunomia.kernel.errors import BadSetting, KernelError, NoPlace
from eunomia.kernel.libbpf_versions import too_new
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from eunomia.kernel.perf_events import PerfEvent
    from eunomia.kernel.spec import Program

CGROUP = frozenset({"cgroup_skb", "cgroup", "sockops"})
TRACEPOINTS = frozenset({"tp", "tracepoint"})
RAW_TRACEPOINTS = frozenset({"raw_tp", "raw_tracepoint"})
BY_TYPE = frozenset({"tp_btf", "fentry", "fexit", "fmod_ret", "lsm"})  # libbpf must know the target before it loads
KPROBES = frozenset({"kprobe", "kretprobe", "ksyscall", "kretsyscall"})
UPROBES = frozenset({"uprobe", "uretprobe"})
TC = frozenset({"tc", "tcx", "classifier"})
SOCKETS = frozenset({"socket"})

# The form of a target.
_FORMS = {
    "xdp": "DEVICE", "tc": "DEVICE:ingress or DEVICE:egress", "socket": "DEVICE", "perf_event": "EVENT:RATE",
    "uprobe": "BINARY:FUNCTION", "usdt": "BINARY:PROVIDER:NAME", "kprobe": "FUNCTION", "ksyscall": "SYSCALL",
    "tp": "CATEGORY/NAME", "raw_tp": "TRACEPOINT", "tp_btf": "TRACEPOINT", "lsm": "HOOK", "fentry": "FUNCTION",
}  # fmt: skip
_FAMILY = {
    "tcx": "tc", "classifier": "tc", "uretprobe": "uprobe", "kretprobe": "kprobe", "kretsyscall": "ksyscall",
    "tracepoint": "tp", "raw_tracepoint": "raw_tp", "fexit": "fentry", "fmod_ret": "fentry",
}  # fmt: skip
# Names that refer to hardware events or faults: a clock instead would show nanoseconds as misses.
_COUNTS = r"(?i)miss|cache|llc|(?:^|_)(?:ref|refs|cycles?|instr\w*|insns?|branch\w*|faults?|tlb|pmu|hw)(?:_|$|\d)"
_PLACEHOLDER = r"(?i)dummy|placeholder|(?:foo|bar)$"


class Place(NamedTuple):
    """A place in a binary: a function and an offset, or a USDT probe; in all processes or in one."""

    path: str
    function: str
    offset: int
    provider: str = ""
    pid: int = -1


class Device(NamedTuple):
    """A network device: its number, and the word after its name (``ingress``, ``generic``)."""

    name: str
    number: int
    way: str = ""


def family(program: Program) -> str:
    """Return the kind of a program, one for all its section names: ``uprobe`` for ``uretprobe.s``."""
    word = kind(program.section)
    return _FAMILY.get(word, word)


def attachable(program: Program) -> bool:
    """Return whether programs of this kind are attached at all."""
    word = kind(program.section)
    known = CGROUP | TRACEPOINTS | RAW_TRACEPOINTS | BY_TYPE | KPROBES | UPROBES | TC | SOCKETS
    return word in known | {"xdp", "perf_event", "usdt", "iter", "syscall_enter", "syscall_exit"}


def needs_target(program: Program, among: Sequence[Program]) -> str:
    """Return why a program needs a target; empty if it does not. ``among`` are all that might run."""
    name, word = program.name, family(program)
    rest = program.section.partition("/")[2]
    if word == "perf_event":
        alike = [p.name for p in among if family(p) == "perf_event"]
        import re

        doubtful = re.search(_COUNTS, name)
        if len(alike) < 2 and not doubtful:
            return ""
        why = (
            "with several, each samples its own event"
            if len(alike) > 1
            else "its name suggests an event other than a clock"
        )
        from eunomia.kernel.perf_events import SYNTAX

        form = f"--attach {name}=EVENT, as in {SYNTAX}"
        return f"the section does not say which event it samples ({why}): {form}"
    if word == "iter" and rest in iterator.OF_MAPS:
        return f"it iterates over the entries of a map: --attach {name}=MAP"
    if word in {"xdp", "socket", "tc"}:
        form = "DEVICE" if word == "tc" and _way(program) else _FORMS[word]
        return f"it needs a network device: --attach {name}={form} ({_devices()})"
    if word in _FORMS and not rest:
        return f"the section names no target: --attach {name}={_FORMS[word]}"
    if word in {"uprobe", "usdt"} and ":" not in rest:
        return f"the section ({program.section}) names no file: --attach {name}={_FORMS[word]}"
    if word in {"kprobe", "fentry"} and _is_placeholder(rest):
        either = " or BINARY:FUNCTION" if word == "kprobe" else ""
        return f"the section names a placeholder in place of a function: --attach {name}={_FORMS[word]}{either}"
    return ""


def _is_placeholder(function: str) -> bool:
    import re

    return re.match(_PLACEHOLDER, function) is not None


def obstacle(program: Program, among: Sequence[Program], given: Sequence[str]) -> Exception | None:
    """Return why a program cannot run, as far as its section and targets show."""
    if not attachable(program):
        if given:
            return BadSetting(f"program {program.name} ({program.section}) takes no target: it is not attached")
        if not program.type:
            unknown = f"libbpf knows no kind of program for its section {program.section!r}"
            return KernelError(f"program {program.name}: {too_new([program.section]) or unknown}")
        return KernelError(f"program {program.name}: eunomia attaches no programs of this kind ({program.section})")
    if not given and (why := needs_target(program, among)):
        return BadSetting(f"program {program.name}: {why}")
    try:
        check(program, given)
    except NoPlace as error:
        if given:
            raise BadSetting(str(error)) from None
        return error
    return None


def check(program: Program, targets: Sequence[str]) -> list[Any]:
    """Return what each target of a program means; raises :class:`BadSetting`, or :class:`NoPlace`."""
    word = kind(program.section)
    if not targets:
        return _own(program)
    if word in BY_TYPE and len(targets) > 1:
        raise BadSetting(f"program {program.name} ({program.section}) takes one target: it is loaded for that")
    if word == "iter":
        if len(targets) > 1:
            raise BadSetting(f"program {program.name} ({program.section}) takes one target")
        return [*targets]  # eunomia.kernel.iterator checks it
    return [_check(program, word, target) for target in targets]


def _own(program: Program) -> list[Any]:
    """Return the places in binaries that a section names, because libbpf's error for missing ones is unclear."""
    word, _, rest = program.section.partition("/")
    if word.partition(".")[0] in UPROBES and rest and "multi" not in word:
        return [place(program, rest)]
    if word == "usdt" and rest:
        return [place(program, rest)]
    if word != "perf_event":
        return []
    from eunomia.kernel.perf_events import CLOCK

    return [CLOCK]


def _check(program: Program, word: str, target: str) -> Any:
    import re

    form = _FORMS.get(_FAMILY.get(word, word), "")
    wrong = BadSetting(f"program {program.name}: {shown(target)} is not of the form {form}")
    if word == "perf_event":
        return sampled(program, target)
    if word == "xdp" or word in TC or word in SOCKETS:
        return device(program, word, target)
    if word in UPROBES or word == "usdt" or (word in {"kprobe", "kretprobe"} and ":" in target):
        return place(program, target)  # the kernel has one type of program for kprobes and uprobes
    if word in CGROUP:
        return target
    if word in TRACEPOINTS:
        if not re.fullmatch(r"[^/\s]+/[^/\s]+", target):
            raise wrong
    elif not re.fullmatch(r"[\w.$]+(\+(0x[0-9a-fA-F]{1,8}|[0-9]{1,9}))?" if word in KPROBES else r"[\w.$]+", target):
        raise wrong
    return target


def sampled(program: Program, target: str) -> PerfEvent:
    """Return the event that a perf_event program samples."""
    from eunomia.kernel import perf_events

    try:
        return perf_events.parse(target)
    except ValueError as error:
        raise BadSetting(f"program {program.name}: {error}") from None


def place(program: Program, target: str) -> Place:
    """Return the place that ``BINARY:FUNCTION[+OFFSET]`` or ``BINARY:PROVIDER:NAME`` names, each with ``,pid=N``."""
    import re

    from eunomia.kernel.binaries import find, is_elf

    usdt = kind(program.section) == "usdt"
    target, _, pid = target.partition(",pid=")
    parts = target.rsplit(":", 2 if usdt else 1)
    if len(parts) != (3 if usdt else 2) or not all(parts) or (pid and not re.fullmatch(r"[1-9][0-9]{0,8}", pid)):
        form = _FORMS["usdt" if usdt else "uprobe"]
        raise BadSetting(f"program {program.name}: {shown(target)} is not of the form {form}[,pid=PID]")
    path = find(parts[0])
    if path is None:
        where = "" if "/" in parts[0] else " among the libraries and in PATH"
        raise NoPlace(f"program {program.name} ({program.section}): there is no file {shown(parts[0])}{where}")
    if not is_elf(path):
        raise NoPlace(f"program {program.name} ({program.section}): {path} is not an ELF file")
    if pid and not os.path.isdir(f"/proc/{pid}"):
        raise BadSetting(f"program {program.name}: there is no process {pid}")
    number = int(pid) if pid else -1
    if usdt:
        return Place(path, parts[2], 0, parts[1], number)
    function, plus, offset = parts[1].partition("+")
    try:
        if re.fullmatch(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,19}", function):
            return Place(path, "", number_of(function), "", number)
        return Place(path, function, number_of(offset) if plus else 0, "", number)
    except ValueError:
        raise BadSetting(f"program {program.name}: {shown(offset)} is not an offset in bytes") from None


def number_of(word: str) -> int:
    """Return an offset in bytes, as in 0x10 or 16; raises :class:`ValueError`."""
    if not word.isascii() or len(word) > 20:
        raise ValueError(word)
    return int(word, 16) if word.startswith("0x") else int(word)


def device(program: Program, word: str, target: str) -> Device:
    """Return the device that ``DEVICE[:WAY]`` names."""
    import socket

    name, _, way = target.partition(":")
    if word in TC:
        way = way or _way(program)
        if way not in {"ingress", "egress"}:
            raise BadSetting(
                f"program {program.name}: give a direction: --attach {program.name}={name}:ingress or {name}:egress"
            )
    elif way and (word != "xdp" or way not in {"native", "generic", "offload"}):
        modes = ", or DEVICE:native, :generic or :offload" if word == "xdp" else ""
        raise BadSetting(f"program {program.name}: {shown(target)} is not of the form DEVICE{modes}")
    try:
        return Device(name, socket.if_nametoindex(name), way)
    except OSError:
        raise BadSetting(
            f"program {program.name}: there is no network device {shown(name)}: there are {_devices()}"
        ) from None


def _way(program: Program) -> str:
    rest = program.section.partition("/")[2]
    return rest if rest in {"ingress", "egress"} else ""


def _devices() -> str:
    import socket

    return ", ".join(name for _, name in socket.if_nameindex())
