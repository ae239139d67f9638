# SPDX-License-Identifier: BSD-2-Clause
"""The command as users have it, and objects that are wrong in one way each."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

EUNOMIA = str(Path(sys.executable).parent / "eunomia")
UNKNOWN_PROCESS = 65534

GOOD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u32 pid; char comm[16]; };
struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event);
} events SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 7); __type(key, __u32); __type(value, __u64);
} seen SEC(".maps");
const volatile __u32 wanted_uid = 7;
char LICENSE[] SEC("license") = "GPL";
SEC("tp/sched/sched_process_exec") int on_exec(void *context)
{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    __u32 key = wanted_uid;
    if (!event)
        return 0;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_map_delete_elem(&seen, &key);
    bpf_ringbuf_submit(event, 0);
    return 0;
}
"""

REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64);
} counts SEC(".maps");
char LICENSE[] SEC("license") = "GPL";
SEC("tp/sched/sched_process_exec") int on_exec(void *context)
{
    __u32 key = 0;
    __u64 *count = bpf_map_lookup_elem(&counts, &key);
    *count += 1;
    return 0;
}
"""


class Done:
    """What a command wrote, and its exit code."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def one_line(self, code: int) -> str:
        """The error, which is one line, after nothing on stdout."""
        assert self.code == code, self.err
        assert self.out == ""
        assert self.err.startswith("eunomia: ")
        assert self.err.count("\n") == 1, self.err
        assert self.err.isprintable() or self.err[:-1].isprintable(), self.err
        return self.err.removeprefix("eunomia: ").removesuffix("\n")


@pytest.fixture
def eunomia():
    """eunomia("list", ...) -> Done; ``nobody=True`` runs it without any right."""

    def run(*words, nobody=False, cwd="/", environment=None, **options):
        who = {"user": UNKNOWN_PROCESS, "group": UNKNOWN_PROCESS, "extra_groups": []} if nobody else {}
        if nobody:
            needs.checkout_for_all(EUNOMIA, **who)
        environment = {k: v for k, v in os.environ.items() if k != "EUNOMIA_DEBUG"} | (environment or {})
        return Done(
            subprocess.run(
                [EUNOMIA, *map(str, words)], cwd=cwd, env=environment, text=True, check=False,
                timeout=60 * needs.PATIENCE, **({"capture_output": True} | options), **who,
            )
        )  # fmt: skip

    return run


@pytest.fixture
def compiled(tmp_path):
    """compiled(source, *flags) -> path of the object."""
    clang = needs.program("clang", "clang")

    def compile_(source=GOOD, *flags, target="bpf", name="mine.bpf.o"):
        path = tmp_path / name
        subprocess.run(
            [clang, "-O2", "-g", "-target", target, f"-I/usr/include/{platform.machine()}-linux-gnu",
             *flags, "-xc", "-", "-c", "-o", path],
            input=source, text=True, check=True,
        )  # fmt: skip
        return path

    return compile_
