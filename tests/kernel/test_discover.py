# SPDX-License-Identifier: BSD-2-Clause
"""A struct that merely has the right size is not taken where the kernel has one of that name."""

import subprocess
from pathlib import Path

import pytest

from eunomia.kernel import elf
from eunomia.kernel.btf import Btf
from eunomia.kernel.foreign.discover import event_types
from eunomia.kernel.spec import Spec

DECLARED = """
struct small { int a; };
struct sent { int a, b, c; };
const struct sent *unused __attribute__((unused));
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, VALUE); } rb SEC(".maps");
SEC("raw_tp/sys_enter") int f(void *ctx) {
    struct sent e = {}; bpf_ringbuf_output(&rb, &e, SIZE, 0); return 0; }
"""


@pytest.mark.parametrize(
    ("value", "size", "found", "doubt"),
    [
        ("struct sent", "sizeof(e)", "sent", ""), ("struct small", "sizeof(e)", "sent", "declares struct small of 4 bytes"),
        ("__u32", "sizeof(e)", "sent", "declares __u32 of 4 bytes"), ("struct small", "4", "small", ""),
        ("struct small", "8", "small", ""),
    ],
)  # fmt: skip
def test_a_map_that_declares_what_no_program_sends_is_doubted(bpf, value, size, found, doubt):
    source = DECLARED.replace("VALUE", value).replace("SIZE", size)
    stream = Spec(bpf(source), "doubt").streams["rb"]
    assert stream.schema.name == found
    assert doubt in stream.hint
    assert bool(stream.hint) == bool(doubt)


OPEN_ENDED = """
struct items { int nr; int items[]; };
struct whole { int a, b, c; };
MAP(BPF_MAP_TYPE_RINGBUF, wholes); MAP(BPF_MAP_TYPE_RINGBUF, many);
SEC("raw_tp/sys_enter") int f(void *ctx) {
    struct items *some = bpf_ringbuf_reserve(&many, sizeof(*some) + 12, 0);
    struct whole *whole = bpf_ringbuf_reserve(&wholes, sizeof(*whole), 0);
    if (whole) { whole->a = 1; bpf_ringbuf_submit(whole, 0); }
    if (some) { some->nr = 2; some->items[0] = 3; bpf_ringbuf_submit(some, 0); }
    return 0; }
"""


def test_a_struct_of_the_size_that_is_sent_comes_before_one_with_a_flexible_array(bpf):
    streams = Spec(bpf(OPEN_ENDED), "open").streams
    assert [streams[name].schema.name for name in ("wholes", "many")] == ["whole", "items"]
    assert not streams["wholes"].hint


SOURCE = """
MAP(BPF_MAP_TYPE_RINGBUF, rb);
struct NAME { void *next, *prev; };
__attribute__((noinline)) int visible(struct NAME *p) { return p && p->next != 0; }
SEC("raw_tp/sys_enter") int f(void *ctx) {
    char sent[16] = {}; sent[3] = visible(0); bpf_ringbuf_output(&rb, sent, sizeof sent, 0); return 0; }
"""


@pytest.mark.parametrize(("name", "found"), [("list_head", None), ("my_own_pair", "my_own_pair")])
def test_leaves_structs_of_the_kernel_alone(bpf, tmp_path, name, found):
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("the kernel has no BTF")
    (tmp_path / "y.o").write_bytes(bpf(SOURCE.replace("NAME", name)))
    subprocess.run(["llvm-strip", "-g", tmp_path / "y.o"], check=True)
    data = (tmp_path / "y.o").read_bytes()
    type_ = event_types(data, ["rb"], Btf(elf.section(data, ".BTF")), {})["rb"].type
    assert getattr(type_, "name", None) == found
