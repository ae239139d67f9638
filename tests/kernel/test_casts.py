# SPDX-License-Identifier: BSD-2-Clause
"""Objects that include eunomia/current.h call bpf_rdonly_cast() where the kernel has it, and do without elsewhere."""

import struct
from pathlib import Path

import pytest
from tests import needs

from eunomia import tracker
from eunomia.kernel import casts
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.spec import Spec

STAND_IN = struct.pack("<BBhi", 0x85, 0, 0, 0x10000)
TRACKERS = ["process", "opensnoop", "syscall"]


@pytest.mark.parametrize("name", TRACKERS)
def test_each_call_of_the_stand_in_becomes_one_of_the_kernel_s_function(name: str):
    found = tracker.find(name)
    data = Path(found.object).read_bytes()
    resolved = casts.resolved(data)
    if casts.settings(["eunomia_type_file"]) == {}:
        assert resolved == data
        return
    assert STAND_IN in data
    assert STAND_IN not in resolved
    assert len(resolved) == len(data)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_kernel_without_the_function_verifies_the_same_object(name: str):
    needs.root()
    found = tracker.find(name)
    spec = Spec.open(found.object, quick=True)
    nothing = dict.fromkeys(casts.settings(spec.settings), 0)
    with Loaded(spec, programs=[*found.tracker.variants[0].programs, *found.tracker.always], set_=nothing) as live:
        assert live.programs()


def test_a_file_that_is_no_elf_file_is_left_alone():
    for data in (
        b"",
        b"eunomia_type_",
        b"\x7fELF eunomia_type_" + STAND_IN,
        b"\xff" * 64 + b"eunomia_type_" + STAND_IN,
    ):
        assert casts.resolved(data) == data


def test_the_same_bytes_outside_of_code_are_left_alone():
    data = bytearray(Path(tracker.find("process").object).read_bytes())
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<8xQ8xQQ", data, table + n * size) for n in range(count)]
    at, _ = max(((offset, length) for flags, offset, length in sections if not flags & 4), key=lambda s: s[1])
    data[at : at + 8] = STAND_IN
    assert casts.resolved(bytes(data))[at : at + 8] == STAND_IN
