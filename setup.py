# SPDX-License-Identifier: BSD-2-Clause
"""What pyproject.toml cannot say: kernel probes are compiled by clang, the binding by cffi."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCE = Path("src/eunomia")
HEADERS = SOURCE / "bpf"
NATIVE = SOURCE / "native"
ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm64"}
CLANG = shlex.split(os.environ.get("CLANG", "clang"))
CC = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


class Need(NamedTuple):
    """Something the build cannot do without: ``source`` compiles where it is there."""

    what: str
    debian: str
    fedora: str
    compiler: list[str]
    source: str
    file: str = ""

    def __str__(self) -> str:
        return f"  {self.what} is missing: apt install {self.debian} (Fedora: dnf install {self.fedora})"

    def is_met(self) -> bool:
        if not shutil.which(self.compiler[0]):
            return False
        command = [*self.compiler, "-fsyntax-only", "-xc", "-"]
        done = subprocess.run(command, input=self.source, text=True, capture_output=True, check=False)
        return done.returncode == 0


C_COMPILER = Need("a C compiler (compiles the binding)", "gcc libc6-dev", "gcc", CC, "#include <stdlib.h>")
NEEDS = (
    Need(
        "clang 14 or later (compiles the kernel probes)", "clang", "clang", [*CLANG, "-target", "bpf"],
        "#if !__has_attribute(btf_decl_tag)\n#error\n#endif",
    ),
    C_COMPILER,
    Need(
        "bpf/libbpf.h of libbpf 1.0 or later (loads the probes)", "libbpf-dev", "libbpf-devel", CC,
        "#include <bpf/libbpf.h>\n#if LIBBPF_MAJOR_VERSION < 1\n#error\n#endif", "/usr/include/bpf/libbpf.h",
    ),
    Need(
        "Python.h (Python's side of the binding)", "python3-dev", "python3-devel",
        [*CC, f"-I{sysconfig.get_path('include')}"], "#include <Python.h>",
        f"{sysconfig.get_path('include')}/Python.h",
    ),
)  # fmt: skip


def check_needs() -> None:
    """Stop with a sentence for each thing that is missing and the package that has it."""
    missing = [need for need in NEEDS if not need.is_met()]
    if C_COMPILER in missing:  # headers could not be tried then, only looked for
        missing = [need for need in missing if not os.path.exists(need.file)]
    if missing:
        raise SystemExit("\n".join(["", "error: eunomia cannot be built here yet.", *map(str, missing), ""]))


def probe_flags() -> list[str]:
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise SystemExit(f"error: eunomia's probes are for {' and '.join(ARCHITECTURES)}, not for {machine}")
    # asm/types.h; clang knows no such place when it compiles for bpf
    multiarch = Path("/usr/include", sysconfig.get_config_var("MULTIARCH") or "")
    return [
        # -Wno-unused-parameter: BPF_PROG() names every argument
        *("-O2", "-g", "-ffreestanding", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"),
        *("-target", "bpf", "-mcpu=v3"),
        *(f"-D__TARGET_ARCH_{ARCHITECTURES[machine]}", f"-I{HEADERS}", "-isystem", str(multiarch)),
    ]


def compile_probe(source: Path) -> str:
    """Compile one probe beside its source; return what clang said if it refused."""
    target = source.with_suffix(".o")
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        command = [*CLANG, *probe_flags(), "-c", str(source), "-o", str(unfinished)]
        done = subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            return done.stderr or f"{source}: clang ended with {done.returncode}"
        strip = shutil.which("llvm-strip")
        if strip:  # drops DWARF, keeps BTF
            subprocess.run([strip, "-g", str(unfinished)], check=True)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return ""


def stale_probes() -> Iterator[Path]:
    shared = max((p.stat().st_mtime_ns for p in [Path(__file__), *HEADERS.rglob("*.h")]), default=0)
    for source in sorted(SOURCE.rglob("*.bpf.c")):
        target = source.with_suffix(".o")
        if not target.exists() or target.stat().st_mtime_ns <= max(source.stat().st_mtime_ns, shared):
            yield source


class BuildProbes(Command):
    description = "compile the kernel probes (*.bpf.c) with clang"
    user_options = []
    editable_mode = False

    def initialize_options(self) -> None: ...

    def finalize_options(self) -> None: ...

    def run(self) -> None:
        check_needs()
        stale = list(stale_probes())
        for source in stale:
            self.announce(f"clang {source}", level=2)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            refused = [said for said in pool.map(compile_probe, stale) if said]
        if refused:
            raise SystemExit("\n".join([*refused, f"error: {len(refused)} kernel probe(s) did not compile"]))

    def get_source_files(self) -> list[str]:
        return [str(p) for p in [*SOURCE.rglob("*.bpf.c"), *HEADERS.rglob("*.h"), *NATIVE.rglob("*.[ch]")]]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Build(build):
    sub_commands = [("build_probes", None), *build.sub_commands]

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)  # else a file that was removed stays in the wheel
        super().run()


class BuildPy(build_py):
    """Leaves the tests that live in the trackers' folders out of the wheel."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if not fnmatch(module[1], "test_*")]


class BuildExt(build_ext):
    """Compiles the binding again when its header changes; cffi tells setuptools of the C file only."""

    def build_extensions(self) -> None:
        for extension in self.extensions:
            extension.depends += map(str, NATIVE.glob("*"))
        super().build_extensions()


if __name__ == "__main__":
    setup(
        cffi_modules=[str(NATIVE / "build.py:ffi")],
        cmdclass={"build": Build, "build_probes": BuildProbes, "build_py": BuildPy, "build_ext": BuildExt},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
