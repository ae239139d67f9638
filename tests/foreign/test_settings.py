# SPDX-License-Identifier: BSD-2-Clause
"""What others' loaders set, by ``--set`` and ``--map-size``: seen by the program itself, in the kernel."""

import json
import os
import subprocess
import sys

import pytest

from eunomia.kernel.errors import BadSetting, KernelError
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.spec import Spec
from tests.kernel import compiled as compiling

root = pytest.mark.skipif(os.geteuid() != 0, reason="loading BPF programs takes root")
EUNOMIA = [sys.executable, "-c", "import sys; from eunomia.cli import main; sys.exit(main())"]
LICENSE = 'char LICENSE[] SEC("license") = "GPL";'
SIZES = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); } seen SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); } stacks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); } rb SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __type(key, __u32); __type(value, __u64); } cpus SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx) {
	__u32 key = bpf_get_current_pid_tgid() >> 32, zero = 0;
	__u64 one = bpf_get_stackid(ctx, &stacks, 0);
	bpf_map_update_elem(&seen, &key, &one, 0);
	bpf_map_lookup_elem(&cpus, &zero);
	bpf_perf_event_output(ctx, &perf, 0xffffffffULL, &one, 8);
	bpf_ringbuf_output(&rb, &one, 8, 0);
	return 0;
}
"""


def bpf(source):
    return compiling.bpf("#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n" + LICENSE + source)


def seen(path, set_):
    """What the program saw in a getppid() of ours."""
    with Loaded.attached(Spec.open(path), set_=set_) as live:
        os.getppid()
        for batch in live.readers["rb"].drain():
            for pid, *row in zip(*(batch.values(n) for n in batch.schema.fields), strict=True):
                if pid == os.getpid():
                    return dict(zip([*batch.schema.fields][1:], row, strict=True))
    raise AssertionError("no record")


@root
def test_all_that_is_set_is_what_the_program_sees(compiled):
    given = {
        "cfg.limits.low": "3", "cfg.limits.high": "0x100000000", "cfg.ports[2]": "443", "cfg.mode": "SLOW",
        "cfg.comm": "nginx", "cfg.narrow": "5", "cfg.wide": "300", "cfg.bytes[1]": "17", "huge": str(42 << 64),
        "target": "8", "apart": "9", "empty": "10", "fixed": "11", 'by_name["a=b].c"].high': "12",
        "by_flow[127.0.0.1,53]": "13", "by_index[1]": "1,14", "each_cpu[1]": "15", "prefixes[10.0.0.0/8]": "16",
        "tails[3]": "look",
    }  # fmt: skip
    assert seen(compiled("tunable"), given) == {
        "low": 3, "high": 1 << 32, "port": 443, "mode": 5, "comm": "nginx", "narrow": 5, "wide": 300, "second": 17,
        "huge_top": 42, "target": 8, "apart": 9, "empty": 10, "fixed": 11, "name_high": 12, "flow": 13, "index_high": 14,
        "cpu": 15, "prefix": 16,
    }  # fmt: skip


@root
def test_members_that_are_not_set_keep_their_defaults(compiled):
    row = seen(compiled("tunable"), {"cfg.limits.high": 5, "cfg.narrow": 1})
    assert (row["low"], row["high"], row["apart"], row["fixed"], row["narrow"], row["wide"]) == (1, 5, 7, 9, 1, 0)


@root
def test_a_struct_is_set_whole_by_its_members_names_or_in_their_order(compiled):
    assert seen(compiled("tunable"), {"cfg.limits": "{low=8, high=9}"})["high"] == 9
    assert seen(compiled("tunable"), {"cfg.limits": "8,10"})["high"] == 10


def test_info_lists_all_that_can_be_set_with_its_default_and_type(compiled):
    done = subprocess.run([*EUNOMIA, "info", compiled("tunable"), "-o", "json"], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    listed = {s["name"]: (s["type"], s["default"], s["constant"]) for s in facts["settings"]}
    assert listed["cfg.limits.high"] == ("__u64", 2, True)
    assert listed["cfg.ports"] == ("__u16[4]", [22, 80, 0, 0], True)
    assert listed["cfg.mode"] == ("enum mode", "OFF", True)
    assert listed["target"] == ("__u32", 0, False)
    assert listed["apart"] == ("__u32", 7, False)
    assert listed["empty"] == ("__u16", 0, False)
    assert {e["map"]: e["key"] for e in facts["entries"]}["prefixes"] == "10.0.0.0/8"
    words = subprocess.run([*EUNOMIA, "info", compiled("tunable")], capture_output=True, text=True, check=True).stdout
    assert all(name in words for name in ("cfg.limits.high", "by_flow[KEY]", "rb", "262,144 bytes"))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("cfg.limits.hi=1", "cfg.limits (struct limits) has no member 'hi': it has low, high"),
        ("cfg.ports[4]=1", "cfg.ports (__u16[4]): '4' is not between 0 and 3"),
        ("cfg.ports[2]=65536", "cfg.ports[2] (__u16): 65536 is not between 0 and 65535"),
        ("cfg.narrow=8", "(unsigned int : 3): 8 is not between 0 and 7"),
        ("cfg.limits=1", "1 values for its 2 members: low, high"),
        ("cfg.mode.x=1", "has no member 'x': it is not a struct"),
        ("target[0]=1", "target (__u32) has no elements: it is not an array"),
        ("nothing=1", "cfg.limits.low (__u32)"),
        ("by_index[4]=1,1", "map by_index: 4 is not between 0 and 3"),
        ("by_index[x].low=1", "map by_index: its keys are __u32: 'x' is not a number"),
        ("by_flow[1]=1", "map by_flow: its keys are struct flow {address, port}: 1 values for its 2 members: address, port"),
        ("by_flow=1", "no setting 'by_flow'"),
        ("by_flow[1,2", "is not of the form NAME=VALUE"),
        ("prefixes[10.0.0.0/33]=1", "/33 is not between /0 and /32"),
        ("prefixes[10.0.0/8]=1", "'10.0.0' is not an IPv4 address"),
        ("tails[0]=nobody", "there is no program 'nobody': there are look"),
        ("tunable.absent=1", "no setting 'tunable.absent'"),
    ],
)
@root
def test_what_cannot_be_set_so_is_wrong_usage(compiled, word, says):
    command = [*EUNOMIA, "run", compiled("tunable"), "--duration", "100ms", "--set", word]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


@root
def test_an_entry_too_many_is_wrong_usage_and_more_room_helps(compiled):
    five = {f"by_flow[127.0.0.1,{port}]": "1" for port in range(50, 55)}
    with pytest.raises(BadSetting, match="by_flow has room for 4 entries: raise --map-size"):
        seen(compiled("tunable"), five)
    with Loaded.attached(Spec.open(compiled("tunable")), set_=five, map_sizes={"by_flow": 5}):
        pass


def test_a_first_word_that_is_an_objects_name_means_the_object_where_it_has_the_rest(tmp_path):
    from eunomia.cli.settings import by_source
    from eunomia.source import open_source

    program = 'SEC("tp/syscalls/sys_enter_getppid") int f(void *c) { return one.x; }'
    struct = "volatile struct { int x; struct { int x; } one, two; } one;"
    paths = {"one": struct + program, "two": struct + program}
    for name, source in paths.items():
        (tmp_path / f"{name}.bpf.o").write_bytes(bpf(source))
    sources = [open_source(str(tmp_path / f"{name}.bpf.o")) for name in paths]
    assert by_source(sources, ["one.one.x=1"]) == {"one": {"one.x": "1"}, "two": {}}
    assert by_source(sources, ["one.x=1"]) == {"one": {"one.x": "1"}, "two": {"one.x": "1"}}
    assert by_source(sources, ["two.one.two.x=1"]) == {"one": {}, "two": {"one.two.x": "1"}}


@root
def test_maps_that_leave_their_size_to_a_loader_get_one_and_it_is_said(tmp_path):
    path = tmp_path / "open.bpf.o"
    path.write_bytes(bpf(SIZES))
    done = subprocess.run([*EUNOMIA, "run", path, "--duration", "200ms"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seen (10,240 entries)" in done.stderr
    assert "stacks (10,240 entries, 127 frames a stack)" in done.stderr
    assert "rb (262,144 bytes)" in done.stderr


@root
def test_the_size_that_a_user_gives_is_the_maps():
    with Loaded.attached(Spec(bpf(SIZES), "open"), map_sizes={"seen": 3, "rb": 8192}, ring_size=4096) as live:
        handle = live.maps["seen"]
        for i in range(3):
            handle.update(bytes([i, 0, 0, 1]), bytes(8))
        with pytest.raises(OSError, match="too long"):
            handle.update(bytes([9, 0, 0, 1]), bytes(8))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("seen=0", "'0' is not a whole number from 1"),
        ("rb=5000", "a ring's size in bytes is a power of two"),
        ("other=5", "there is no map 'other': there are stacks, seen"),
        ("seen", "is not of the form MAP=ENTRIES"),
    ],
)
@root
def test_a_size_that_no_map_can_have_is_wrong_usage(tmp_path, word, says):
    path = tmp_path / "open.bpf.o"
    path.write_bytes(bpf(SIZES))
    command = [*EUNOMIA, "run", path, "--duration", "100ms", "--map-size", word]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


@root
def test_a_map_without_a_size_of_values_is_the_objects_fault_not_the_kernels():
    source = SIZES.replace("__type(key, __u32); __type(value, __u64); } seen", "__type(key, __u32); } seen")
    with pytest.raises(KernelError, match="sets the size of its values") as refused:
        Loaded.attached(Spec(bpf(source), "open"))
    assert "not supported" not in str(refused.value)


@root
def test_a_map_without_keys_is_asked_for_the_size_of_its_values():
    source = 'struct { __uint(type, BPF_MAP_TYPE_QUEUE); } queue SEC(".maps");\n' + SIZES
    with pytest.raises(KernelError, match=r"map queue .* sets the size of its values"):
        Loaded.attached(Spec(bpf(source), "open"))


HELD = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32);
	__array(values, struct { __uint(type, %s); __type(key, int); __type(value, int); }); } outer SEC(".maps");
SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx) {
	__u32 zero = 0; return bpf_map_lookup_elem(&outer, &zero) != 0; }
"""


@root
def test_maps_in_maps_that_have_no_size_need_none():
    storage = "BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC"
    with Loaded.attached(Spec(bpf(HELD % storage), "held")) as live:
        assert "outer" in live.maps


@root
def test_maps_in_maps_that_declare_no_size_are_refused():
    with pytest.raises(KernelError, match="map outer: its inner maps declare no size"):
        Loaded.attached(Spec(bpf(HELD % "BPF_MAP_TYPE_HASH"), "held"))
