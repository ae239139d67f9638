# SPDX-License-Identifier: BSD-2-Clause
"""An array is a histogram where its type declares it, where the code counts powers of two in it, or by the user's word."""

import os

import pytest
from tests import needs
from tests.kernel import compiled

from eunomia.kernel import percpu
from eunomia.kernel.errors import BadObject, BadSetting
from eunomia.kernel.loaded import Loaded
from eunomia.kernel.spec import Spec
from eunomia.stream_schema import Scale

LOOP = "static INLINE __u32 step(__u64 v) { __u32 r = 0; for (int i = 0; i < 63 && v > 1; i++) { v >>= 1; r++; } return r; }"
UNROLLED = LOOP.replace("for (", '_Pragma("unroll") for (')
COUNTED = "static INLINE __u32 step(__u64 v) { __u32 r = 0; while (v >>= 1) r++; return r; }"  # by count of leading zeros
STEPS = """static INLINE __u32 halves(__u32 v) {
    __u32 shift, r;
    r = (v > 0xFFFF) << 4; v >>= r; shift = (v > 0xFF) << 3; v >>= shift; r |= shift;
    shift = (v > 0xF) << 2; v >>= shift; r |= shift; shift = (v > 0x3) << 1; v >>= shift; r |= shift; return r | v >> 1; }
static INLINE __u32 step(__u64 v) { __u32 high = v >> 32; return high ? halves(high) + 32 : halves(v); }"""

PLAIN = "static INLINE __u32 step(__u64 v) { return v; }"
DIVIDED = "static INLINE __u32 step(__u64 v) { return v / 1000; }"
NEXT = LOOP + "\n#define step(v) (step(v) + 1)\n"  # element i is for values from 2^(i-1), as bcc's bpf_log2l() has it
FINER = LOOP + "\n#define step(v) (step(v) * 2 + (v & 1))\n"
TENS = """static INLINE __u32 step(__u64 v) { __u32 r = 0; for (int i = 0; i < 19 && v > 9; i++) { v /= 10; r++; } return r; }"""

PROGRAM = """
struct hist { __u64 calls; __u32 NAME[16]; };
TABLE(KIND, m, __u32, struct hist);
TABLE(BPF_MAP_TYPE_HASH, began, __u32, __u64);
SEC("tp_btf/sched_switch") int f(void *ctx) {
    __u32 k = bpf_get_smp_processor_id(), i; __u64 *since, v;
    struct hist *h;
    since = bpf_map_lookup_elem(&began, &k);
    if (!since) return 0;
    v = (bpf_ktime_get_ns() - *since) / 1000;
    if ((__s64)v < 0) return 0;
    i = step(v);
    h = bpf_map_lookup_elem(&m, &k);
    if (!h) return 0;
    if (i >= 16) i = 15;
    ADD;
    h->calls++;
    return 0; }
"""
ATOMIC, PLUS = "__sync_fetch_and_add(&h->NAME[i], 1)", "h->NAME[i]++"


def program(code, name="slots", add=ATOMIC, kind="BPF_MAP_TYPE_HASH", inline="__attribute__((always_inline))"):
    return f"#define INLINE {inline}\n{code}{PROGRAM}".replace("ADD", add).replace("NAME", name).replace("KIND", kind)


def scale_of(bpf, source, *flags, name="slots"):
    return Spec(bpf(source, *flags), "x").streams["m"].schema.fields[name].scale


@pytest.mark.parametrize("code", [LOOP, UNROLLED, COUNTED, STEPS], ids=["loop", "unrolled", "counted", "steps"])
@pytest.mark.parametrize("cpu", ["-mcpu=v2", "-mcpu=v3"])
@pytest.mark.parametrize("inline", ["__attribute__((always_inline))", "__attribute__((noinline))"], ids=["inline", "function"])
@pytest.mark.parametrize("add", [ATOMIC, PLUS], ids=["atomic", "plain"])
def test_code_that_counts_by_the_highest_bit_makes_a_histogram_whatever_it_is_called(bpf, code, cpu, inline, add):
    found = scale_of(bpf, program(code, "x", add, inline=inline), cpu, name="x")
    assert found == Scale("log2", why="f counts numbers by their highest bit")


@pytest.mark.parametrize("code", [PLAIN, DIVIDED, NEXT, FINER, TENS], ids=["plain", "divided", "next", "finer", "tens"])
@pytest.mark.parametrize("cpu", ["-mcpu=v2", "-mcpu=v3"])
def test_an_array_that_is_only_called_a_histogram_is_none(bpf, code, cpu):
    stream = Spec(bpf(program(code), cpu), "x").streams["m"]
    assert stream.schema.fields["slots"].scale is None
    assert "slots is shown as a list: if it is a histogram, draw it by --histogram m.slots=log2 or linear" in stream.hint


def test_a_histogram_in_one_map_says_nothing_of_the_arrays_beside_it(bpf):
    two = """
struct two { __u32 by_cpu[16]; __u32 size[16]; __u64 hist[16]; };
TABLE(BPF_MAP_TYPE_PERCPU_ARRAY, m, __u32, struct two);
__u64 slots[32]; __u64 other_slots[32];
SEC("tp_btf/sched_switch") int f(void *ctx) { __u32 k = 0, cpu = bpf_get_smp_processor_id(), i = step(bpf_ktime_get_ns());
    struct two *t = bpf_map_lookup_elem(&m, &k); if (!t) return 0;
    if (cpu < 16) { t->by_cpu[cpu]++; t->hist[cpu]++; }
    if (cpu < 32) other_slots[cpu]++;
    if (i < 16) t->size[i]++;
    __sync_fetch_and_add(&slots[i & 31], 1); return 0; }
"""
    spec = Spec(bpf(f"#define INLINE __attribute__((noinline))\n{LOOP}{two}"), "x")
    drawn = {f"{s.name}.{f.name}" for s in spec.streams.values() for f in s.schema.fields.values() if f.scale}
    assert drawn == {"m.size", "bss.slots"}


def test_the_user_says_more_than_the_code(bpf):
    spec = Spec(bpf(program(PLAIN)), "x")
    spec.choose_scales({"m.slots": "log2"})
    assert spec.streams["m"].schema.fields["slots"].scale == Scale("log2", why="--histogram says so")
    assert not spec.streams["m"].hint
    spec = Spec(bpf(program(LOOP)), "x")
    spec.choose_scales({"m.slots": "linear"})
    assert spec.streams["m"].schema.fields["slots"].scale.kind == "linear"


@pytest.mark.parametrize(
    ("word", "scale", "said"),
    [("m.slots", "log10", "'log10' is neither log2 nor linear"), ("m.key", "log2", "no array of numbers called 'key'")],
)
def test_refuses_what_cannot_be_drawn_so(bpf, word, scale, said):
    with pytest.raises(BadSetting, match=said):
        Spec(bpf(program(PLAIN)), "x").choose_scales({word: scale})


DECLARED = """
#include <eunomia/probe.h>
struct sizes {
	hist_log2_t length[20] hist_unit("bytes") doc("how long they are");
	hist_linear_t depth[6] hist_unit("levels") hist_step(STEP);
	__u64 slots[20];
	hist_log2_t alone;
	hist_log2_t max_of[2][8];
};
TABLE(t, __u32, struct sizes, 64);
SEC("tracepoint/syscalls/sys_enter_getppid") int on_getppid(void *ctx)
{
	__u32 zero = 0;
	static struct sizes none;
	struct sizes *found;
	void *map = bpf_map_lookup_elem(&t, &zero);

	if (!map || bpf_get_current_pid_tgid() >> 32 != target)
		return 0;
	bpf_map_update_elem(map, &zero, &none, BPF_NOEXIST);
	found = bpf_map_lookup_elem(map, &zero);
	if (found) {
		found->length[3]++;
		found->depth[5]++;
	}
	return 0;
}
"""


def declared(step="10"):
    return DECLARED.replace("STEP", step).replace("struct sizes {", "const volatile __u32 target = 0;\nstruct sizes {", 1)


def test_the_type_declares_a_histogram_its_unit_and_its_step():
    fields = compiled.spec(declared()).streams["t"].schema.fields
    assert fields["length"].scale == Scale("log2", "bytes", 1, more=True, why="its type says so")
    assert fields["length"].doc == "how long they are"
    assert fields["depth"].scale == Scale("linear", "levels", 10, more=True, why="its type says so")
    assert [fields[name].scale for name in ("slots", "alone", "max_of")] == [None] * 3


def test_a_type_that_is_only_called_as_ours_declares_nothing(bpf):
    source = program(PLAIN).replace("__u32 slots[16]", "hist_log2_t slots[16]")
    assert scale_of(bpf, f"typedef __u64 hist_log2_t;\n{source}") is None


@pytest.mark.parametrize("step", ["0", "-3", "many", "1.5"])
def test_a_step_that_is_no_number_above_zero_is_refused(step):
    with pytest.raises(BadObject, match=r"depth: hist_step\(.*\) is not a whole number above 0"):
        compiled.spec(declared(step))


@pytest.mark.parametrize("name", ["max_latency", "last", "ids"])
def test_what_cpus_count_in_a_declared_histogram_is_summed_whatever_it_is_called(name):
    spec = compiled.spec(declared().replace("length", name))
    shape = spec.streams["t"].schema
    field = shape.fields[name]
    assert percpu.rule_of(field, "t") == percpu.SUM


def test_a_declared_histogram_is_filled_in_the_kernel_and_read():
    needs.root()
    with Loaded.attached(compiled.spec(declared()), set_={"target": os.getpid()}) as live:
        for _ in range(3):
            os.getppid()
        (batch,) = live.readers["t"].drain()
        assert batch.values("length")[0][:5] == [0, 0, 0, 3, 0]
        assert batch.values("depth")[0] == [0, 0, 0, 0, 0, 3]
        assert not live.readers["t"].drain()
