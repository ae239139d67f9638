# SPDX-License-Identifier: BSD-2-Clause
"""Batches made by hand, as a drain would hand them over."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace

import pytest

from eunomia.batch import Batch
from eunomia.identity import ON_HOST, PENDING, RESOLVED, Container, Identity, Pod
from eunomia.sinks import StreamInfo, open_sink
from eunomia.sinks.writer import Writer
from eunomia.stream_schema import Field, Scale, Schema

T0 = 1_795_464_329_000_000_000  # 2026-11-23T20:05:29Z
WEB = Identity(RESOLVED, Container("4f" * 32, "web", "nginx:1.27", "docker"))
SHOP = Identity(
    RESOLVED, Container("5a" * 32, "cart", "shop:2", "containerd"), Pod("shop-7d9", "prod", "u-1")
)
STARTING = Identity(PENDING, Container("ab" * 32))

CODES = {
    "time": "Q", "cgroup_id": "Q", "duration": "Q", "pid": "I", "uid": "I", "text": "16s", "str": "II",
    "path": "II", "argv": "II", "errno": "i", "signal": "i", "": "i", "bool": "?", "open_flags": "I",
    "float": "d", "slots": "10Q",
}  # fmt: skip


def make_schema(name, /, *, hidden=(), **fields):
    """Return a schema of fields by name and meaning, packed without gaps."""
    made, at = [], 0
    for field, meaning in fields.items():
        code = CODES[meaning]
        size = struct.calcsize("<" + code)
        kind = "array" if meaning == "slots" else meaning
        scale = Scale("log2") if meaning == "slots" else None
        made.append(Field(field, at, size, code, kind, hidden=field in hidden, scale=scale))
        at += size
    return Schema(name, at, made)


def make_stream(key, /, *, default_columns=(), hidden=(), **fields):
    tracker, stream = key.split("/")
    return StreamInfo(tracker, stream, make_schema(stream, hidden=hidden, **fields), tuple(default_columns))


def make_batch(stream, rows, identities=None):
    """Return a batch of rows given as dicts; bytes for texts, lists of bytes for argv, 0 where absent."""
    data, heap = bytearray(), bytearray()
    for n, row in enumerate(rows):
        for field in stream.schema.fields.values():
            value = row.get(field.name)
            if field.meaning == "time":
                data += struct.pack("<Q", T0 + n if value is None else value)
            elif field.meaning in {"str", "path", "argv"}:
                text = b"".join(v + b"\0" for v in value or ()) if field.meaning == "argv" else value or b""
                data += struct.pack("<II", len(heap), len(text))
                heap += text
            elif field.meaning == "text":
                data += struct.pack("<16s", value or b"")
            elif field.meaning == "array":
                data += struct.pack("<10Q", *(value or [0] * 10))
            else:
                data += struct.pack("<" + field.code, value or 0)
    return Batch(
        stream.schema,
        bytes(data),
        bytes(heap),
        tracker=stream.tracker,
        stream=stream.stream,
        identities=identities,
    )


class Kept(Writer):
    """Keeps in memory what it is given."""

    def __init__(self, terminal=None):
        super().__init__()
        self.terminal = terminal
        self.data = b""
        self.orders = []

    def start(self, header):
        self.data += header

    def write(self, data, rows, order=()):
        self.data += data
        self.orders += order
        self._deliver(rows)

    @property
    def text(self):
        return self.data.decode("utf-8")


OPEN = make_stream(
    "opensnoop/open",
    hidden={"cgroup_id"},
    ts="time", cgroup_id="cgroup_id", pid="pid", tid="pid", ppid="pid", uid="uid", comm="text", path="str",
    resolved="path", flags="open_flags", errno="errno", latency_ns="duration",
)  # fmt: skip
_COMMON = {"time": "time", "pid": "pid", "tid": "pid", "ppid": "pid", "uid": "uid", "comm": "text"}
_SHOWN = ("pid", "ppid", "uid", "comm")
EXEC = make_stream(
    "process/exec", **_COMMON, exe="path", argv="argv", argv_cut="bool", cwd="path", errno="errno",
    default_columns=(*_SHOWN, "argv", "argv_cut", "exe", "cwd", "errno"),
)  # fmt: skip
FORK = make_stream("process/fork", **_COMMON, child_pid="pid", default_columns=(*_SHOWN, "child_pid"))
EXIT = make_stream(
    "process/exit", **_COMMON, exit_code="", signal="signal", duration_ns="duration",
    default_columns=(*_SHOWN, "exit_code", "signal", "duration_ns"),
)  # fmt: skip
HIST = make_stream("biolatency/io", dev="", slots="slots")

# What a container can put into a name, a path or an argument.
HOSTILE = [
    b"\x1b[2J\x1b[1;31mroot", b"a\nb", b"a\r\nb", b'say "hi", \'you\'', b"\xff\xfe", "\u009b31m".encode(),
    "\u202egnp.exe".encode(), b"x" * 10_000, "日本語のファイル".encode(), b"\x7f\x08\x08",
    "a\u2028b".encode(),
    "\u2066x\u2069".encode(), b"=1+1", b"a,b", b"", b"\t", "é\u0301".encode(), "\U0001f980".encode(), b"\\",
]  # fmt: skip


@pytest.fixture
def sample():
    """The streams, identities and makers above."""
    return SimpleNamespace(
        EXEC=EXEC, EXIT=EXIT, FORK=FORK, HIST=HIST, HOSTILE=HOSTILE, OPEN=OPEN, SHOP=SHOP, STARTING=STARTING,
        T0=T0, WEB=WEB, Kept=Kept, batch=make_batch, stream=make_stream,
    )  # fmt: skip


@pytest.fixture
def written():
    """Return a call that writes ticks of batches by a fresh sink and gives its writer back."""

    def write(kind, streams, *ticks, columns=None, color=None, terminal=None, added=()):
        writer = Kept(terminal)
        sink = open_sink(kind, writer, streams, columns, color, added=added)
        for tick in ticks:
            sink.write(tick)
        sink.flush()
        return writer

    return write


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo-terminal's descriptor; its size is set by calling the second value."""
    leader, follower = os.openpty()

    def resize(columns, lines=40):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    resize(120)
    yield follower, resize
    os.close(leader)
    os.close(follower)


@pytest.fixture
def process_tick():
    """What `eunomia run process` sees of a container that starts a shell and a failing program."""
    exec_rows = [
        {"time": T0 + 1_000_000, "pid": 4242, "tid": 4242, "ppid": 4200, "uid": 0, "comm": b"nginx",
         "exe": b"/usr/sbin/nginx", "argv": [b"nginx", b"-g", b"daemon off;"], "cwd": b"/"},
        {"time": T0 + 5_000_000, "pid": 4250, "tid": 4250, "ppid": 1, "uid": 1000, "comm": b"bash",
         "exe": b"/usr/bin/lss", "argv": [b"lss", b"LD_PRELOAD=x"], "cwd": b"/home/a b", "errno": -2},
    ]  # fmt: skip
    fork_rows = [
        {"time": T0 + 500_000, "pid": 4200, "tid": 4200, "ppid": 1, "comm": b"sh", "child_pid": 4242}
    ]
    exit_rows = [
        {"time": T0 + 1_300_000_000, "pid": 4242, "tid": 4242, "ppid": 4200, "comm": b"nginx", "exit_code": 1,
         "duration_ns": 1_299_000_000},
        {"time": T0 + 1_400_000_000, "pid": 4300, "tid": 4300, "ppid": 4200, "comm": b"sleep", "signal": 9,
         "duration_ns": 45_600},
    ]  # fmt: skip
    return [
        make_batch(EXEC, exec_rows, [WEB, ON_HOST]),
        make_batch(FORK, fork_rows, [WEB]),
        make_batch(EXIT, exit_rows, [SHOP, STARTING]),
    ]
