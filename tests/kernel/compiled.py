# SPDX-License-Identifier: BSD-2-Clause
"""Compile C at test time: for BPF as our own probes are, and natively as a second opinion on layouts."""

from __future__ import annotations

import atexit
import functools
import hashlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests import needs

from eunomia.kernel.spec import Spec

HEADERS = Path(__file__).parents[2] / "src/eunomia/bpf"
_ARCH = {"x86_64": "x86", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@functools.cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="eunomia-test-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def bpf(source: str, *flags: str) -> bytes:
    """Return a BPF object's bytes; the source may include eunomia/probe.h."""
    clang = needs.program("clang", "clang")
    stem = _folder() / hashlib.sha256(repr((source, flags)).encode()).hexdigest()[:16]
    stem.with_suffix(".c").write_text(source)
    command = [
        *(clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-D__TARGET_ARCH_{_ARCH}", f"-I{HEADERS}"),
        *(f"-I/usr/include/{platform.machine()}-linux-gnu", "-ffreestanding", *flags),
        *("-c", stem.with_suffix(".c"), "-o", stem.with_suffix(".o")),
    ]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return stem.with_suffix(".o").read_bytes()


def spec(source: str, name: str = "test", *flags: str) -> Spec:
    """Return the spec of a few lines of BPF C."""
    return Spec(bpf(source, *flags), name)


@functools.cache
def native(source: str, *flags: str) -> Path:
    """Return a program compiled for this machine."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc: apt install gcc")
    path = _folder() / ("n" + hashlib.sha256(repr((source, flags)).encode()).hexdigest()[:16])
    path.with_suffix(".c").write_text(source)
    command = [
        "gcc",
        "-O1",
        "-w",
        f"-I{HEADERS}",
        *[f for f in flags if not f.startswith("-l")],
        path.with_suffix(".c"),
        "-o",
        path,
        *[f for f in flags if f.startswith("-l")],
    ]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return path
