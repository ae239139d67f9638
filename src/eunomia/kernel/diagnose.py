# SPDX-License-Identifier: BSD-2-Clause
"""From an errno and what libbpf printed to the exception that says what is the matter."""

from __future__ import annotations

import errno
import os
import re
import resource
from typing import TYPE_CHECKING

from eunomia.kernel.errors import TOO_MANY_FILES, KernelError, NotPermitted, Unsupported, VerifierError
from eunomia.kernel.libbpf import ffi, lib

if TYPE_CHECKING:
    from eunomia.kernel.spec import Program, Spec

# What libbpf and the verifier print where the kernel lacks something, and what that is.
_MISSING = (
    (r"failed to find valid kernel BTF|kernel BTF is missing|vmlinux BTF is not found",
     "BTF of the running kernel (CONFIG_DEBUG_INFO_BTF=y, /sys/kernel/btf/vmlinux)"),
    (r"failed to find kernel BTF type ID of '([^']+)'", "{0} in the kernel's BTF"),
    (r"failed to resolve CO-RE relocation <[^>]+> \[\d+\] (.+?) \(", "{0} in the kernel's BTF"),
    (r"invalid func unknown#(\d+)", "helper number {0}"),
    (r"unknown func ([^\s#]+)", "helper {0}"),
    (r"program of this type cannot use helper ([^\s#]+)", "helper {0} in this type of program"),
    (r"Error loading .BTF into kernel", "this object's BTF"),
)  # fmt: skip

_SCARCE = 64  # descriptors: an object needs one for each map, program and link

# Kinds of programs that whole kernels are built without, and what says so.
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


def kind(section: str) -> str:
    """Return a section's first word: ``tp`` of ``tp/sched/sched_switch``."""
    return section.lstrip("?").partition("/")[0].partition(".")[0].partition("+")[0]


def privileged() -> bool:
    """Return whether this process may load programs: CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON."""
    capabilities = effective_capabilities()
    return bool(capabilities >> 21 & 1) or bool(capabilities >> 39 & 1 and capabilities >> 38 & 1)


def effective_capabilities() -> int:
    """Return this process's effective capabilities as a bit set."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return (1 << 41) - 1 if os.geteuid() == 0 else 0


def not_permitted() -> NotPermitted:
    """Return the error for want of rights."""
    return NotPermitted(
        "not permitted to load BPF programs: run as root (sudo), "
        "or with the capabilities BPF, PERFMON and SYS_RESOURCE"
    )


def _descriptors_left() -> int:
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(os.listdir("/proc/self/fd"))
    except OSError:  # not even that can be opened
        return 0


def no_descriptors(what: str) -> KernelError:
    """Return the error for want of descriptors."""
    return KernelError(f"{what}: {TOO_MANY_FILES}")


def load_error(spec: Spec, number: int, log: str, loaded: list[Program]) -> KernelError:
    """Return why an object could not be loaded; ``loaded`` are the programs that were to be."""
    if number in {errno.EPERM, errno.EACCES} and not privileged():
        return not_permitted()
    # where it cannot open what it tries the kernel with, libbpf goes on as if the kernel had no such thing
    if number == errno.EMFILE or _descriptors_left() < _SCARCE:
        return no_descriptors(spec.name)
    unknown = next((p for p in loaded if not p.type), None)
    if unknown is not None:
        return KernelError(
            f"{spec.name}: program {unknown.name}: "
            f"libbpf knows no kind of program for its section {unknown.section!r}"
        )
    found = _missing(log)
    if found is not None:
        return Unsupported(found)
    if (refused_map := _refused_map(spec, log)) is not None:
        return refused_map
    program = re.search(r"prog '([^']+)': (?:BPF program load failed|failed to load)", log)
    name = program[1] if program else spec.name
    refused = next((p for p in loaded if p.name == name), None)
    if (
        "processed" not in log
        and refused
        and kind(refused.section) in _KINDS
        and number in {errno.EPERM, errno.EINVAL}
    ):
        return Unsupported(_KINDS[kind(refused.section)])
    if number in {errno.EACCES, errno.EINVAL, errno.E2BIG, errno.EPERM} and "BEGIN PROG LOAD LOG" in log:
        return VerifierError(name, _telling_line(log), log)
    if number == errno.ENOMEM:
        return KernelError(
            f"{spec.name}: no memory for its maps: lower --ring-size, or raise the memlock limit"
        )
    said = _said(log)
    return KernelError(f"{spec.name}: the kernel did not take it: {said or os.strerror(number)}")


def _refused_map(spec: Spec, log: str) -> KernelError | None:
    """Return why a map could not be made: the kernel knows no such maps, or what the object says of it is wrong."""
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
            part = "value" if map_.key_size else "key"
            why = f"it declares no size of its {part}s, so its own loader sets it: add `__type({part}, ...)` to the map"
        return KernelError(f"{spec.name}: map {map_.name} ({said}): {why}")
    if number in {errno.E2BIG, errno.ENOMEM}:
        return KernelError(
            f"{spec.name}: map {map_.name} ({said}) has more entries than there is memory for: "
            f"lower --map-size {map_.name}=ENTRIES, or --ring-size"
        )
    return None


def attach_error(spec: Spec, program: Program, number: int, log: str) -> KernelError:
    """Return why a program could not be attached."""
    if number in {errno.EPERM, errno.EACCES} and not privileged():
        return not_permitted()
    if number == errno.EMFILE:
        return no_descriptors(spec.name)
    word = kind(program.section)
    if number in {errno.ENOENT, errno.ESRCH} and word in {"tp", "tracepoint"}:
        return Unsupported(f"tracepoint {program.section.partition('/')[2]}")
    if word in _KINDS and number in {
        errno.ENOENT, errno.EOPNOTSUPP, 524, errno.EINVAL, errno.EPERM, errno.ENODEV, errno.ESRCH,
        errno.EBUSY,
    }:  # fmt: skip
        return Unsupported(f"{_KINDS[word]}, which {program.section} needs")
    if number in {errno.EOPNOTSUPP, 524, errno.ENOENT, errno.ENODEV}:
        return Unsupported(f"{program.section} ({os.strerror(number) if number < 200 else 'not supported'})")
    said = _said(log)
    return KernelError(
        f"{spec.name}: program {program.name} ({program.section}) could not be attached: "
        f"{said or os.strerror(number)}"
    )


def _missing(log: str) -> str | None:
    for pattern, words in _MISSING:
        match = re.search(pattern, log)
        if match:
            return words.format(*match.groups())
    return None


def _said(log: str) -> str:
    lines = [
        line.strip().removeprefix("libbpf: ") for line in log.splitlines() if line.startswith("libbpf: ")
    ]
    lines = [line for line in lines if "LOG --" not in line and not line.startswith("failed to load object")]
    return lines[-1] if lines else ""


def _telling_line(log: str) -> str:
    """Return the verifier's last line that is neither a register dump nor statistics."""
    body = log.partition("BEGIN PROG LOAD LOG --")[2].partition("END PROG LOAD LOG")[0]
    lines = [line.strip() for line in body.splitlines()]
    boring = re.compile(
        r"^(processed \d+ insns|verification time|stack depth|--|libbpf:|$|;|\d+: |R\d+[_=]"
        r"|(old|cur) state:|from \d+ )"
    )
    telling = [line for line in lines if not boring.match(line)]
    return telling[-1] if telling else _said(log) or "no reason given"
