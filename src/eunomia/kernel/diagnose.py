# SPDX-License-Identifier: BSD-2-Clause
"""From an errno and what libbpf printed to the exception that says what is the matter."""

from __future__ import annotations

import errno
import os
import re
import resource
from typing import TYPE_CHECKING

from eunomia.kernel.errors import TOO_MANY_FILES, KernelError, NotPermitted, Unsupported, VerifierError
from eunomia.kernel.rights import lack, privileged

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
    (r"map '([^']+)': failed to create: Invalid argument", "the type of map {0}"),
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


# What is found by tracefs, which only root can read, or who may read everything.
_TRACING = {"tp", "tracepoint", "kprobe", "kretprobe", "ksyscall", "kretsyscall", "uprobe", "uretprobe"}


def kind(section: str) -> str:
    """Return a section's first word: ``tp`` of ``tp/sched/sched_switch``."""
    return section.lstrip("?").partition("/")[0].partition(".")[0].partition("+")[0]


def not_permitted() -> NotPermitted:
    """Return the error for want of rights."""
    return NotPermitted(lack() or "not permitted to run BPF programs, by a security module or a seccomp filter")


def no_proc() -> KernelError | None:
    """Return the error where /proc is not mounted; nobody could be told whose they are."""
    if os.path.exists("/proc/self/stat"):
        return None
    return KernelError("/proc is not mounted here, and nothing works without it: mount -t proc proc /proc")


def _descriptors_left() -> int:
    try:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(os.listdir("/proc/self/fd"))
    except OSError as error:
        return 0 if error.errno == errno.EMFILE else _SCARCE  # not even that can be opened, or it tells nothing


def no_descriptors(what: str) -> KernelError:
    """Return the error for want of descriptors."""
    return KernelError(f"{what}: {TOO_MANY_FILES}")


def load_error(spec: Spec, number: int, log: str, loaded: list[Program]) -> KernelError:
    """Return why an object could not be loaded; ``loaded`` are the programs that were to be."""
    if absent := no_proc():
        return absent
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


def attach_error(spec: Spec, program: Program, number: int, log: str) -> KernelError:
    """Return why a program could not be attached."""
    if number in {errno.EPERM, errno.EACCES} and (not privileged() or (lack() and kind(program.section) in _TRACING)):
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
