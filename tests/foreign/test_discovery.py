# SPDX-License-Identifier: BSD-2-Clause
"""What the buffers of programs that nobody here wrote turn out to carry."""

import pytest

from eunomia.kernel import elf
from eunomia.kernel.btf import Btf
from eunomia.kernel.errors import BadSetting
from eunomia.kernel.foreign import bytecode
from eunomia.kernel.foreign.discover import event_types
from eunomia.kernel.types import Int, sizeof, strip

BUFFERS = {
    "bootstrap": {"rb": "event"},
    "hello_perf": {"output": "data_t"},
    "uprobe": {"allocs": "alloc_t"},
    "raw_output": {"calls": "syscall_record"},
    "unused_pointer": {"events": "event"},
    "several_rings": {"forks": "fork_event", "exits": "exit_event", "opens": "open_event"},
    "shapes": {"seen": "shapes"},
    "scratch_heap": {"events": "event"},
    "vmlinux_exec": {"rb": "exec_info"},
}


@pytest.fixture
def discover(compiled):
    def discover_(name, buffers, overrides=None, **how):
        data = compiled(name, **how).read_bytes()
        elf.check(data, name)
        return event_types(data, buffers, Btf(elf.section(data, ".BTF")), overrides or {})

    return discover_


@pytest.mark.parametrize("name", BUFFERS)
@pytest.mark.parametrize("flags", [(), ("-gdwarf-4",), ("-O1",), ("-O3", "-mcpu=v3")], ids=" ".join)
def test_finds_the_struct_of_every_buffer(discover, name, flags):
    found = discover(name, list(BUFFERS[name]), flags=flags)
    assert {b: f.type.name for b, f in found.items()} == BUFFERS[name]
    for one in found.values():
        assert one.type.name in one.how
        assert one.hint == ""
        assert not one.by_size


@pytest.mark.parametrize(
    ("name", "buffer", "struct"), [("unused_pointer", "events", "event"), ("scratch_heap", "events", "event")]
)
def test_needs_no_dwarf_where_btf_says_it(discover, name, buffer, struct):
    assert discover(name, [buffer], strip=True)[buffer].type.name == struct


@pytest.mark.parametrize(
    ("name", "buffer", "size"),
    [
        ("bootstrap", "rb", 168),
        ("vmlinux_exec", "rb", 32),
        ("raw_output", "calls", 24),
        ("shapes", "seen", 72),
    ],
)
def test_guesses_no_struct_that_merely_has_the_size(discover, name, buffer, size):
    """A map's value and the kernel's structs are in the stripped object's BTF, the event is not."""
    found = discover(name, [buffer], strip=True)[buffer]
    assert found.type is None
    assert found.size == size
    assert str(size) in found.how
    assert "__type(value, struct" in found.hint


def test_does_not_take_a_scratch_buffers_variable_length_for_a_size(discover):
    found = discover("scratch_heap", ["events"])["events"]
    assert found.size is None
    assert sizeof(found.type) == 4120


def test_tells_records_of_several_types_apart_by_length(discover):
    found = discover("multi_type", ["records"])["records"]
    assert {size: type_.name for size, type_ in found.by_size.items()} == {24: "started", 32: "stopped"}
    assert found.size is None


@pytest.mark.parametrize("strip_", [False, True])
def test_takes_plain_numbers_for_what_they_are(discover, strip_):
    found = discover("sizes_only", ["pids", "times"], strip=strip_)
    for buffer, size in (("pids", 4), ("times", 8)):
        number = strip(found[buffer].type)
        assert isinstance(number, Int)
        assert (number.size, number.signed) == (size, False)


def test_says_what_to_add_where_nothing_can_be_known(discover):
    found = discover("unknowable", ["blobs"])["blobs"]
    assert found.type is None
    assert "--event blobs=header" in found.hint
    assert "varies" in found.how


def test_believes_the_user_above_all(discover):
    for wanted in ("header", "struct header"):
        assert discover("unknowable", ["blobs"], {"blobs": wanted})["blobs"].type.name == "header"
    found = discover("unused_pointer", ["events"], {"events": "lookalike"})["events"]
    assert found.type.name == "lookalike"
    assert discover("unknowable", ["blobs"], {"blobs": "__u64"})["blobs"].size == 8


def test_says_which_struct_may_have_been_meant(discover):
    with pytest.raises(BadSetting, match=r"blobs=heder.*did you mean header\?.*there are: header"):
        discover("unknowable", ["blobs"], {"blobs": "heder"})


def test_says_which_buffer_may_have_been_meant(discover):
    with pytest.raises(BadSetting, match=r"--event blob:.*did you mean blobs\?"):
        discover("unknowable", ["blobs"], {"blob": "header"})


def test_reads_every_shape_of_a_member_from_dwarf(discover):
    type_ = discover("shapes", ["seen"])["seen"].type
    members = {m.name: m for m in type_.members}
    assert members["verdict"].type.names == {0: "ALLOW", 7: "DENY", 9: "ASK"}
    assert [(members[n].bit_offset, members[n].bits) for n in ("urgent", "level", "delta")] == [
        (96, 1),
        (97, 3),
        (100, 5),
    ]
    assert members["delta"].type.signed
    assert members["from"].type.members[0].type.name == "ipv4_t"
    assert members[""].type.members[1].type.boolean
    assert members["raw"].type.union
    grid = members["grid"].type
    assert (grid.length, grid.element.length, strip(grid.element.element).size) == (2, 3, 2)
    assert members["where"].type.size == 8
    assert members["comm"].type.element.char


def test_uses_tell_working_memory_from_results_and_settings(compiled):
    def uses(name):
        return bytecode.uses(compiled(name).read_bytes())

    assert uses("bootstrap")["exec_start"].deletes
    assert uses("uprobe")["inflight"].deletes
    for name, map_ in [("hello_map", "counter_table"), ("percpu", "total"), ("histograms", "dist")]:
        use = uses(name)[map_]
        assert use.lookups
        assert use.writes
        assert not use.deletes


def test_a_program_without_buffers_asks_nothing_of_its_bytes(compiled):
    data = compiled("minimal").read_bytes()
    assert event_types(data, [], Btf(elf.section(data, ".BTF")), {}) == {}
