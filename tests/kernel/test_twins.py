# SPDX-License-Identifier: BSD-2-Clause
"""Which programs of an object are alternatives for one event, and which only share a hook."""

import pytest
from tests.kernel import compiled

from eunomia.kernel.errors import BadSetting, KernelError
from eunomia.kernel.foreign import choice, twins
from eunomia.kernel.foreign.choice import Wish

HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
__u64 count, other, enabled;
static __always_inline int add(void) { __sync_fetch_and_add(&count, 1); return 0; }
static __always_inline int add_other(void) { if (enabled) __sync_fetch_and_add(&other, 1); return 0; }
static __always_inline int add_if(void) { if (enabled) __sync_fetch_and_add(&count, 1); return 0; }
"""


def spec_of(*programs):
    """Programs are pairs of a section and what it calls; they are named a, b, c and so on."""
    lines = [
        f'SEC("{section}") int {name}(void *ctx) {{ return {call}(); }}'
        for name, (section, call) in zip("abcdefgh", programs, strict=False)
    ]
    return compiled.spec(HEAD + "\n".join(lines))


def lost(*programs):
    spec = spec_of(*programs)
    return {name: better.name for name, better in twins.losers(spec.data, spec.programs).items()}


def test_of_one_tracepoint_the_best_kind_stays():
    assert lost(("tp/sched/sched_switch", "add"), ("raw_tp/sched_switch", "add"), ("tp_btf/sched_switch", "add")) == {
        "a": "c", "b": "c",
    }  # fmt: skip


def test_fentry_stays_before_kprobe_at_each_end_of_a_function():
    assert lost(
        ("kprobe/vfs_read", "add"), ("kretprobe/vfs_read", "add"), ("fentry/vfs_read", "add"), ("fexit/vfs_read", "add"),
    ) == {"a": "c", "b": "d"}  # fmt: skip


def test_fexit_stands_for_the_pair_of_kprobe_and_kretprobe():
    assert lost(("kprobe/f", "add"), ("kretprobe/f", "add"), ("fexit/f", "add")) == {"a": "c", "b": "c"}


def test_an_entry_and_a_return_of_two_kinds_are_a_pair_not_twins():
    assert lost(("fentry/f", "add"), ("kretprobe/f", "add")) == {}


def test_a_system_call_is_one_by_all_its_names():
    assert lost(
        ("ksyscall/openat", "add"), ("kprobe/__x64_sys_openat", "add"), ("tp/syscalls/sys_enter_openat", "add"),
        ("tp/syscalls/sys_exit_openat", "add"),
    ) == {"a": "c", "b": "c"}  # fmt: skip


def test_functions_that_were_renamed_are_one_where_the_code_is_the_same():
    assert lost(("fentry/__f_start", "add"), ("fentry/f_start", "add")) == {"a": "b"}
    assert lost(("fentry/mark_page_accessed", "add"), ("fentry/folio_mark_accessed", "add")) == {"a": "b"}
    assert lost(("fentry/__f_start", "add"), ("fentry/f_start", "add_other")) == {}


def test_two_programs_of_one_kind_on_one_hook_both_run():
    assert lost(("tp/sched/sched_switch", "add"), ("tp/sched/sched_switch", "add")) == {}


def test_programs_that_write_apart_are_not_twins_though_they_read_the_same():
    assert lost(("tp_btf/sched_switch", "add_if"), ("raw_tp/sched_switch", "add_other")) == {}


def test_hooks_of_different_events_have_no_twins():
    assert lost(("tp/sched/sched_switch", "add"), ("raw_tp/sched_wakeup", "add"), ("kprobe/sched_switch", "add")) == {}


def test_where_the_best_fails_the_next_is_chosen():
    spec = spec_of(("tp_btf/sched_switch", "add"), ("raw_tp/sched_switch", "add"), ("tp/sched/sched_switch", "add"))
    assert [p.name for p in choice.plan(spec, Wish()).run] == ["a"]
    chosen = choice.plan(spec, Wish(), {"a": KernelError("no")})
    assert ([p.name for p in chosen.run], str(chosen.left_out["a"])) == (["b"], "no")


def test_what_is_named_runs_twin_or_not():
    spec = spec_of(("tp_btf/sched_switch", "add"), ("raw_tp/sched_switch", "add"), ("?tp/sched/sched_switch", "add"))
    assert [p.name for p in choice.plan(spec, Wish(only=["a", "b"])).run] == ["a", "b"]
    assert [p.name for p in choice.plan(spec, Wish(only=["c"])).run] == ["c"]
    assert [p.name for p in choice.plan(spec, Wish(skip=["a"])).run] == ["b"]
    assert [p.name for p in choice.plan(spec, Wish(only=["[ab]"])).run] == ["a"]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(only=["x*"]), "--program: test has no program 'x*': it has a, b"),
        (Wish(skip=["x"]), "--skip-program: test has no program 'x'"),
        (Wish(targets={"x": ["lo"]}), "no program 'x'"),
        (Wish(skip=["a"], targets={"a": ["sched_switch"]}), "--skip-program leaves it out"),
        (Wish(targets={"a": ["sched_switch", "sched_wakeup"]}), "takes one target"),
    ],
)
def test_a_wish_for_what_is_not_there_is_refused(wish, words):
    spec = spec_of(("tp_btf/sched_switch", "add"), ("raw_tp/sched_switch", "add"))
    with pytest.raises(BadSetting, match=words.replace("*", r"\*")):
        choice.plan(spec, wish)


TAILS = """
int two(void *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
	__array(values, int(void *)); } tails SEC(".maps") = { .values = { [0] = (void *)&two } };
SEC("raw_tp/sys_enter") int two(void *ctx) { return add(); }
SEC("raw_tp/sys_enter") int one(void *ctx) { bpf_tail_call(ctx, &tails, 0); return 0; }
"""


def test_a_program_that_others_call_is_loaded_but_hangs_on_nothing():
    chosen = choice.plan(compiled.spec(HEAD + TAILS), Wish())
    assert ([p.name for p in chosen.run], [p.name for p in chosen.called]) == (["one"], ["two"])
