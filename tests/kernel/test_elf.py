# SPDX-License-Identifier: BSD-2-Clause
"""A file that is no BPF object gets one sentence that says what it is and what to do."""

import struct
import subprocess
import sys

import pytest

from eunomia.kernel import elf
from eunomia.kernel.errors import BadObject

PROGRAM = 'SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx) { return 0; }'


def refused(data):
    with pytest.raises(BadObject) as caught:
        elf.check(data, "x.o")
    message = str(caught.value)
    assert message.startswith("x.o: ")
    assert "\n" not in message
    return message


def patched(data, offset, form, value):
    data = bytearray(data)
    struct.pack_into(form, data, offset, value)
    return bytes(data)


def test_accepts_what_clang_makes(bpf):
    elf.check(bpf(PROGRAM), "x.o")


def test_refuses_files_that_are_not_elf():
    assert "empty" in refused(b"")
    assert "not an ELF file" in refused(b"#!/bin/sh\n")
    assert "not an ELF file" in refused(b"\x7f")
    assert "truncated" in refused(b"\x7fELF")


def test_refuses_every_prefix_of_an_object(bpf):
    data = bpf(PROGRAM)
    for size in range(len(data)):
        refused(data[:size])


def test_refuses_an_object_for_the_machine_itself(tmp_path):
    (tmp_path / "x.c").write_text("int f(void) { return 0; }")
    for target, name in [("x86_64", "an x86-64"), ("aarch64", "an aarch64"), ("i386", "an i386")]:
        done = subprocess.run(
            ["clang", f"--target={target}-linux-gnu", "-c", "x.c", "-o", "x.o"], cwd=tmp_path, check=False
        )
        if done.returncode == 0:
            message = refused((tmp_path / "x.o").read_bytes())
            assert f"is {name} object, not a BPF one" in message
            assert "clang -target bpf" in message


def test_refuses_a_program_of_this_machine():
    with open(sys.executable, "rb") as file:
        assert "program, not a BPF one" in refused(file.read())


def test_refuses_the_other_byte_order(bpf):
    other = "bpfeb" if sys.byteorder == "little" else "bpfel"
    message = refused(bpf(PROGRAM, "-target", other))
    assert f"this machine is {sys.byteorder}-endian" in message


def test_refuses_what_is_linked_or_of_32_bits(bpf):
    assert "linked" in refused(patched(bpf(PROGRAM), 16, "=H", 2))
    assert "32-bit" in refused(patched(bpf(PROGRAM), 4, "=B", 1))


def test_refuses_an_object_without_types_or_programs(bpf):
    assert "clang -g" in refused(bpf(PROGRAM, "-g0"))
    assert "no BPF programs" in refused(bpf("int f(void) { return 0; }"))
    assert "no BPF programs" in refused(bpf("int x;"))


def test_does_not_import_pyelftools():
    code = "import sys; from eunomia.kernel import elf; sys.exit('elftools' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}
        ).returncode
        == 0
    )


def test_broken_bytes_past_the_headers_are_bad_objects_not_tracebacks(bpf):
    import random

    from eunomia.kernel.btf import Btf
    from eunomia.kernel.foreign import bytecode
    from eunomia.kernel.foreign.discover import event_types

    source = 'MAP(BPF_MAP_TYPE_RINGBUF, rb); SEC("tp/x/y") int f(void *c) { int a[4] = {}; '
    data = bpf(source + "bpf_ringbuf_output(&rb, a, sizeof a, 0); return 0; }")
    chance = random.Random(7)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(8):
            broken[chance.randrange(64, len(broken))] = chance.randrange(256)
        try:
            elf.check(bytes(broken), "x.o")
            bytecode.uses(bytes(broken))
            event_types(bytes(broken), ["rb"], Btf(elf.section(bytes(broken), ".BTF")), {})
        except BadObject:
            pass
