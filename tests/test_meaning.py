# SPDX-License-Identifier: BSD-2-Clause
"""What numbers mean is what the system's own libraries say that they mean."""

from __future__ import annotations

import ctypes
import datetime
import errno
import os
import re
import signal
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eunomia import meaning
from eunomia.batch import Batch
from eunomia.columns.meanings import MEANINGS
from eunomia.stream_schema import Field, Schema
from tests.contracts import ROOT


def shown(kind, code, *raw):
    size = struct.calcsize("<" + code)
    shape = Schema("x", size, [Field("v", 0, size, code, kind)])
    return list(Batch(shape, b"".join(struct.pack("<" + code, v) for v in raw)).values("v"))


def test_errors_have_the_names_of_the_c_library_whatever_their_sign():
    assert shown("errno", "i", 0, -errno.ENOENT, errno.EPERM, -512, -99999) == [
        "", "ENOENT", "EPERM", "ERESTARTSYS", "99999",
    ]  # fmt: skip


def test_signals_have_names_real_time_ones_too():
    assert shown("signal", "I", 0, 9, signal.SIGRTMIN, signal.SIGRTMIN + 3, signal.SIGRTMAX, 200) == [
        "", "SIGKILL", "SIGRTMIN", "SIGRTMIN+3", "SIGRTMAX", "200",
    ]  # fmt: skip


def test_system_calls_have_this_machine_s_names():
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = {"x86_64": (39, 110, 257), "aarch64": (172, 173, 56)}[os.uname().machine]
    assert libc.syscall(numbers[0]) == os.getpid()
    assert shown("syscall", "I", *numbers, 9999) == ["getpid", "getppid", "openat", "9999"]


def test_capabilities_have_names():
    assert shown("capability", "I", 0, 21, 40, 41) == [
        "CAP_CHOWN",
        "CAP_SYS_ADMIN",
        "CAP_CHECKPOINT_RESTORE",
        "41",
    ]


@given(st.integers(0, 2**32 - 1))
def test_open_flags_add_up_to_their_number(value):
    (text,) = shown("open_flags", "I", value)
    known = {name: bits for bits, name in meaning._OPEN_FLAGS} | dict(
        zip(meaning._ACCESS, range(4), strict=True)
    )
    total = 0
    for word in text.split("|"):
        total |= known[word] if word in known else int(word, 16)
    assert total == value


@given(st.binary(min_size=4, max_size=4))
def test_ipv4_addresses_read_as_the_socket_library_has_them(raw):
    assert shown("ipv4", "I", struct.unpack("<I", raw)[0]) == [socket.inet_ntoa(raw)]


@given(st.binary(min_size=16, max_size=16))
def test_ipv6_addresses_read_as_the_socket_library_has_them(raw):
    assert shown("ipv6", "16s", raw) == [socket.inet_ntop(socket.AF_INET6, raw)]


def test_mapped_ipv4_addresses_are_shown_dotted():
    assert shown("ip", "16s", bytes(10) + b"\xff\xff\x7f\0\0\1", bytes(15) + b"\1") == ["127.0.0.1", "::1"]


def test_ports_are_in_network_order():
    assert shown("port", "H", socket.htons(443)) == [443]


def test_a_process_is_named_by_node_start_and_pid(monkeypatch):
    monkeypatch.setattr(meaning, "_node", [])
    monkeypatch.setenv("NODE_NAME", "n\x1b1")
    raw = struct.pack("=QII", 84213, 4242, 0)
    assert shown("exec_id", "16s", raw, bytes(16)) == ["n\x1b1:84213:4242", ""]
    assert meaning.exec_id(84213, 4242) == "n\x1b1:84213:4242"
    monkeypatch.setattr(meaning, "_node", [])
    monkeypatch.setenv("EUNOMIA_NODE", "told")
    assert meaning.exec_id(1, 2) == "told:1:2"


def test_a_node_that_nobody_has_named_is_called_as_its_host(monkeypatch):
    monkeypatch.setattr(meaning, "_node", [])
    monkeypatch.delenv("NODE_NAME", raising=False)
    monkeypatch.delenv("EUNOMIA_NODE", raising=False)
    assert meaning.exec_id(1, 2) == f"{socket.gethostname()}:1:2"


def test_devices_and_modes():
    assert shown("device", "I", 8 << 20 | 1) == ["8:1"]
    assert shown("mode", "H", 0o100644, 0o7) == ["100644", "0007"]


@given(st.integers(0, 2**33 * 10**9))
def test_times_are_rfc_3339_with_nanoseconds(nanoseconds):
    whole, rest = divmod(nanoseconds, 10**9)
    date = datetime.datetime.fromtimestamp(whole, datetime.UTC)
    assert meaning.rfc3339(nanoseconds) == f"{date:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    data = struct.pack("<Q", nanoseconds)
    assert list(meaning.times(data, 8, 0, 1, 0)) == [meaning.rfc3339(nanoseconds)]


@given(st.binary(min_size=8, max_size=8), st.integers(-(2**63), 2**63 - 1))
def test_a_time_that_is_none_still_looks_like_one(data, clock):
    (text,) = meaning.times(data, 8, 0, 1, clock)
    assert len(text) == 30
    assert text.endswith("Z")


@pytest.mark.parametrize(
    ("given_", "shown_"),
    [
        ("/a/../b", "/b"),
        ("//x", "/x"),
        ("/", "/"),
        ("/a/./b/", "/a/b"),
        ("a/../b", "a/../b"),
        ("", ""),
        ("/...", "/..."),
    ],
)
def test_paths_are_tidied(given_, shown_):
    shape = Schema("x", 8, [Field("p", 0, 8, "II", "path")])
    assert list(Batch(shape, struct.pack("<II", 0, len(given_)), given_.encode()).values("p")) == [shown_]


def test_char_arrays_end_at_their_first_nul_and_keep_what_is_not_utf8():
    assert shown("text", "8s", b"ab\0cd\0\0\0", b"12345678", b"\xff\x1b[31m\0") == [
        "ab",
        "12345678",
        "\udcff\x1b[31m",
    ]


def test_places_outside_the_heap_are_empty_or_cut():
    shape = Schema("x", 8, [Field("s", 0, 8, "II", "str")])
    data = struct.pack("<IIIIII", 0, 2**32 - 1, 2**32 - 1, 5, 2, 1)
    for heap in (b"abc", "é!".encode()):
        assert list(Batch(shape, data, heap).values("s")) == [heap.decode(), "", heap[2:3].decode()]


def test_probes_can_declare_each_meaning_that_has_a_typedef():
    header = (ROOT / "src/eunomia/bpf/eunomia/types.h").read_text()
    declared = set(re.findall(r"(\w+_t)\b", header))
    known = {typedef for meaning in MEANINGS.values() for typedef in meaning.typedefs}
    assert known - declared <= {"pid_t", "uid_t", "gid_t", "mode_t", "umode_t"}, "no probe can declare these"


def test_nothing_leads_out_of_what_is_unreachable():
    assert meaning.Text(b"").tidy(["(unreachable)/etc/../../x", "(unreachable)/..", "/a/../../x", "(unreachable)x/../y"]) == [
        "(unreachable)/x", "(unreachable)/", "/x", "(unreachable)x/../y",
    ]  # fmt: skip
