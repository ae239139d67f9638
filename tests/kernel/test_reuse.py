# SPDX-License-Identifier: BSD-2-Clause
"""An object that replaces another goes on with the maps that hold what its programs expect, and with no other."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests import needs
from tests.kernel import compiled

from eunomia.kernel.errors import MapChanged
from eunomia.kernel.loaded import Loaded


@pytest.fixture(autouse=True)
def _as_root():
    needs.root()


OURS = """
#include <eunomia/probe.h>
const volatile __u32 target = 0;
struct key { __u32 a; __u32 b; };
struct value { __u64 calls; char name[8]; };
struct event { time_ns_t time; __u32 calls; };
struct other { time_ns_t time; };
enum side { LEFT = 1, RIGHT };
STREAM(seen, struct event, 4096);
STREAM(others, struct other, 4096);
TABLE(counts, __u32, struct value, 64);
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64);
		__type(key, struct key); __type(value, struct value); } state SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC);
		__type(key, int); __type(value, enum side); } sides SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2);
		__type(key, __u32); __type(value, __u32); } tails SEC(".maps");
__u64 calls = 0;
__u32 limit = 5;
__u32 step SEC(".data.step") = 1;

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct value value = {};
	struct key key = { 1, 2 };
	struct event event = {};
	struct other other = {};
	void *table;
	__u32 zero = 0;

	if (bpf_get_current_pid_tgid() >> 32 != target)
		return 0;
	calls += step;
	event.time = bpf_ktime_get_ns();
	event.calls = calls + limit;
	value.calls = calls;
	bpf_map_update_elem(&state, &key, &value, 0);
	bpf_task_storage_get(&sides, bpf_get_current_task_btf(), &(enum side){ RIGHT }, 1);
	table = bpf_map_lookup_elem(&counts, &zero);
	if (table)
		bpf_map_update_elem(table, &zero, &value, 0);
	stream_output(seen, &event, sizeof(event));
	stream_output(others, &other, sizeof(other));
	bpf_tail_call(ctx, &tails, 0);
	return 0;
}
"""
ME = {"target": os.getpid()}
ALL = {"seen", "ledger_seen", "others", "ledger_others", "counts", "counts_a", "counts_b", "ledger_counts",
       "state", "sides", "eunomia_cgroups", "eunomia_pids", "eunomia_uids", "eunomia_comms"}  # fmt: skip


@contextmanager
def both(before: str, after: str, **options) -> Iterator[tuple[Loaded, Loaded]]:
    """Load the one, and the other in its place."""
    with (
        Loaded(compiled.spec(before), set_=ME if "target" in before else {}) as one,
        Loaded(compiled.spec(after), set_=ME if "target" in after else {}, before=one, **options) as other,
    ):
        yield one, other


def held(live: Loaded, name: str, key: bytes, form: str) -> tuple[int, ...]:
    """Return what a map holds under a key."""
    return struct.unpack_from(form, live.maps[name].lookup(key) or b"")


def changed(*replacements: tuple[str, str], of: str = OURS) -> str:
    for was, is_ in replacements:
        assert was in of
        of = of.replace(was, is_)
    return of


def test_an_object_goes_on_with_all_maps_but_those_of_programs():
    with both(OURS, changed(("event = {}", "event = { .calls = 1 }"))) as (_, new):
        assert new.kept == ALL


def test_what_the_old_programs_have_written_the_new_ones_find():
    with both(OURS, OURS) as (old, new):
        old.attach()
        os.getppid()
        os.getppid()
        old.detach()
        new.attach()
        os.getppid()
        (first, second, third) = [r.calls for r in new.readers["seen"].drain()[0].rows()]
        assert (first, second, third) == (6, 7, 8)  # `calls` in .bss and `limit` in .data are the old ones
        assert held(new, "state", struct.pack("=II", 1, 2), "=Q") == (3,)
        assert new.count("seen")[:2] == (3, 0)
        assert new.readers["others"].drain()[0].count == 3


@pytest.mark.parametrize(
    ("was", "is_", "anew"),
    [
        ("time_ns_t time; __u32 calls; }", "time_ns_t time; __u32 calls; __u32 more; }", "seen"),
        ("STREAM(seen, struct event, 4096)", "STREAM(seen, struct event, 8192)", "seen"),
        ("struct other { time_ns_t time; }", "struct other { time_ns_t time; __u64 x; }", "others"),
        ("TABLE(counts, __u32, struct value, 64)", "TABLE(counts, __u32, struct value, 128)", "counts"),
    ],
)
def test_a_stream_of_another_struct_or_size_begins_anew_with_its_account(was, is_, anew):
    with both(OURS, changed((was, is_))) as (_, new):
        begun = {anew, f"ledger_{anew}", *([f"{anew}_a", f"{anew}_b"] if anew == "counts" else [])}
        assert new.kept == ALL - begun


@pytest.mark.parametrize(
    ("was", "is_", "member", "before", "after"),
    [
        ("__u32 b; }", "__u64 b; }", "key.b", "__u32 at byte 4", "__u64 at byte 8"),
        ("__u32 a; __u32 b;", "__u32 b; __u32 a;", "key.a", "__u32 at byte 0", "__u32 at byte 4"),
        ("struct key { __u32 a;", "struct key { __s32 a;", "key.a", "__u32", "__s32"),
        ("__u32 a; __u32 b; }", "__u32 a; __u32 c; }", "key.b", "__u32 at byte 4", "not there"),
        ("__u32 a; __u32 b; }", "__u32 a; __u32 b; __u32 c; }", "key.c", "not there", "__u32 at byte 8"),
        ("key { __u32 a; __u32 b; }", "key { __u32 a; __u32 b : 4; }", "key.b", "__u32 at byte 4",
         "__u32 : 4 at bit 32"),
        ("LEFT = 1, RIGHT", "MIDDLE = 1, RIGHT", "value", "enum side with LEFT = 1", "enum side with MIDDLE = 1"),
        ("__type(value, enum side)", "__type(value, __u64)", "value", "enum side", "__u64"),
        ("BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_LRU_HASH", "", "a map of type hash", "of type lru_hash"),
        ("BPF_MAP_TYPE_HASH); __uint(max_entries, 64)", "BPF_MAP_TYPE_HASH); __uint(max_entries, 65)",
         "max_entries", "64", "65"),
        ("BPF_MAP_TYPE_HASH);", "BPF_MAP_TYPE_HASH); __uint(map_flags, BPF_F_NO_PREALLOC);", "map_flags", "0x0", "0x1"),
    ],
)  # fmt: skip
def test_a_map_that_differs_is_refused_by_its_name_its_member_and_both_forms(was, is_, member, before, after):
    with pytest.raises(MapChanged) as refused, both(OURS, changed((was, is_))):
        pass
    error = refused.value
    assert error.map == ("sides" if before.startswith("enum side") else "state")
    assert (error.member, error.before, error.after) == (member, before, after)
    assert error.map in str(error)
    assert member in str(error)


def test_a_map_that_differs_begins_empty_where_that_is_asked_for():
    source = changed(("__u32 b; }", "__u64 b; }"))
    with both(OURS, source, fresh_maps=True) as (old, new):
        assert new.kept == ALL - {"state"}
        old.maps["state"].update(struct.pack("=II", 1, 2), bytes(16))
        new.attach()
        os.getppid()
        assert held(new, "state", struct.pack("=IxxxxQ", 1, 2), "=Q") == (1,)


def test_other_names_of_types_are_no_difference():
    source = changed(
        ("struct key { __u32 a; __u32 b; }", "typedef unsigned int number; struct key2 { number a; unsigned b; }"),
        ("struct key)", "struct key2)"), ("struct key key", "struct key2 key"),
        ("LEFT = 1, RIGHT", "LEFT = 1, RIGHT, BOTH"),
    )  # fmt: skip
    with both(OURS, source) as (_, new):
        assert new.kept >= {"state", "sides"}


def test_pointers_to_other_things_are_a_difference():
    source = changed(("struct value { __u64 calls;", "struct value { struct task_struct *calls;"))
    other = changed(("struct value { __u64 calls;", "struct value { struct file *calls;"))
    source, other = (s.replace("value.calls = calls", "value.calls = 0") for s in (source, other))
    with pytest.raises(MapChanged, match="pointer to file and was with a pointer to task_struct"), both(source, other):
        pass


# Global variables


def value_of(live: Loaded, section: str, form: str) -> tuple[int, ...]:
    return held(live, next(n for n in live.maps if n.endswith(section)), bytes(4), form)


def test_a_variable_keeps_its_value_beside_new_ones():
    with Loaded(compiled.spec(OURS), set_=ME) as old:
        old.attach()
        os.getppid()
        os.getppid()
        old.detach()
        source = changed(
            ("__u64 calls = 0;", "__u32 extra = 0; __u64 calls = 0;"), ("calls += step", "calls += step; extra++")
        )
        with Loaded(compiled.spec(source), set_=ME, before=old) as new:
            new.attach()
            os.getppid()
            rows = [row.calls for batch in new.readers["seen"].drain() for row in batch.rows()]
            assert rows[-1] == 3 + 5


def test_a_variable_that_begins_with_another_number_in_the_source_has_that():
    with Loaded(compiled.spec(OURS), set_=ME) as old:
        section = next(n for n in old.maps if n.endswith(".data.step"))
        old.maps[section].update(bytes(4), struct.pack("=I", 7))
        with Loaded(compiled.spec(OURS), set_=ME, before=old) as same:
            assert value_of(same, ".data.step", "=I") == (7,)
            source = changed(('SEC(".data.step") = 1', 'SEC(".data.step") = 3'))
            with Loaded(compiled.spec(source), set_=ME, before=same) as other:
                assert value_of(other, ".data.step", "=I") == (3,)
                assert value_of(same, ".data.step", "=I") == (7,)
                other.maps[section].update(bytes(4), struct.pack("=I", 9))
                with Loaded(compiled.spec(source), set_=ME, before=other) as again:
                    assert value_of(again, ".data.step", "=I") == (9,)


def test_a_setting_goes_on_until_another_is_given():
    with Loaded(compiled.spec(OURS), set_={**ME, "limit": 8}) as old:
        with Loaded(compiled.spec(OURS), set_={**ME, "limit": 8}, before=old) as same:
            assert value_of(same, "test.data", "=I") == (8,)
        with Loaded(compiled.spec(OURS), set_={**ME, "limit": 9}, before=old) as other:
            assert value_of(other, "test.data", "=I") == (9,)
            assert value_of(old, "test.data", "=I") == (8,)


# Objects of others

FOREIGN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u32 pid; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64);
		__type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8);
		__type(key, __u32); __type(value, __u64); } limits SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4); __type(key, __u32);
		__array(values, struct inner); } tables SEC(".maps");
SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
	struct event event = { bpf_get_current_pid_tgid() };
	__u64 one = 1, *limit = bpf_map_lookup_elem(&limits, &event.pid);

	bpf_map_update_elem(&counts, &event.pid, &one, 0);
	bpf_map_lookup_elem(&tables, &event.pid);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	if (limit && *limit)
		bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def test_an_object_of_others_goes_on_with_its_maps_too_and_reads_a_perf_buffer_of_its_own():
    with both(FOREIGN, FOREIGN) as (_, new):
        assert new.kept == {"events", "counts", "limits", "tables"}


def test_a_record_of_another_size_takes_a_new_ring():
    with both(FOREIGN, changed(("event { __u32 pid; }", "event { __u32 pid; __u32 x; }"), of=FOREIGN)) as (_, new):
        assert new.kept == {"counts", "limits", "tables"}
        assert "x" in new.readers["events"].schema.fields


def test_maps_in_maps_are_compared():
    source = changed(
        ("BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4)", "BPF_MAP_TYPE_ARRAY); __uint(max_entries, 5)"), of=FOREIGN
    )
    with pytest.raises(MapChanged) as refused, both(FOREIGN, source):
        pass
    assert (refused.value.map, refused.value.member) == ("tables", "values.max_entries")
    source = changed(
        ("__type(key, __u32); __type(value, __u64); };", "__type(key, __u32); __type(value, __s64); };"), of=FOREIGN
    )
    with pytest.raises(MapChanged) as refused, both(FOREIGN, source):
        pass
    assert (refused.value.map, refused.value.before, refused.value.after) == ("tables", "__u64", "__s64")


def test_sizes_that_the_user_gives_are_compared():
    with Loaded(compiled.spec(FOREIGN), map_sizes={"counts": 128}) as old:
        with pytest.raises(MapChanged, match="max_entries of map counts is 64 and was 128"):
            Loaded(compiled.spec(FOREIGN), before=old)
        with Loaded(compiled.spec(FOREIGN), before=old, map_sizes={"counts": 128}) as new:
            assert "counts" in new.kept
        with Loaded(compiled.spec(FOREIGN), before=old, map_sizes={"counts": 128}, ring_size=8192) as new:
            assert "events" not in new.kept


def test_an_entry_that_was_set_is_not_set_back():
    given = {"limits[7]": 1}
    with Loaded(compiled.spec(FOREIGN), set_=given) as old:
        key = struct.pack("=I", 7)
        old.maps["limits"].update(key, struct.pack("=Q", 5))
        with Loaded(compiled.spec(FOREIGN), set_=given, before=old) as new:
            assert held(new, "limits", key, "=Q") == (5,)
        with Loaded(compiled.spec(FOREIGN), set_={"limits[7]": 2}, before=old) as new:
            assert held(new, "limits", key, "=Q") == (2,)
