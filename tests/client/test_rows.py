# SPDX-License-Identifier: BSD-2-Clause
"""Rows that went through JSON look as they did before, in every format, whatever their columns mean."""

import json
import platform
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from eunomia import tracker
from eunomia.batch import Batch
from eunomia.client.rows import Rows, decoded
from eunomia.identity import HOST, RESOLVED, Container, Identity, Mount, Pod
from eunomia.kernel.spec import Spec
from eunomia.python_schema import ColumnDeclaration, declare
from eunomia.server.journal_sink import described
from eunomia.server.models import Stream
from eunomia.sinks import StreamInfo, open_sink
from eunomia.sinks.writer import Writer
from eunomia.stream_schema import Schema
from tests import needs

NOON = 1_790_000_000_123_456_789
WEB = Identity(
    RESOLVED,
    Container(
        "f" * 64, "we\x1bb", "nginx:1", "docker", labels=(("app", "x"), ("tier", "front")), command=("a", "b c"),
        mounts=(Mount("/a", "/b", "bind", False),), pid=7, created=NOON, restarts=2,
    ),
    Pod("pod", "shop", "u-1", labels=(("app", "x"),)),
    ("0" * 64,),
)  # fmt: skip
TYPES = [
    "__u8", "__s8", "__u16", "__s32", "__u64", "bool", "double", "pid_t", "uid_t", "umode_t", "duration_ns_t",
    "cgroup_id_t", "errno_t", "signal_t", "syscall_t", "capability_t", "open_flags_t", "device_t", "hex64_t",
    "port_be_t", "ipv4_t", "str_t", "path_t",
]  # fmt: skip
TEXTS = ["", "plain", "it's", "a b=c\n", "\x1b[31m", "ß…", "/a/../b//c", "-" * 80]


class Kept(Writer):
    """Keeps what is written, as a terminal of 100 columns or as a file."""

    def __init__(self, terminal: int | None = None) -> None:
        super().__init__()
        self.terminal, self.data = terminal, b""

    def start(self, header: bytes) -> None:
        self.data += header

    def write(self, data: bytes, rows: object, order: object = ()) -> None:
        self.data += data


def written(kind: str, batches: Sequence[Batch], infos: Sequence[StreamInfo], columns=None, added=(), tty=None) -> bytes:
    writer = Kept(tty)
    sink = open_sink(kind, writer, infos, columns, added=added)
    sink.flush()
    sink.write(batches)
    return writer.data


def carried(batches: Sequence[Batch], infos: Sequence[StreamInfo], added=()) -> tuple[list[Batch], list[StreamInfo]]:
    """Return batches and streams as a reader gets them over HTTP."""
    streams = msgspec.json.decode(msgspec.json.encode(described(infos)), type=list[Stream])
    rows = Rows("t")
    there = rows.describe(streams)
    return rows.batches(decoded(written("json", batches, infos, added=added).splitlines())), there


def batch(schema: Schema, rows: list[dict[str, int | str]], stream: str = "s") -> Batch:
    made = Batch.made(schema, rows, [(WEB, Identity(HOST))[i % 2] for i in range(len(rows))])
    made.tracker, made.stream, made.taken = "t", stream, NOON
    return made


def all_types(stream: str = "s", has_time: bool = True) -> Batch:
    columns = [ColumnDeclaration(f"c_{i}_{name}", name, hidden=i % 5 == 4) for i, name in enumerate(TYPES)]
    columns += [
        ColumnDeclaration("kind", "enum kind", names={0: "no", 1: "yes"}),
        ColumnDeclaration("perhaps", "__u32", none=1),
        ColumnDeclaration("wait_ns", "duration_ns_t"),
    ]
    if has_time:
        columns.insert(0, ColumnDeclaration("when", "time_ns_t"))
    schema = declare("event", "", columns)
    rows: list[dict[str, int | str]] = []
    for n in range(len(TEXTS)):
        row: dict[str, int | str] = {c.name: n for c in columns if c.type not in {"str_t", "path_t"}}
        row |= {c.name: TEXTS[n] for c in columns if c.type in {"str_t", "path_t"}}
        rows.append(row | ({"when": NOON + n} if has_time else {}))
    return batch(schema, rows, stream)


def info(one: Batch, *default: str) -> StreamInfo:
    return StreamInfo("t", one.stream, one.schema, default)


@pytest.mark.parametrize("kind", ["table", "json", "csv"])
@pytest.mark.parametrize("has_time", [True, False])
def test_every_type_of_column_looks_the_same(kind: str, has_time: bool):
    one = all_types(has_time=has_time)
    there, infos = carried([one], [info(one)])
    assert written(kind, there, infos) == written(kind, [one], [info(one)])


def test_a_terminal_shows_the_same_colours_and_cuts_at_the_same_places(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    one = all_types()
    there, infos = carried([one], [info(one)])
    columns = ["time", "container.name", "c_12_errno_t", "c_22_path_t", "c_21_str_t", "wait_ns"]
    shown = written("table", [one], [info(one)], columns, tty=2)
    assert b"\x1b[31m" in shown
    assert "…".encode() in shown
    assert written("table", there, infos, columns, tty=2) == shown
    assert written("table", there, infos, tty=2) == written("table", [one], [info(one)], tty=2)


def test_streams_are_interleaved_by_time_and_keep_their_default_columns():
    first, second = all_types("a"), batch(
        declare("other", "", [ColumnDeclaration("time", "time_ns_t"), ColumnDeclaration("kind", "__u32"), ColumnDeclaration("x", "errno_t")]),
        [{"time": NOON + n, "kind": n, "x": n} for n in range(5)], "b",
    )  # fmt: skip
    infos = [info(first, "kind", "wait_ns", "container.image"), info(second)]
    there, told = carried([first, second], infos)
    assert written("table", there, told) == written("table", [first, second], infos)


@pytest.mark.parametrize("kind", ["table", "json", "csv"])
def test_chosen_columns_are_the_same(kind: str):
    one = all_types()
    there, infos = carried([one], [info(one)], added=["container", "pod"])
    columns = ["time", "kind", "container.labels", "container.mounts", "container.created", "pod.namespace", "identity", "wait_ns"]
    assert written(kind, there, infos, columns) == written(kind, [one], [info(one)], columns)


@pytest.mark.parametrize("added", [["container"], ["pod.labels.app"], ["container.labels.tier", "container.pid"]])
def test_added_columns_are_the_same(added: list[str]):
    one = all_types()
    there, infos = carried([one], [info(one)], added)
    assert written("table", there, infos, added=added) == written("table", [one], [info(one)], added=added)


@pytest.mark.parametrize("found", tracker.every(), ids=lambda found: found.name)
def test_the_columns_of_every_tracker_are_the_same(found):
    spec = Spec.open(found.object, derived=found.tracker.derived)
    batches = [
        Batch(s.schema, bytes(s.schema.size * 3), tracker="t", stream=name, taken=NOON) for name, s in spec.streams.items()
    ]
    infos = [StreamInfo("t", one.stream, one.schema, found.tracker.columns.get(one.stream, ())) for one in batches]
    spec.close()
    there, told = carried(batches, infos)
    for kind in ("table", "csv", "json"):
        assert written(kind, there, told) == written(kind, batches, infos)


STRUCT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum colour { RED, GREEN = 5 };
struct inner { __s16 low; char name[5]; };
struct event {
    __u64 time; char comm[16]; char long_text[64]; __u8 raw[7]; __u32 numbers[3]; struct inner one, two[2];
    enum colour colour; __u32 small : 3, more : 9; int flag : 1; union { __u32 whole; __u8 parts[4]; } either;
    void *pointer; _Bool yes; __s8 minus; long slots[8]; unsigned __int128 wide; unsigned char address[16];
};
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event);
} events SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
SEC("tp/sched/sched_process_exec") int on_exec(void *context)
{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (event)
        bpf_ringbuf_submit(event, 0);
    return 0;
}
"""


@pytest.mark.parametrize("seed", range(4))
def test_structs_arrays_unions_and_bit_fields_of_others_objects_look_the_same(seed: int, tmp_path: Path):
    clang = needs.program("clang", "clang")
    object_ = tmp_path / "mine.bpf.o"
    command = [clang, "-O2", "-g", "-target", "bpf", f"-I/usr/include/{platform.machine()}-linux-gnu", "-xc", "-", "-c"]
    subprocess.run([*command, "-o", object_], input=STRUCT, text=True, check=True)
    spec = Spec.open(object_)
    spec.choose_scales({"events.slots": "log2"})
    (stream,) = spec.streams.values()
    spec.close()
    chance = random.Random(seed)
    # not a lone byte of UTF-8, which JSON has as text
    data = bytes(chance.choice((0, 1, 2, 7, 65, 97, 127)) for _ in range(5 * stream.schema.size))
    one = Batch(stream.schema, data, tracker="t", stream="s", taken=NOON)
    there, told = carried([one], [info(one)])
    assert b"128 -> 255" in written("table", [one], [info(one)])  # drawn as a histogram
    names = ["time", *list(stream.schema.fields)[1:]]
    for kind in ("table", "csv", "json"):
        assert written(kind, there, told) == written(kind, [one], [info(one)])
        assert written(kind, there, told, names) == written(kind, [one], [info(one)], names)


def test_a_row_of_an_unknown_stream_is_an_error():
    rows = Rows("t")
    rows.describe([])
    with pytest.raises(ValueError, match="which was not described"):
        rows.batches([json.loads('{"time":"2026-11-23T20:05:29.1Z","stream":"x"}')])


def test_this_file_names_every_type_that_python_schemas_have():
    from eunomia import python_schema

    left = set(python_schema._CODES) - set(TYPES)
    assert left == {"__s16", "__u32", "__s64", "gid_t", "time_ns_t", "hex32_t", "ipv6_t", "ip_t", "exec_id_t"}, Path(__file__)
