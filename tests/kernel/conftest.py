# SPDX-License-Identifier: BSD-2-Clause
"""Compile a few lines of BPF C."""

import platform
import shutil
import subprocess

import pytest

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define MAP(kind, name) struct { __uint(type, kind); __uint(max_entries, 4096); } name SEC(".maps")
#define TABLE(kind, name, k, v) struct { __uint(type, kind); __uint(max_entries, 64); \
    __type(key, k); __type(value, v); } name SEC(".maps")
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def bpf(tmp_path):
    """bpf(source, *flags) -> bytes of the object."""
    if shutil.which("clang") is None:
        pytest.skip("no clang to compile BPF with")

    def compile_(source, *flags):
        path = tmp_path / "x.bpf.c"
        path.write_text(HEAD + source)
        command = ["clang", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{platform.machine()}-linux-gnu"]
        subprocess.run([*command, *flags, "-c", path, "-o", tmp_path / "x.o"], check=True)
        return (tmp_path / "x.o").read_bytes()

    return compile_
