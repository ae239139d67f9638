# SPDX-License-Identifier: BSD-2-Clause
"""A histogram is of powers of two where the code takes them, and linear where it does not."""

import pytest

from eunomia.kernel.errors import BadSetting
from eunomia.kernel.spec import Spec

LOOP = """static __u32 step(__u64 v) { __u32 r = 0; for (int i = 0; i < 63 && v > 1; i++) { v >>= 1; r++; } return r; }"""
STEPS = """static __always_inline __u32 step(__u32 v) {
    __u32 shift, r;
    r = (v > 0xFFFF) << 4; v >>= r; shift = (v > 0xFF) << 3; v >>= shift; r |= shift;
    shift = (v > 0xF) << 2; v >>= shift; r |= shift; shift = (v > 0x3) << 1; v >>= shift; r |= shift; return r | v >> 1; }"""
PLAIN = "static __always_inline __u32 step(__u64 v) { return v; }"
DIVIDED = "static __always_inline __u32 step(__u64 v) { return v / 1000; }"

PROGRAM = """
struct hist { __u32 slots[16]; };
TABLE(BPF_MAP_TYPE_HASH, m, __u32, struct hist);
SEC("tp_btf/sched_switch") int f(void *ctx) { __u32 k = 0, i = step(bpf_ktime_get_ns());
    struct hist *h = bpf_map_lookup_elem(&m, &k); if (h && i < 16) __sync_fetch_and_add(&h->slots[i], 1); return 0; }
"""


@pytest.mark.parametrize(
    ("code", "scale"),
    [(LOOP, "log2"), (STEPS, "log2"), (PLAIN, "linear"), (DIVIDED, "linear")],
    ids=["loop", "steps", "plain", "divided"],
)
@pytest.mark.parametrize("cpu", ["-mcpu=v2", "-mcpu=v3"])
def test_the_code_says_of_which_scale_a_histogram_is(bpf, code, scale, cpu):
    stream = Spec(bpf(code + PROGRAM, cpu), "x").streams["m"]
    assert stream.schema.fields["slots"].scale == scale
    assert ("drawn by index" in stream.hint) == (scale == "linear")


def test_a_name_says_more_than_the_code(bpf):
    found = Spec(bpf((LOOP + PROGRAM).replace("slots", "slots_linear")), "x").streams["m"]
    assert found.schema.fields["slots_linear"].scale == "linear"
    assert not found.hint


def test_the_user_says_more_than_either(bpf):
    spec = Spec(bpf(PLAIN + PROGRAM), "x")
    spec.choose_scales({"m.slots": "log2"})
    assert spec.streams["m"].schema.fields["slots"].scale == "log2"
    assert not spec.streams["m"].hint


@pytest.mark.parametrize(
    ("word", "scale", "said"),
    [("m.slots", "log10", "'log10' is neither log2 nor linear"), ("m.key", "log2", "no array of numbers called 'key'")],
)
def test_refuses_what_cannot_be_drawn_so(bpf, word, scale, said):
    with pytest.raises(BadSetting, match=said):
        Spec(bpf(PLAIN + PROGRAM), "x").choose_scales({word: scale})
