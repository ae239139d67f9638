# SPDX-License-Identifier: BSD-2-Clause
"""Compile the foreign programs as their authors would: clang, bpf_helpers.h, nothing of ours."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ARCH = {"x86_64": "x86", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture(scope="session")
def vmlinux(tmp_path_factory):
    """A directory with the running kernel's vmlinux.h."""
    bpftool = shutil.which("bpftool") or shutil.which("bpftool", path="/usr/sbin:/sbin")
    if bpftool is None:
        pytest.skip("no bpftool to write vmlinux.h")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("the kernel has no BTF")
    folder = tmp_path_factory.mktemp("vmlinux")
    with (folder / "vmlinux.h").open("wb") as out:
        command = [bpftool, "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
        subprocess.run(command, stdout=out, check=True)
    return folder


@pytest.fixture(scope="session")
def compiled(request, tmp_path_factory):
    """compiled(name, strip=..., flags=...) -> path of the object."""
    if shutil.which("clang") is None:
        pytest.skip("no clang to compile the foreign programs")
    done = {}

    def compile_(name, *, strip=False, flags=()):
        key = name, strip, tuple(flags)
        if key not in done:
            source = HERE / f"{name}.bpf.c"
            out = tmp_path_factory.mktemp(name) / f"{name}.bpf.o"
            include = [f"-I/usr/include/{platform.machine()}-linux-gnu"]
            if '"vmlinux.h"' in source.read_text():
                include.append(f"-I{request.getfixturevalue('vmlinux')}")
            command = ["clang", "-O2", "-g", "-Wall", "-Werror", "-target", "bpf", f"-D__TARGET_ARCH_{ARCH}"]
            subprocess.run([*command, *include, *flags, "-c", source, "-o", out], check=True)
            if strip:
                subprocess.run(["llvm-strip", "-g", out], check=True)
            done[key] = out
        return done[key]

    return compile_
