# SPDX-License-Identifier: BSD-2-Clause
"""What iterators write is read at each interval: lines of text, and structs."""

import os

import pytest

HEAD = """
#include <linux/types.h>
struct seq_file; struct bpf_iter_meta { struct seq_file *seq; __u64 session_id, seq_num; } __attribute__((preserve_access_index));
struct task_struct { int pid; int tgid; } __attribute__((preserve_access_index));
struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; } __attribute__((preserve_access_index));
struct bpf_map; struct bpf_iter__bpf_map_elem { struct bpf_iter_meta *meta; struct bpf_map *map; void *key; void *value; };
struct row { __u32 pid, tid; };
const struct row *unused __attribute__((unused));
"""
TASKS = HEAD + """
SEC("iter/task") int words(struct bpf_iter__task *ctx) {
    struct task_struct *t = ctx->task; if (!t) return 0;
    static const char f[] = "%d of %d\\nno end"; __u64 a[] = { t->pid, t->tgid };
    bpf_seq_printf(ctx->meta->seq, f, sizeof f, a, sizeof a); return 0; }
SEC("iter/task") int rows(struct bpf_iter__task *ctx) {
    struct task_struct *t = ctx->task; if (!t) return 0;
    struct row r = { t->tgid, t->pid }; bpf_seq_write(ctx->meta->seq, &r, sizeof r); return 0; }
"""
PIECES = 100  # lines a task: some hundred kilobytes in all, so more than one read
LONG = HEAD + f"""
SEC("iter/task") int many(struct bpf_iter__task *ctx) {{
    struct task_struct *t = ctx->task; if (!t) return 0;
    static const char f[] = "task %d, line %d of many, so that it takes more than one read\\n";
    for (int i = 0; i < {PIECES}; i++) {{
        __u64 a[] = {{ t->pid, i }}; bpf_seq_printf(ctx->meta->seq, f, sizeof f, a, sizeof a); }}
    return 0; }}
"""
MAP = HEAD + """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 9); __type(key, __u32); __type(value, __u64); }
    numbers SEC(".maps");
SEC("iter/bpf_map_elem") int entries(struct bpf_iter__bpf_map_elem *ctx) {
    __u32 *key = ctx->key; if (!key) return 0;
    static const char f[] = "entry %d\\n"; __u64 a[] = { *key };
    bpf_seq_printf(ctx->meta->seq, f, sizeof f, a, sizeof a); return 0; }
SEC("iter/bpf_map") int keep(void *ctx) { __u32 k = 0; return bpf_map_lookup_elem(&numbers, &k) == 0; }
"""


def test_lines_and_structs_of_all_tasks_are_rows(compiled, run):
    ended = run(compiled("it", TASKS), "-o", "json", "--duration", "100ms", "--interval", "1h")
    lines = [r["line"] for r in ended.rows if r["stream"] == "words"]
    assert f"no end{os.getpid()} of {os.getpid()}" in lines
    assert lines[-1] == "no end"
    rows = [r for r in ended.rows if r["stream"] == "rows"]
    assert {"pid": os.getpid(), "tid": os.getpid()}.items() <= next(r for r in rows if r["tid"] == os.getpid()).items()
    assert next(r for r in rows if r["tid"] == os.getpid())["identity"] != "unknown"
    for entry in ended.ledger.values():
        assert entry["emitted"] == entry["filtered"] + entry["delivered"] > 0


def test_each_interval_begins_anew(compiled, run):
    ended = run(compiled("it", TASKS), "-o", "json", "--streams", "rows", "--duration", "350ms", "--interval", "100ms")
    assert sum(r["tid"] == os.getpid() for r in ended.rows) >= 2
    assert {r["stream"] for r in ended.rows} == {"rows"}


def test_a_process_can_be_named(compiled, run):
    ended = run(compiled("it", TASKS), "-o", "json", "--streams", "rows", "--attach", f"rows={os.getpid()}",
                "--duration", "100ms", "--interval", "1h")  # fmt: skip
    assert {r["pid"] for r in ended.rows} == {os.getpid()}


def test_output_of_many_pieces_is_whole(compiled, run):
    ended = run(compiled("it", LONG), "-o", "json", "--duration", "100ms", "--interval", "1h")
    mine = [r["line"] for r in ended.rows if r["line"].startswith(f"task {os.getpid()},")]
    assert mine == [
        f"task {os.getpid()}, line {i} of many, so that it takes more than one read" for i in range(PIECES)
    ]
    assert all(r["line"].endswith("more than one read") for r in ended.rows)
    assert len(ended.rows) % PIECES == 0
    assert sum(len(r["line"]) for r in ended.rows) > 256 << 10


def test_the_entries_of_a_map_that_is_named_are_lines(compiled, run):
    ended = run(compiled("it", MAP), "-o", "json", "--streams", "entries", "--attach", "entries=numbers",
                "--duration", "100ms", "--interval", "1h")  # fmt: skip
    if ended.code and "programs of section iter/bpf_map_elem (operation not permitted)" in ended.err:
        pytest.skip("this kernel refuses iterators of maps' entries to everybody (EPERM)")
    assert [r["line"] for r in ended.rows] == [f"entry {i}" for i in range(9)]


@pytest.mark.parametrize(
    ("source", "said", "words"),
    [
        (MAP, ("--program", "entries"), "it iterates over the entries of a map: --attach entries=MAP (numbers)"),
        (MAP, ("--attach", "entries=nothing"), "the object has no map 'nothing'"),
        (TASKS, ("--attach", "rows=me"), "'me' is not a process id"),
        (MAP, ("--attach", "entries=numbers", "--attach", "keep=x"), "iterators of bpf_map take no target"),
    ],
)
def test_what_cannot_be_gone_through_is_refused(compiled, run, source, said, words):
    run(compiled("it", source), *said, "--duration", "100ms").refused(2, words)


def test_a_struct_that_does_not_fit_what_is_written_is_refused(compiled, run):
    source = TASKS.replace("struct row {", "struct wide { char odd[4099]; }; const struct wide *w;\nstruct row {")
    ended = run(compiled("it", source), "--streams", "rows", "--event", "rows=wide", "--duration", "100ms")
    assert ended.code == 1
    assert "bytes more than whole records of 4099: say which struct it is: --event rows=STRUCT" in ended.err
    assert "Traceback" not in ended.err


def test_an_iterator_without_its_map_is_left_out_where_other_programs_run(compiled, run):
    other = 'SEC("iter/task") int tasks(struct bpf_iter__task *ctx) { static const char f[] = "x\\n";\n'
    other += "    bpf_seq_printf(ctx->meta->seq, f, sizeof f, 0, 0); return 0; }\n"
    ended = run(compiled("it", MAP + other), "-o", "json", "--streams", "tasks", "--duration", "100ms",
                "--interval", "1h")  # fmt: skip
    assert {r["line"] for r in ended.rows} == {"x"}
    assert "entries is left out: it iterates over the entries of a map: --attach PROGRAM=MAP (numbers)" in ended.err
