# SPDX-License-Identifier: BSD-2-Clause
"""What a user can get wrong: one sentence, the right exit code, no rows, nothing left."""

import os
import shutil
from pathlib import Path

import pytest

from tests.run.conftest import alive, kernel_ids

NOTHING = 'SEC("tp/sched/sched_process_exec") int f(void *ctx) { return 0; }'
OUT_OF_BOUNDS = """
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
    m SEC(".maps");
SEC("tp/sched/sched_process_exec") int f(void *ctx)
{ __u32 k = 0; char *v = bpf_map_lookup_elem(&m, &k); return v ? v[64] : 0; }
"""
UNKNOWN_HELPER = """
static long (*nope)(void) = (void *)9999;
SEC("tp/sched/sched_process_exec") int f(void *ctx) { return nope(); }
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["proces"], "did you mean process?"),
        (["xyzzy"], "there are "),
        (["process", "process"], "named twice"),
        (["process", "--set", "foo=1"], "no setting 'foo'"),
        (["process", "--set", "foo"], "NAME=VALUE"),
        (["process", "--set", "eunomia_self=1"], "no setting"),
        (["process", "--event", "exec=task"], "--event"),
        (["process", "--attach", "nope=lo"], "no program 'nope'"),
        (["process", "--duration", "abc"], "--duration"),
        (["process", "--duration", "0"], "--duration"),
        (["process", "--duration=-1s"], "--duration"),
        (["process", "--duration", "9" * 400], "--duration"),
        (["process", "--interval", "0"], "--interval"),
        (["process", "--count", "0"], "--count"),
        (["process", "--count", "1.5"], "--count"),
        (["process", "--pid", "x"], "--pid"),
        (["process", "--pid", "-1"], "--pid"),
        (["process", "--pid", "4294967296"], "--pid"),
        (["process", "--pid", ",".join(map(str, range(1, 1026)))], "1024"),
        (["process", "--uid", "root"], "--uid"),
        (["process", "--uid", "²"], "--uid"),
        (["process", "--ring-size", "1x"], "--ring-size"),
        (["process", "--ring-size", "0"], "--ring-size"),
        (["process", "--ring-size", "2GiB"], "1GiB"),
        (["process", "--rotate", "1x", "--output", "/dev/null"], "--rotate"),
        (["process", "--rotate", "1MB"], "--rotate: only a file can be rotated"),
        (["process", "-o", "xml"], "there is no format 'xml'"),
        (["process", "-o", "json:"], "name the file after the colon"),
        (["process", "-o", "json", "-o", "csv"], "two outputs to standard output"),
        (["process", "-o", "json:/tmp/a", "-o", "csv:/tmp/../tmp/a"], "two outputs to /tmp/../tmp/a"),
        (["process", "-o", "json:/tmp/a", "--output", "/tmp/b"], "--output: it is for a single -o without a file"),
        (["process", "--columns", "pid,comn"], "did you mean 'comm'?"),
        (["process", "--streams", "nope"], "no stream 'nope'"),
        (["process", "--host-only", "--containers-only"], "--host-only"),
        (["process", "--host-only", "--container", "web"], "--host-only"),
        (["process", "--host-only", "--image", "web"], "--host-only"),
        (["process", "--label", "=x"], "has no key"),
        *[
            (["process", option, ""], "empty")
            for option in (
                "--container", "--image", "--label", "--pid", "--comm", "--uid", "--columns", "--count", "--output", "--streams",
                "--duration", "--ring-size",
            )
        ],
    ],
    ids=lambda v: " ".join(v)[:50] if isinstance(v, list) else "",
)  # fmt: skip
def test_wrong_words_are_refused_in_one_sentence(run, arguments, words):
    run(*arguments, *([] if "--duration" in str(arguments) else ["--duration", "300ms"])).refused(2, words)


@pytest.mark.parametrize(
    ("path", "words"),
    [("/nowhere/rows", "'/nowhere' does not exist"), ("/tmp", "it is a directory"), ("/proc/x", "cannot write")],
)
def test_an_output_that_cannot_be_written_is_refused(run, path, words):
    run("process", "--output", path).refused(1, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"hello\n", "not an ELF file"),
        (os.urandom(4096), "not an ELF file"),
        (b"\x7fELF", "truncated"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\1\0\xf7\0" + os.urandom(3000), "ELF file"),
        (None, "No such file"),
    ],
    ids=["empty", "text", "random", "four-bytes", "junk", "missing"],
)
def test_a_file_that_is_no_object_is_refused(run, tmp_path, content, words):
    path = tmp_path / "x.o"
    if content is not None:
        path.write_bytes(content)
    run(str(path)).refused(1, words)


def test_a_directory_is_refused(run, tmp_path):
    run(str(tmp_path)).refused(1, "directory")


def test_every_truncation_of_an_object_is_refused(compiled, tmp_path):
    from eunomia.kernel.errors import BadObject
    from eunomia.kernel.spec import Spec

    data = Path(compiled("nothing", NOTHING)).read_bytes()
    for size in range(0, len(data), 37):
        with pytest.raises(BadObject):
            Spec(data[:size], "cut").close()


def test_objects_of_other_machines_are_refused(run, compiled):
    run(compiled("big", NOTHING, "bpfeb")).refused(1, "big-endian")
    run(compiled("native", NOTHING, "")).refused(1, "not a BPF one")


def test_objects_without_types_or_programs_are_refused(run, compiled):
    run(compiled("untyped", NOTHING, flags=())).refused(1, "compile with clang -g")
    run(compiled("idle", "int x = 1;")).refused(1, "no BPF programs")


def test_what_the_verifier_refuses_is_said_by_its_last_telling_line(run, compiled):
    run(compiled("oob", OUT_OF_BOUNDS)).refused(1, "the verifier refused f: R0 min value is outside")


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("helper", UNKNOWN_HELPER, "not supported by this kernel: helper number 9999"),
        ("tracepoint", NOTHING.replace("sched_process_exec", "nonesuch"), "tracepoint sched/nonesuch"),
        ("section", NOTHING.replace("tp/sched/sched_process_exec", "wibble/x"), "its section 'wibble/x'"),
        ("kind", NOTHING.replace("tp/sched/sched_process_exec", "sk_skb/stream_parser"), "no programs of this kind"),
    ],
)
def test_what_the_kernel_cannot_do_is_named(run, compiled, name, source, words):
    run(compiled(name, source)).refused(1, words)


def test_kprobes_are_named_where_the_kernel_has_none(run, compiled):
    ended = run(compiled("kprobe", NOTHING.replace("tp/sched/sched_process_exec", "kprobe/do_unlinkat")),
                "--duration", "300ms")  # fmt: skip
    if ended.code == 0:
        pytest.skip("this kernel has kprobes")
    ended.refused(1, "not supported by this kernel: kprobes (CONFIG_KPROBES), which kprobe/do_unlinkat needs")


def test_an_object_without_streams_runs_and_says_so(run, compiled):
    ended = run(compiled("nothing", NOTHING), "--duration", "300ms")
    assert (ended.code, ended.out) == (0, b"")
    assert "it runs without rows" in ended.err


def test_two_objects_of_one_name_run_side_by_side(run, compiled, tmp_path):
    first = compiled("same", "int calls = 0;" + NOTHING.replace("return 0", "calls++; return 0"))
    (tmp_path / "other").mkdir()
    second = shutil.copy(first, tmp_path / "other")
    ended = run(first, str(second), "-o", "json", "--duration", "300ms")
    assert ended.code == 0
    assert len(ended.ledger) == 2


@pytest.fixture
def nobody(start):
    """Run as user 65534, who must at least be able to start Python here."""

    def as_nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    def run_(*arguments):
        try:
            ended = start(*arguments, preexec_fn=as_nobody, cwd="/").wait()
        except PermissionError as error:
            pytest.skip(f"needs a checkout that user 65534 can read: {error}")
        if "ModuleNotFoundError" in ended.err:
            pytest.skip("needs a checkout that user 65534 can read")
        return ended

    return run_


def test_missing_rights_are_said_without_inner_names(nobody):
    nobody("process").refused(1, "eunomia: not permitted to run BPF programs: run as root")


def test_a_file_that_may_not_be_read_is_refused(nobody, tmp_path):
    (tmp_path / "x.o").write_bytes(b"x")
    os.chmod(tmp_path / "x.o", 0)
    nobody(str(tmp_path / "x.o")).refused(1, "Permission denied")


def test_a_kernel_without_btf_is_named(run, tmp_path):
    hide = f'mount --bind {tmp_path} /sys/kernel/btf && exec "$@"'
    run("process", wrap=("unshare", "-m", "sh", "-c", hide, "sh")).refused(1, "BTF of the running kernel")


def test_a_refused_object_leaves_nothing_attached_of_what_came_before_it(start, compiled):
    """A good tracker is attached before the bad object is tried."""
    running = start("process", compiled("oob", OUT_OF_BOUNDS))
    held = set()
    while running.process.poll() is None:
        try:
            held |= kernel_ids(running.pid)
        except OSError:
            break
    running.wait().refused(1, "verifier")
    assert not alive(held)


def test_too_few_descriptors_are_said(run):
    for limit in range(9, 50, 4):
        run("opensnoop", wrap=("prlimit", f"--nofile={limit}")).refused(1, "too many open files")


CALLS = """
const volatile char wanted[4] = "";
struct event { __u32 pid; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct event); }
    events SEC(".maps");
SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx)
{
    struct event event = { .pid = bpf_get_current_pid_tgid() >> 32 };
    if (wanted[0] == (char)0xff)
        bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return 0;
}
"""


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_an_object_of_a_hostile_name_runs_under_a_harmless_one(start, compiled, worker, tmp_path, form):
    path = os.fsencode(tmp_path) + b"/\xff\x1b[2J\nforged.bpf.o"
    shutil.copy(compiled("calls", CALLS), path)
    calls = worker("os.getppid()")
    running = start(path, "-o", form, "--pid", str(calls.pid), "--columns", "tracker,pid", "--set", b"wanted=\xff")
    running.attached()
    calls.go()
    ended = running.end()
    assert ended.code == 0
    assert "__[2J_forged" in ended.out.decode()
    assert not any(c in ended.out.decode() + ended.err for c in "\x1b\udcff")
    assert str(calls.pid) in ended.out.decode()


@pytest.mark.parametrize(
    ("setting", "words"),
    [("wanted=abcd", "longer than 3 bytes"), ("want=1", "no setting 'want'"), ("other.wanted=1", "no setting")],
)
def test_settings_that_do_not_fit_are_refused(run, compiled, setting, words):
    run(compiled("calls", CALLS), "--set", setting, "--duration", "300ms").refused(2, words)


def test_a_missing_file_of_a_hostile_name_is_refused_harmlessly(run):
    ended = run("./no\x1b[2J\nforged.o")
    ended.refused(1, "No such file")
    assert "\x1b" not in ended.err
