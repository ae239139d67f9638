# SPDX-License-Identifier: BSD-2-Clause
"""Makes exceptions that explain a failure, from an errno and the log of libbpf and the verifier."""

from __future__ import annotations

import errno
import os

from eunomia.kernel import elf
from eunomia.kernel.errors import (
    TOO_MANY_FILES,
    Absent,
    KernelError,
    NoPlace,
    NotPermitted,
    Unsupported,
    VerifierError,
)
from eunomia.kernel.libbpf import ffi, lib
from eunomia.kernel.libbpf_versions import too_new
from eunomia.kernel.rights import lack, privileged
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eunomia.kernel.spec import Program, Spec

# What libbpf and the verifier print if the kernel lacks something, and its name.
_MISSING = (
    (r"failed to find valid kernel BTF|kernel BTF is missing|vmlinux BTF is not found",
     "BTF of the running kernel (CONFIG_DEBUG_INFO_BTF=y, /sys/kernel/btf/vmlinux)"),
    (r"failed to resolve CO-RE relocation <[^>]+> \[\d+\] (.+?) \(", "{0} in the kernel's BTF"),
    (r"invalid func unknown#(?!195896080\b)(\d+)", "helper number {0}"),
    (r"unknown func ([^\s#]+)", "helper {0}"),
    (r"program of this type cannot use helper ([^\s#]+)", "helper {0} in this type of program"),
    (r"extern \(func ksym\) '([^']+)': not found", "function {0}, which the object calls (__ksym)"),
    (r"extern \(func ksym\) '([^']+)': func_proto \[\d+\] incompatible",
     "function {0} with the parameters that the object calls it with (__ksym)"),
    (r"extern \(var ksym\) '([^']+)': (?:not found|incompatible)", "variable {0}, which the object reads (__ksym)"),
    (r"failed to find the address for kernel symbol '([^']+)'",
     "variable {0}, which the object reads (__ksym), among the symbols of the kernel"),
    (r"calling kernel function (\w+) is not allowed", "function {0} in this type of program"),
    (r"struct_ops init_kern: struct (\w+) (?:data )?is not found", "struct_ops {0}"),
    (r"Error loading .BTF into kernel", "this object's BTF"),
)  # fmt: skip

# What libbpf prints if the object or the system is at fault, and the error for it.
_AMISS = (
    (r"failed to open system Kconfig",
     "it reads the kernel's configuration (__kconfig), which is neither in /proc/config.gz nor in /boot here"),
    (r"extern (?:\(kcfg\) )?'(CONFIG_\w+)'.*(?:not resolved|value)",
     "it needs {0}, which the kernel's configuration does not have, or has with another value"),
    (r"extern '([^']+)' \(strong\): not resolved",
     "it needs {0}, which neither the kernel nor the object has"),
    (r"failed to find BTF for extern '([^']+)'", "it refers to {0}, which it lacks: link it with what has it"),
    (r"invalid relo against '([^']+)'", "its code refers to {0}, which is neither data nor a function"),
    (r"prog '([^']+)': missing BPF prog type, check ELF section name '([^']+)'",
     "program {0}: libbpf knows no kind of program for its section '{1}'"),
    (r"prog '([^']+)': invalid format of section definition '([^']+)'",
     "program {0}: its section '{1}' does not have the form for programs of its kind"),
    (r"map '([^']+)': failed to create: Operation not permitted",
     "the kernel does not let this process create map {0}: raise the memlock limit, or run as root"),
    (r"map '([^']+)': failed to create: (?:Argument list too|Cannot allocate|Numerical result)",
     "map {0} is larger than the kernel allows"),
)  # fmt: skip

# libbpf's errnos, include/bpf/libbpf.h
_LIBBPF = {
    4000: "it is no ELF file that libelf can read", 4001: "its format is invalid",
    4002: "its kernel version is invalid",
    4003: "its byte order differs from this machine's", 4004: "libbpf failed internally",
    4005: "its code refers to something that it does not contain",
    4006: "it could not be loaded", 4007: "the verifier refused it", 4008: "a program is too long",
    4009: "it is for another kernel version", 4010: "this kernel has no programs of this type",
}  # fmt: skip

_ENOTSUPP = 524  # internal to the kernel, without a name in C libraries
# How kernels refuse what they lack, or have no room for.
_REFUSALS = frozenset({
    errno.ENOENT, errno.ESRCH, errno.EOPNOTSUPP, _ENOTSUPP, errno.EINVAL, errno.EPERM, errno.ENODEV, errno.EBUSY,
    errno.EADDRNOTAVAIL,
})  # fmt: skip
_TRACEPOINTS = frozenset({"tp", "tracepoint", "raw_tp", "raw_tracepoint", "tp_btf"})
_SCARCE = 64  # descriptors: an object needs one for each map, program and link

# Kinds of programs that some kernels are built without, and how to detect that.
_KINDS = {
    "kprobe": "kprobes (CONFIG_KPROBES)",
    "kretprobe": "kprobes (CONFIG_KPROBES)",
    "ksyscall": "kprobes (CONFIG_KPROBES)",
    "kretsyscall": "kprobes (CONFIG_KPROBES)",
    "fentry": "fentry programs",
    "fexit": "fexit programs",
    "fmod_ret": "fmod_ret programs",
    "lsm": "BPF LSM programs",
    "freplace": "freplace programs",
}


# Found through tracefs, which only root can read, or a process with DAC_READ_SEARCH.
_TRACING = {"tp", "tracepoint", "kprobe", "kretprobe", "ksyscall", "kretsyscall", "uprobe", "uretprobe"}
_KEYLESS = frozenset({22, 23, 30})  # queue, stack and bloom filter, enum bpf_map_type


def kind(section: str) -> str:
    """Return a section's first word: ``tp`` of ``tp/sched/sched_switch``."""
    return section.partition("/")[0].partition(".")[0].partition("+")[0]


def not_permitted() -> NotPermitted:
    """Return the error for missing privileges."""
    return NotPermitted(lack() or "not permitted to run BPF programs, by a security module or a seccomp filter")


def no_proc() -> KernelError | None:
    """Return the error if /proc is not mounted, without which no container can be found."""
    if os.path.exists("/proc/self/stat"):
        return None
    return KernelError("/proc is not mounted here, and nothing works without it: mount -t proc proc /proc")


def no_sys() -> KernelError | None:
    """Return the error if /sys, which has the kernel's BTF, is not mounted."""
    if os.path.exists("/sys/kernel"):
        return None
    return KernelError("/sys is not mounted here, and has the kernel's types: mount -t sysfs sysfs /sys")


def _descriptors_left() -> int:
    import resource

    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(os.listdir("/proc/self/fd"))
    except OSError as error:
        return 0 if error.errno == errno.EMFILE else _SCARCE  # it cannot even be opened, or it is of no use


def no_descriptors(what: str) -> KernelError:
    """Return the error for missing descriptors."""
    return KernelError(f"{what}: {TOO_MANY_FILES}")


def open_error(number: int, log: str) -> str:
    """Return why libbpf could not read an object: the text after ``libbpf cannot read it:``."""
    if said := _match(_AMISS, log) or _said(log):
        return said
    # errnos of internal calls, such as "No such file", would refer to another file
    return _LIBBPF.get(number) or ("out of memory" if number == errno.ENOMEM else "its parts contradict each other")


def load_error(spec: Spec, number: int, log: str, loaded: list[Program]) -> KernelError:
    """Return why an object could not be loaded; ``loaded`` are the programs to be loaded."""
    import re

    named = re.findall(r"prog '([^']+)': ", log)
    program = next((p for p in loaded if named and p.name == named[-1]), None)
    error = _load_error(spec, number, log, loaded, program)
    if program is not None and not re.search(r"map '[^']+': failed to create", log):
        error.program = program.name
    return error


def _load_error(spec: Spec, number: int, log: str, loaded: list[Program], program: Program | None) -> KernelError:
    import re

    if (unmounted := no_proc() or no_sys()) is not None:
        return unmounted
    if number in {errno.EPERM, errno.EACCES} and not privileged():
        return not_permitted()
    # if libbpf cannot open its feature probes, it continues as if the kernel lacked the features
    if number == errno.EMFILE or _descriptors_left() < _SCARCE:
        return no_descriptors(spec.name)
    of_object = _of_object(spec, log, loaded)
    if of_object is not None:
        return of_object
    absent = re.search(r"failed to find kernel BTF type ID of '([^']+)'", log)
    if absent:
        return _absent_type(program, absent[1])
    found = _match(_MISSING, log)
    if found is not None:
        return Unsupported(found)
    found = _match(_AMISS, log)
    if found is not None:
        return KernelError(f"{spec.name}: {found}")
    if (
        not re.search(r"processed [1-9]", log)  # the verifier did not reach it
        and program is not None
        and kind(program.section) in _KINDS
        and number in {errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP}
    ):
        return _whole_kind(kind(program.section))
    if number == errno.EPERM and program is not None and not re.search(r"processed [1-9]", log):
        return Unsupported(f"programs of section {program.section} (operation not permitted)")
    if number in {errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM} and "BEGIN PROG LOAD LOG" in log:
        return VerifierError(program.name if program else spec.name, _telling_line(log), log)
    if number == errno.ENOMEM:
        return KernelError(f"{spec.name}: no memory for its maps: lower --ring-size, or raise the memlock limit")
    if program is not None and number in {errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP}:
        return Unsupported(f"programs of section {program.section}, or a feature that {program.name} uses")
    said = _said(log)
    return KernelError(f"{spec.name}: the kernel did not take it: {said or strerror(number)}")


def _of_object(spec: Spec, log: str, loaded: list[Program]) -> KernelError | None:
    """Return why the object itself cannot be loaded: a section of a newer libbpf, or a map."""
    sections = [s for s in elf.section_names(spec.data, spec.name) if s.startswith(".")]
    if newer := too_new([*sections, *(p.section for p in loaded if not p.type)]):
        return KernelError(f"{spec.name}: {newer}")
    return _refused_map(spec, log)


def _refused_map(spec: Spec, log: str) -> KernelError | None:
    """Return why a map could not be created: the kernel lacks its type, or the object declares it wrongly."""
    import re

    match = re.search(r"map '([^']+)': failed to create: [^(]*\((-\d+)\)", log)
    map_ = spec.maps.get(match[1]) if match else None
    if match is None or map_ is None:
        return None
    number = -int(match[2])
    if number == errno.EINVAL and lib.libbpf_probe_bpf_map_type(map_.type, ffi.NULL) == 0:
        return Unsupported(f"maps of type {map_.type_name}, which {map_.name} is")
    said = f"{map_.type_name}, key {map_.key_size} bytes, value {map_.value_size} bytes"
    if number == errno.EINVAL:
        why = "its sizes or flags do not fit its type"
        if not map_.value_size or not map_.key_size:
            part = "value" if map_.key_size or map_.type in _KEYLESS else "key"
            why = f"its own loader sets the size of its {part}s: add `__type({part}, ...)` to the map"
        return KernelError(f"{spec.name}: map {map_.name} ({said}): {why}")
    if number in {errno.E2BIG, errno.ENOMEM}:
        return KernelError(
            f"{spec.name}: map {map_.name} ({said}) has more entries than fit into memory: "
            f"lower --map-size {map_.name}=ENTRIES, or --ring-size"
        )
    return None


def _absent_type(program: Program | None, name: str) -> Absent:
    """Return the error for a tracepoint, function or hook that is not in the kernel's BTF."""
    if program is not None and kind(program.section) in {"tp_btf", "raw_tp", "raw_tracepoint"}:
        return Absent(f"this kernel has no tracepoint {name}", f"tracepoint {name}")
    what = {"lsm": "LSM hook", "iter": "iterator"}.get(kind(program.section) if program else "", "function")
    return Absent(f"this kernel has no {what} {name} in its BTF", f"{what} {name} in the kernel's BTF")


def attach_error(spec: Spec, program: Program, number: int, log: str, targets: Sequence[str] = ()) -> KernelError:
    """Return why a program could not be attached, to ``targets`` or to what its section names."""
    error = _attach_error(spec, program, number, log, targets)
    error.program = program.name
    return error


def _attach_error(spec: Spec, program: Program, number: int, log: str, targets: Sequence[str]) -> KernelError:
    if number in {errno.EPERM, errno.EACCES} and (not privileged() or (lack() and kind(program.section) in _TRACING)):
        return not_permitted()
    if number == errno.EMFILE:
        return no_descriptors(spec.name)
    word = kind(program.section)
    target = ", ".join(targets) or program.section.partition("/")[2]
    if number in {errno.ENOENT, errno.ESRCH} and word in _TRACEPOINTS:
        return no_tracepoint(word, target)
    if word in {"uprobe", "uretprobe", "usdt"} or (word in {"kprobe", "kretprobe"} and ":" in target):
        return _probe_error(spec, program, target, number, log)
    if word in _KINDS and number in _REFUSALS:
        return _function_error(program, target, number)
    if word == "perf_event" and number in {errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL}:
        return Absent(f"this machine cannot count {target}: virtual machines often lack hardware counters")
    if word == "xdp" and number in {errno.EBUSY, errno.EEXIST}:
        return KernelError(f"program {program.name}: {target} already has an XDP program, and allows only one")
    if word == "xdp" and number in {errno.EOPNOTSUPP, _ENOTSUPP}:
        device = target.partition(":")[0]
        return KernelError(f"program {program.name}: {device} does not support this mode of XDP: try {device}:generic")
    if word in _TRACEPOINTS and number == errno.EINVAL:
        return KernelError(f"program {program.name}: it reads more arguments than the tracepoint {target} has")
    if number in {errno.EOPNOTSUPP, _ENOTSUPP}:
        return Unsupported(f"programs of section {program.section}")
    return KernelError(
        f"{spec.name}: program {program.name} ({program.section}) could not be attached: "
        f"{_said(log) or strerror(number)}"
    )


def no_tracepoint(word: str, target: str) -> KernelError:
    """Return the error for a tracepoint that was not found; ``word`` is its kind of section."""
    if word in {"tp", "tracepoint"} and not lib.eu_tracepoint_exists(b"sched", b"sched_switch"):
        if ffi.errno in {errno.EMFILE, errno.ENFILE}:
            return KernelError(TOO_MANY_FILES)
        return KernelError("tracefs, which has the numbers of tracepoints, cannot be read: mount it, or run as root")
    return Absent(f"this kernel has no tracepoint {target}", f"tracepoint {target}")


def _function_error(program: Program, target: str, number: int) -> Unsupported:
    """Return why a program could not be attached to a kernel function."""
    word, gone = kind(program.section), number in {errno.ENOENT, errno.ESRCH}
    by_probe = word in {"kprobe", "kretprobe", "ksyscall", "kretsyscall"}
    if by_probe and not has_kprobes():
        return _whole_kind(word, f", which {program.section} needs")
    if by_probe and (gone or number in {errno.EINVAL, errno.EADDRNOTAVAIL}):
        return Absent(
            f"this kernel has no function {target}{'' if gone else ' that can be probed'}", f"function {target}"
        )
    if gone:
        return Absent(f"this kernel has no function {target} in its BTF", f"function {target}")
    return Unsupported(f"{_KINDS[word]}, which {program.section} needs")


def has_kprobes() -> bool:
    """Return whether this kernel has kprobes at all."""
    return any(
        os.path.exists(path)
        for path in (
            "/sys/bus/event_source/devices/kprobe",
            "/sys/kernel/tracing/kprobe_events",
            "/sys/kernel/debug/tracing/kprobe_events",
        )
    )


def _probe_error(spec: Spec, program: Program, target: str, number: int, log: str) -> KernelError:
    """Return why a program could not be attached to a place in a binary."""
    usdt = kind(program.section) == "usdt"
    binary, _, name = target.rpartition(":") if not usdt else target.partition(":")
    name = name.partition(",pid=")[0]
    if usdt and ("USDT support" in log or "usdt.bpf.h" in log or number == errno.ESRCH):
        return KernelError(
            f"{spec.name}: program {program.name} lacks the maps of <bpf/usdt.bpf.h>, and cannot read arguments"
        )
    if number in {errno.ENOENT, errno.ESRCH}:
        what = "USDT probe" if usdt else "function"
        return NoPlace(f"program {program.name} ({program.section}): {binary} has no {what} {name!r}")
    if "is not an ELF" in log or "no ELF" in log or "failed to get ELF" in log or number == errno.ENOEXEC:
        return NoPlace(f"program {program.name} ({program.section}): {binary} is not an ELF file")
    return KernelError(
        f"{spec.name}: program {program.name} ({program.section}) could not be attached to {target}: "
        f"{_said(log) or strerror(number)}"
    )


def _whole_kind(word: str, who: str = "") -> Unsupported:
    error = Unsupported(_KINDS[word] + who)
    error.of_kind = True
    return error


def strerror(number: int) -> str:
    """Return the text of an errno, also of those internal to the kernel."""
    if number == _ENOTSUPP:
        return "the kernel does not support this (ENOTSUPP)"
    return _LIBBPF.get(number) or os.strerror(number)


def _match(table: Sequence[tuple[str, str]], log: str) -> str | None:
    import re

    for pattern, words in table:
        match = re.search(pattern, log)
        if match:
            return words.format(*match.groups())
    return None


_IDLE = r"LOG --|^failed to load object|^elf: skipping |Ignored and continue|^\.maps relo|^looking for"


def _said(log: str) -> str:
    import re

    lines = [line.strip().removeprefix("libbpf: ") for line in log.splitlines() if line.startswith("libbpf: ")]
    lines = [line for line in lines if not re.search(_IDLE, line)]
    # libbpf appends an errno to its messages
    return re.sub(r":? \(?-\d+\)?\.?$", "", lines[-1]) if lines else ""


def _telling_line(log: str) -> str:
    """Return the verifier's last line that is neither a register dump nor statistics."""
    import re

    body = log.partition("BEGIN PROG LOAD LOG --")[2].partition("END PROG LOAD LOG")[0]
    lines = [line.strip() for line in body.splitlines()]
    boring = re.compile(
        r"^(processed \d+ insns|verification time|stack depth|--|libbpf:|$|;|\d+: |R\d+[_=]"
        r"|(old|cur) state:|from \d+ )"
    )
    telling = [line for line in lines if not boring.match(line)]
    return telling[-1] if telling else _said(log) or "no reason given"
