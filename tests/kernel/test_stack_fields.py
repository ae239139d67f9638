# SPDX-License-Identifier: BSD-2-Clause
"""Stacks of others are known by the names that they give them, and by what their code does."""

import ctypes
import os

import pytest

from eunomia.kernel import stacks
from eunomia.kernel.spec import Spec

SOURCE = """
struct event { %s; };
TABLE(BPF_MAP_TYPE_HASH, m, __u32, struct event);
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 8); __uint(key_size, 4);
    __uint(value_size, 127 * 8); } traces SEC(".maps");
SEC("tp_btf/sched_switch") int f(void *ctx) { __u32 k = 0; long id = bpf_get_stackid(ctx, &traces, %s);
    struct event *e = bpf_map_lookup_elem(&m, &k); if (e) *(int *)e = id; return 0; }
"""


@pytest.mark.parametrize(
    ("member", "flags", "meaning"),
    [
        ("int kern_stack_id", 0, "kstack"), ("int user_stack_id", 256, "ustack"), ("__s64 ustackid", 256, "ustack"),
        ("int waker_k_stack_id", 0, "kstack"), ("int prev_ustackid", 256, "ustack"), ("__u32 off_stack_id", 256, "ustack"),
        ("int stack_id", 0, "kstack"), ("int stackid", 256, "ustack"), ("__u64 stack[16]", 0, "stack"),
        ("int stack_size", 0, ""), ("char stack_id[8]", 0, "text"), ("__u64 counts[16]", 0, "array"),
    ],
)  # fmt: skip
def test_stacks_are_known_by_name_and_by_code(bpf, member, flags, meaning):
    shape = Spec(bpf(SOURCE % (member, flags)), "x").streams["m"].schema
    assert list(shape.fields.values())[1].meaning == meaning


TAGGED = """
struct one { __u32 type, pid; __u64 kstack[16]; }; struct two { __u32 type, pid; __u64 words[16]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
#define SEND(S, N) struct S *e = bpf_ringbuf_reserve(&rb, sizeof *e, 0); if (!e) return 0; \\
    __builtin_memset(e, 0, sizeof *e); e->type = N; bpf_ringbuf_submit(e, 0); return 0;
SEC("tp_btf/sched_switch") int f(void *ctx) { SEND(one, 1) }
SEC("tp_btf/sched_waking") int g(void *ctx) { SEND(two, 2) }
"""


def test_stacks_are_known_in_structs_that_a_field_tells_apart(bpf):
    (tag,) = Spec(bpf(TAGGED), "x").streams["rb"].tags.values()
    assert tag.schemas[1].fields["kstack"].meaning == "stack"
    assert tag.schemas[2].fields["words"].meaning == "array"


def test_frames_of_user_space_are_places_in_files_while_their_process_runs():
    address = ctypes.cast(ctypes.CDLL(None).getppid, ctypes.c_void_p).value
    shown = stacks.addresses([address, 0x10, 0, 5], os.getpid())
    first, second = shown.split(";")
    assert first.startswith("/")
    assert "libc" in first
    assert "+0x" in first
    assert second == "0x10"
    assert stacks.addresses([address], 0) == hex(address)
