# SPDX-License-Identifier: BSD-2-Clause
"""`eunomia run --watch`: save, compile, see."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.run.conftest import EUNOMIA, Running, alive, kernel_ids

SOURCE = """
struct event { __u64 ts; int pid; int version; MORE } *unused;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, STATE); } state SEC(".maps");
const volatile int target = 0;
SEC("tp/syscalls/sys_enter_getppid") int on_getppid(void *ctx)
{
	struct event event = {};
	__u32 zero = 0;

	event.pid = bpf_get_current_pid_tgid() >> 32;
	if (event.pid != target || !bpf_map_lookup_elem(&state, &zero))
		return 0;
	event.ts = bpf_ktime_get_ns();
	event.version = VERSION;
	BODY
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 0;
}
"""


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Callable[..., Path]:
    """objects(version, more="", body="", state="__u64") -> the path of a compiled object."""
    from tests.run.conftest import HEAD

    clang = needs.program("clang", "clang")
    folder = tmp_path_factory.mktemp("objects")

    def compile_(version: int, more: str = "", body: str = "", state: str = "__u64") -> Path:
        text = (
            SOURCE.replace("VERSION", str(version)).replace("MORE", more).replace("BODY", body).replace("STATE", state)
        )
        path = folder / f"{abs(hash(text))}.bpf.c"
        if not path.with_suffix(".o").exists():
            path.write_text(HEAD + text)
            flags = ["-O2", "-g", "-target", "bpf", f"-I/usr/include/{os.uname().machine}-linux-gnu"]
            subprocess.run([clang, *flags, "-c", path, "-o", path.with_suffix(".o")], check=True)
        return path.with_suffix(".o")

    return compile_


class Caller:
    """A process that calls getppid some hundred times a second."""

    def __init__(self) -> None:
        code = "import os, time\nwhile True:\n    os.getppid()\n    time.sleep(0.003)"
        self.process = subprocess.Popen([sys.executable, "-S", "-c", code])


class Watching:
    """An eunomia that watches an object; ``said`` are its lines on stderr, ``out`` its output, both so far."""

    def __init__(self, start, path: Path, pid: int, *options: str) -> None:
        self.path = path
        self.said: list[str] = []
        self.out: list[str] = []
        self.running: Running = start(str(path), "--watch", "--set", f"target={pid}", *options)
        process = self.running.process
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, lines))
            for pipe, lines in ((process.stdout, self.out), (process.stderr, self.said))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe, lines: list[str]) -> None:
        for line in pipe:
            lines.append(line.decode().rstrip("\n"))

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60 * needs.PATIENCE
        while not holds():
            assert self.running.process.poll() is None, self.said
            assert time.monotonic() < deadline, (self.said, self.out[-3:])
            time.sleep(0.02)

    def shows(self, text: str) -> None:
        """Wait for a row that begins now and has this."""
        done = len(self.out)
        self.until(lambda: any(re.search(text, line) for line in self.out[done:]))

    def says(self, text: str, times: int = 1) -> None:
        self.until(lambda: sum(bool(re.search(text, line)) for line in self.said) >= times)

    def end(self) -> None:
        self.running.process.send_signal(2)
        self.running.process.wait(60)
        for reader in self._readers:
            reader.join()
        assert self.running.process.returncode == 0, self.said
        assert not [line for line in self.said if "Traceback" in line]


def save(object_: Path, path: Path) -> None:
    """Put an object in a place as compilers do: under another name first."""
    shutil.copy(object_, f"{path}.tmp")
    os.rename(f"{path}.tmp", path)


@pytest.fixture
def watching(start, tmp_path, objects) -> Iterator[Callable[..., Watching]]:
    """watching(*options) -> an eunomia that shows version 1 of the object."""
    caller = Caller()
    begun: list[Watching] = []

    def watch(*options: str) -> Watching:
        path = tmp_path / "probe.bpf.o"
        save(objects(1), path)
        begun.append(Watching(start, path, caller.process.pid, *(options or ("-o", "json"))))
        begun[-1].shows(r"\b1\b")
        return begun[-1]

    yield watch
    for one in begun:
        one.running.process.kill()
        for reader in one._readers:
            reader.join()
    caller.process.kill()
    caller.process.wait()


def test_an_object_that_was_compiled_again_takes_the_place_of_the_one_that_runs(watching, objects):
    one = watching()
    save(objects(2), one.path)
    one.shows('"version":2')
    one.says(rf"^eunomia: probe: reloaded {one.path}$")
    before = kernel_ids(one.running.pid)
    save(objects(3), one.path)
    one.shows('"version":3')
    one.says("reloaded", 2)
    one.end()
    versions = [json.loads(line)["version"] for line in one.out]
    assert versions == sorted(versions)
    (ledger,) = [json.loads(line) for line in one.said if line.startswith("{")]
    assert ledger["delivered"] == ledger["emitted"] == len(versions)
    assert not alive(before)


def test_a_new_column_is_shown_in_json(watching, objects):
    one = watching()
    save(objects(2, "long extra;", "event.extra = 77;"), one.path)
    one.shows('"version":2,"extra":77')
    one.says("reloaded .*; events: extra is new$")
    save(objects(3), one.path)
    one.says("reloaded .*; events: no more extra$")
    one.shows('"version":3,"container"|"version":3,"identity"|"version":3}')
    one.end()


def test_a_new_column_is_shown_in_a_table_below_a_heading_of_its_own(watching, objects):
    one = watching("-o", "table")
    save(objects(2, "long extra;", "event.extra = 77;"), one.path)
    one.shows(r"\b2 +77$")
    one.end()
    headings = [line.split() for line in one.out if line.startswith("TIME")]
    assert [heading[2:] for heading in headings] == [["PID", "VERSION"], ["PID", "VERSION", "EXTRA"]] or [
        heading[-1] for heading in headings
    ] == ["VERSION", "EXTRA"]
    at = next(i for i, line in enumerate(one.out) if "EXTRA" in line)
    assert all(line.split()[-1] == "1" for line in one.out[1:at])


def test_csv_keeps_its_columns_and_that_is_said(watching, objects):
    one = watching("-o", "csv")
    save(objects(2, "long extra;", "event.extra = 77;"), one.path)
    one.says("events: extra is new; csv keeps the columns of its header$")
    one.shows(",2,")
    one.end()
    assert len({line.count(",") for line in one.out}) == 1


def test_a_file_that_is_no_object_changes_nothing(watching, objects):
    one = watching()
    one.path.write_bytes(b"\x7fELF and no more")
    one.says(r"^eunomia: probe: not reloaded: .*probe.bpf.o: .*; the old one goes on$")
    one.shows('"version":1')
    one.path.write_bytes(objects(2).read_bytes()[:2000])
    one.says("not reloaded", 2)
    one.shows('"version":1')
    save(objects(3), one.path)
    one.shows('"version":3')
    one.end()


def test_an_object_that_the_verifier_refuses_changes_nothing(watching, objects):
    one = watching()
    save(objects(2, body="event.version = *(int *)(long)event.ts;"), one.path)
    one.says(r"not reloaded: the verifier refused on_getppid: .*; the old one goes on$")
    one.shows('"version":1')
    save(objects(3), one.path)
    one.shows('"version":3')
    one.end()


def test_an_object_that_is_written_in_pieces_is_loaded_when_it_is_whole(watching, objects):
    one = watching()
    data = objects(2).read_bytes()
    with open(one.path, "wb") as file:
        for at in range(0, len(data), 1 + len(data) // 5):
            file.write(data[at : at + 1 + len(data) // 5])
            file.flush()
            done = len(one.out)
            (one.path.parent / "beside").write_text("a reason to look")
            one.until(lambda: len(one.out) > done + 100)  # noqa: B023  0.3 s at least: longer than files have to rest
    one.shows('"version":2')
    one.end()
    assert len([line for line in one.said if "reloaded" in line]) == 1


def test_an_object_that_is_deleted_and_made_again(watching, objects):
    one = watching()
    one.path.unlink()
    one.says(rf"^eunomia: probe: {one.path} is gone: what runs goes on$")
    one.shows('"version":1')
    save(objects(2), one.path)
    one.shows('"version":2')
    os.rename(one.path.parent, f"{one.path.parent}.old")
    one.says("is gone", 2)
    one.path.parent.mkdir()
    save(objects(3), one.path)
    one.shows('"version":3')
    one.end()
    shutil.rmtree(f"{one.path.parent}.old")


def test_twenty_quick_changes_end_with_the_last(watching, objects):
    made = [objects(version) for version in range(2, 22)]
    one = watching()
    for object_ in made:
        save(object_, one.path)
    one.shows('"version":21')
    one.end()
    versions = [json.loads(line)["version"] for line in one.out]
    assert versions == sorted(versions)


def test_a_map_that_differs_is_named_and_may_begin_empty(watching, objects):
    one = watching()
    save(objects(2, state="__u32"), one.path)
    one.says("not reloaded: probe: value of map state is __u32 and was __u64.*--fresh-maps")
    one.shows('"version":1')
    one.end()


def test_maps_begin_empty_where_that_is_asked_for(watching, objects):
    one = watching("-o", "json", "--fresh-maps")
    save(objects(2, state="__u32"), one.path)
    one.shows('"version":2')
    one.end()


def test_an_object_without_a_row_is_taken_back_where_a_trial_is_asked_for(watching, objects):
    one = watching("-o", "json", "--trial", "500ms")
    save(objects(2, body="if (event.pid) return 0;"), one.path)
    one.says("reloaded")
    one.says("^eunomia: probe: the new one had no row in events for 0.5 s, .*; the old one runs again$")
    one.shows('"version":1')
    one.end()


def test_what_was_touched_and_is_the_same_is_not_reloaded(watching, objects):
    one = watching()
    os.utime(one.path)
    shutil.copy(objects(1), one.path)
    save(objects(2), one.path)
    one.shows('"version":2')
    one.end()
    assert len([line for line in one.said if "reloaded" in line]) == 1


@pytest.mark.parametrize(("options", "words"), [
    (["--trial", "1s"], "--trial: it is for objects that change while they run: add --watch"),
    (["--fresh-maps"], "--fresh-maps: it is for objects that change while they run: add --watch"),
    (["--watch", "--trial", "2m"], "--trial: '2m' is more than 60s"),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(run, options, words):
    run("process", *options).refused(2, words)


def test_help_tells_of_it():
    said = subprocess.run([*EUNOMIA, "run", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--watch" in said
