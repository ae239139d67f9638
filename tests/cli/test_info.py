# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia info`` shows what an object says of itself, to anybody."""

import json

import pytest

from eunomia import tracker
from eunomia.source import open_source

NAMES = [found.name for found in tracker.every()]


@pytest.fixture
def told(eunomia):
    def tell(*words, **options):
        done = eunomia("info", *words, "-o", "json", **options)
        assert done.code == 0, done.err
        return json.loads(done.out)

    return tell


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_a_tracker_is_shown_with_its_doc(eunomia, name):
    out = " ".join(eunomia("info", name).out.split())
    spec = open_source(name).spec
    for stream in spec.streams.values():
        assert f"stream {stream.name}:" in out
        for field in stream.schema.fields.values():
            assert f" {field.name} {field.ctype} " in out
            assert field.doc in out
    spec.close()


@pytest.mark.parametrize("name", NAMES)
def test_it_needs_no_rights(eunomia, name):
    done = eunomia("info", name, nobody=True)
    assert (done.code, done.err) == (0, "")
    assert f"{name}: {tracker.find(name).tracker.title}" in done.out


def test_programs_are_shown_with_hooks_and_variants(told):
    programs = {p["name"]: p for p in told("process")["programs"]}
    assert programs["on_exec"] == {
        "name": "on_exec", "section": "raw_tp/sched_process_exec", "variants": ["raw_tp"],
    }  # fmt: skip
    assert programs["on_failed_exec"]["section"].startswith("syscall_exit/execve:")


def test_settings_maps_and_the_origin_of_the_type_are_shown(told, eunomia, compiled):
    path = compiled()
    facts = told(path)
    assert facts["settings"] == [{"name": "wanted_uid", "type": "__u32", "default": 7, "doc": "", "constant": True}]
    assert facts["maps"] == [
        {"name": "seen", "type": "hash", "key_size": 4, "value_size": 8, "max_entries": 7, "chosen": ""}
    ]
    assert facts["streams"][0]["type_from"] == "the map's __type(value, ...)"
    assert "wanted_uid" in eunomia("info", path).out


def test_what_all_trackers_share_is_not_listed_as_a_trackers_own(told):
    facts = told("process")
    assert not [s for s in facts["settings"] if s["name"].startswith("eunomia_")]
    assert not [m for m in facts["maps"] if m["name"].startswith(("eunomia_", "ledger_"))]


def test_the_filters_that_apply_are_shown(told, compiled):
    assert told("process")["streams"][0]["filters"][0] == "--pid"
    filters = told(compiled())["streams"][0]["filters"]
    assert "--pid" in filters
    assert "--container" in filters
    assert "--uid" not in filters, "its records hold none"


def test_event_says_what_a_buffer_carries(told, compiled):
    from tests.cli.conftest import GOOD

    path = compiled(GOOD + "struct other { __u64 a; }; struct other *keep;")
    facts = told(path, "--event", "events=other")
    assert [f["name"] for f in facts["streams"][0]["schemas"][0]["fields"]] == ["a", "rest"]


TWO = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
struct one { __u32 type, pid; __u64 a; }; struct two { __u32 type, %s; __u64 b; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
#define SEND(S, N) struct S *e = bpf_ringbuf_reserve(&rb, sizeof *e, 0); if (!e) return 0; \\
    __builtin_memset(e, 0, sizeof *e); e->type = N; bpf_ringbuf_submit(e, 0); return 0;
SEC("tp_btf/sched_switch") int f(void *ctx) { SEND(one, 1) }
SEC("tp_btf/sched_waking") int g(void *ctx) { SEND(two, 2) }
"""


@pytest.mark.parametrize(
    ("member", "lines"),
    [
        ("pid", ["container: by pid, which may be a thread"]),
        ("x", ["container: one: by pid, which may be a thread",
               "container: two: unknown: there is no cgroup id and no process id"]),
    ],
)  # fmt: skip
def test_whose_a_row_is_is_told_of_each_struct(eunomia, compiled, member, lines):
    out = eunomia("info", compiled(TWO % member)).out
    assert [line.strip() for line in out.splitlines() if "container: " in line] == lines


def test_hidden_fields_are_marked(eunomia):
    line = next(line for line in eunomia("info", "process").out.splitlines() if " mnt_ns " in line)
    assert "(hidden in tables)" in line


def test_names_from_a_hostile_object_cannot_reach_the_terminal(eunomia, compiled):
    from tests.cli.conftest import GOOD

    tag = '__attribute__((btf_decl_tag("doc:\\033[2J\\nforged")))'
    path = compiled(GOOD.replace("__u32 pid;", f"__u32 pid {tag};"))
    done = eunomia("info", path)
    assert "\x1b" not in done.out
    assert r"\x1b[2J\nforged" in done.out


@pytest.mark.parametrize("name", NAMES)
def test_the_json_schema_describes_the_rows_that_are_written(told, name):
    from eunomia.batch import Batch
    from eunomia.sinks.columns import own_columns

    spec = open_source(name).spec
    streams = {s["name"]: s["json_schema"] for s in told(name)["streams"]}
    for stream in spec.streams.values():
        described = streams[stream.name]
        own = own_columns(stream.schema)
        assert list(described["properties"]) == [
            "time",
            "tracker",
            "stream",
            *own,
            "container",
            "pod",
            "identity",
        ]
        batch = Batch(stream.schema, bytes(stream.schema.size))
        for field in own:
            _fits(batch.values(field)[0], described["properties"][field])
    spec.close()


_TYPES = {
    "integer": int,
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "number": (int, float),
    "null": type(None),
}


def _fits(value, described):
    if "anyOf" in described:
        assert any(value in d.get("enum", [value]) for d in described["anyOf"])
        return
    types = described["type"] if isinstance(described["type"], list) else [described["type"]]
    assert any(isinstance(value, _TYPES[name]) for name in types)
    if isinstance(value, list):
        for element in value:
            _fits(element, described["items"])


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_row_fits_the_schema(told, name):
    from eunomia.cli.json_schema import example

    spec = open_source(name).spec
    for facts, stream in zip(told(name)["streams"], spec.streams.values(), strict=True):
        row = example(stream.schema, name, stream.name)
        described = facts["json_schema"]
        assert set(described["required"]) <= set(row) <= set(described["properties"])
        for field in facts["schemas"][0]["fields"]:
            if field["name"] in row:
                _fits(row[field["name"]], described["properties"][field["name"]])
    spec.close()
