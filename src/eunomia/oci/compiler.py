# SPDX-License-Identifier: BSD-2-Clause
"""Compiles probes as the trackers that come with Eunomia are compiled, with the same headers and flags."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from eunomia.oci.errors import DistributionError

SUFFIX = ".bpf.c"
ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}
_HEADERS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bpf")
_USABLE = "#if !__has_attribute(btf_decl_tag)\n#error\n#endif"  # clang 14 has it
_PACKAGES = {
    "bpf/": "apt install libbpf-dev (Fedora: dnf install libbpf-devel)",
    "linux/": "apt install linux-libc-dev (Fedora: dnf install kernel-headers)",
    "asm/": "apt install linux-libc-dev (Fedora: dnf install kernel-headers)",
}


def flags() -> list[str]:
    """Return clang's flags for this machine: those of Eunomia's own probes, except that warnings are no errors."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise DistributionError(f"probes are compiled for {' and '.join(ARCHITECTURES)}, not for {machine}")
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{machine}-linux-gnu"
    return [
        *("-O2", "-g", "-ffreestanding", "-Wall", "-Wextra", "-Wno-unused-parameter"),
        *("-target", "bpf", "-mcpu=v3"),
        *(f"-D__TARGET_ARCH_{ARCHITECTURES[machine]}", f"-I{_HEADERS}", "-isystem", f"/usr/include/{multiarch}"),
    ]


def compiler(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the command of clang (``CLANG`` names another); raises :class:`DistributionError` if it cannot be used."""
    command = shlex.split(environ.get("CLANG") or "clang")
    advice = "apt install clang (Fedora: dnf install clang); CLANG names another"
    if not shutil.which(command[0]):
        raise DistributionError(f"{command[0]} is missing, which compiles probes: {advice}")
    tried = subprocess.run(
        [*command, "-target", "bpf", "-fsyntax-only", "-xc", "-"],
        input=_USABLE, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        raise DistributionError(f"{command[0]} cannot compile for BPF, or is older than clang 14: {advice}")
    return command


def sources(path: str) -> list[str]:
    """Return the files to compile: one, or all ``*.bpf.c`` of a folder; raises :class:`DistributionError`."""
    if os.path.isdir(path):
        found = sorted(entry.path for entry in os.scandir(path) if entry.name.endswith(SUFFIX) and entry.is_file())
        if not found:
            raise DistributionError(f"{path}: there is no *{SUFFIX} in this folder")
        return found
    if not os.path.exists(path):
        raise DistributionError(f"{path}: No such file or directory")
    if not path.endswith(SUFFIX):
        raise DistributionError(f"{path}: the source of a probe is named NAME{SUFFIX}")
    return [path]


def target_of(source: str) -> str:
    """Return the usual name of a source's object."""
    return f"{source.removesuffix('.c')}.o"


def compile_probe(
    command: Sequence[str], source: str, target: str, more: Sequence[str] = (), *, warn: Callable[[str], None]
) -> None:
    """Compile a source; raises :class:`Refusal` with clang's words. A failure leaves ``target`` as it was.

    ``warn`` gets what clang has to say about a source that it compiles.
    """
    unfinished = f"{target}.{os.getpid()}.tmp"
    try:
        done = subprocess.run(
            [*command, *flags(), *more, "-c", source, "-o", unfinished],
            text=True, errors="backslashreplace", stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Refusal(source, done.stderr or f"clang ended with {done.returncode}\n", _missing(done.stderr))
        if done.stderr:
            warn(done.stderr)
        strip = shutil.which("llvm-strip")
        if strip:  # drops DWARF, keeps BTF
            subprocess.run([strip, "-g", unfinished], check=True)
        os.replace(unfinished, target)
    except OSError as error:
        raise DistributionError(f"{target}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            os.unlink(unfinished)


class Refusal(DistributionError):
    """Clang did not compile a source; ``said`` are its words, in lines."""

    def __init__(self, source: str, said: str, hint: str) -> None:
        super().__init__(f"{source}: clang did not compile it{hint}")
        self.said = said


def _missing(said: str) -> str:
    """Return which package has a header that clang did not find; empty if it is not known."""
    for line in said.splitlines():
        if "file not found" in line and "'" in line:
            header = line.split("'")[1]
            for place, advice in _PACKAGES.items():
                if header.startswith(place):
                    return f": {header} is missing: {advice}"
    return ""
