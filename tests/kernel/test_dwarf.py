# SPDX-License-Identifier: BSD-2-Clause
"""DWARF and BTF of one struct say the same, since it is the same struct."""

import pytest

from eunomia.kernel import elf
from eunomia.kernel.btf import Btf
from eunomia.kernel.foreign.dwarf import Dwarf

SOURCE = """
typedef __u32 ipv4_t;
typedef struct { int x; } anonymous_t;
enum big { NONE, SOME = 4, ALSO = 4 };
enum minus { LESS = -1, MORE = 1 };
struct node { struct node *next; struct node *(*f)(struct node *); };
union either { __u64 a; char b[8]; };
struct __attribute__((packed)) tight { char c; __u64 wide; _Bool yes; };
struct all {
    char c; signed char sc; unsigned char uc; short s; unsigned short us; int i; unsigned u; long l;
    unsigned long ul;
    __int128 huge; _Bool b; double d; float f; enum big e;
    unsigned b1 : 1, b2 : 7, b3 : 20; long b4 : 40; int : 0; signed b5 : 3;
    char text[16]; int matrix[2][3][4]; ipv4_t ip; struct node node; union either either; anonymous_t typed;
    struct { int inner; union { int deep; }; }; const volatile int cv; void *p; struct tight tight;
    ipv4_t ips[2];
    int documented __attribute__((btf_decl_tag("doc:says what")));
    char rest[];
};
const struct all *unused_all;
const struct node *unused_node;
static __always_inline int inlined(struct node *passed) {
    struct tight hidden = {.c = 1};
    bpf_trace_printk(&hidden.c, 1);
    return passed != 0; }
SEC("tp/x/y") int f(void *ctx) { struct node local = {}; int n = 0; { long scoped = bpf_ktime_get_ns();
    enum minus minus = LESS; n = minus + inlined(&local) + scoped; } bpf_trace_printk((void *)&local, 8);
    return n; }
"""


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_dwarf_says_what_btf_says(bpf, version):
    data = bpf(SOURCE, version)
    by_btf = {s.name: s for s in Btf(elf.section(data, ".BTF"), elf.has_our_types(data)).structs()}
    by_dwarf = {s.name: s for s in Dwarf(data).structs()}
    assert by_btf["node"] == by_dwarf["node"]
    for ours, theirs in zip(by_dwarf["all"].members, by_btf["all"].members, strict=True):
        assert ours == theirs
    assert by_btf["all"] == by_dwarf["all"]


def test_finds_variables_of_blocks_and_of_what_was_inlined(bpf):
    found = {
        v.name: (getattr(v.type, "name", ""), v.pointer, v.parameter) for v in Dwarf(bpf(SOURCE)).locals("f")
    }
    assert found["local"] == ("node", False, False)
    assert found["scoped"] == ("long", False, False)
    assert found["minus"] == ("minus", False, False)
    assert found["hidden"] == ("tight", False, False)
    assert found["passed"] == ("node", True, True)
    (minus,) = [v.type for v in Dwarf(bpf(SOURCE)).locals("f") if v.name == "minus"]
    assert (minus.signed, minus.names) == (True, {-1: "LESS", 1: "MORE"})
    assert Dwarf(bpf(SOURCE)).locals("no_such_function") == []


def test_says_which_file_a_type_comes_from(bpf):
    files = {d.name: d.file for d in Dwarf(bpf(SOURCE)).declared()}
    assert files["node"].endswith("/x.bpf.c")
    assert files["__u64"].startswith("/usr/include/")


def test_an_object_without_dwarf_has_no_types(bpf):
    data = bpf('SEC("tp/x/y") int f(void *c) { return 0; }', "-g0")
    assert list(Dwarf(data).structs()) == []
    assert Dwarf(data).locals("f") == []
