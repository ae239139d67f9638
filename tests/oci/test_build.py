# SPDX-License-Identifier: BSD-2-Clause
"""`eunomia build` compiles what `eunomia run` runs, and says what is missing."""

import importlib.util
import os
from pathlib import Path

import pytest

from eunomia.oci import compiler
from tests import needs
from tests.cli.conftest import GOOD

ROOT = Path(__file__).parents[2]
OWN = """
#include <eunomia/probe.h>
#include <eunomia/hook.h>
#include <eunomia/task.h>
struct event { TASK_FIELDS; };
STREAM(seen, struct event, 4096);
HANDLER("raw_tp/sched_process_exec", on_exec, void *task)
{
	struct event event = {};
	task_fields(&event, eunomia_cgroup());
	stream_output(seen, &event, sizeof(event));
}
"""
TRACKER = """
from eunomia.tracker import Tracker, Variant
TRACKER = Tracker(title="Which programs start?", variants=(Variant("raw_tp", ("on_exec",)),))
"""


@pytest.fixture(autouse=True)
def _clang():
    needs.program("clang", "clang")


def test_a_probe_compiles_with_eunomia_s_headers_to_an_object_beside_it(eunomia, tmp_path):
    (tmp_path / "mine.bpf.c").write_text(OWN)
    done = eunomia("build", "mine.bpf.c", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, "mine.bpf.o\n", "")
    assert "stream seen" in eunomia("info", tmp_path / "mine.bpf.o").out
    assert sorted(os.listdir(tmp_path)) == ["mine.bpf.c", "mine.bpf.o"]


def test_the_object_goes_where_o_says(eunomia, tmp_path):
    (tmp_path / "mine.bpf.c").write_text(GOOD)
    assert eunomia("build", tmp_path / "mine.bpf.c", "-o", tmp_path / "here.o").code == 0
    assert (tmp_path / "here.o").exists()
    assert not (tmp_path / "mine.bpf.o").exists()


def test_the_flags_are_those_of_eunomia_s_own_probes():
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    own = [flag.replace("-Isrc/eunomia/bpf", f"-I{ROOT}/src/eunomia/bpf") for flag in setup.probe_flags()]
    assert [flag for flag in own if flag != "-Werror"] == compiler.flags()


def test_a_folder_of_a_tracker_is_built_and_its_declaration_compared(eunomia, tmp_path):
    folder = tmp_path / "execs"
    folder.mkdir()
    (folder / "execs.bpf.c").write_text(OWN)
    (folder / "tracker.py").write_text(TRACKER)
    assert eunomia("build", folder).out == f"{folder}/execs.bpf.o\n"
    (folder / "tracker.py").write_text(TRACKER.replace("on_exec", "on_exit"))
    done = eunomia("build", folder)
    assert done.code == 1
    assert "it has no program on_exit, which tracker.py declares" in done.err


def test_without_clang_it_says_what_to_install(eunomia, tmp_path):
    (tmp_path / "mine.bpf.c").write_text(GOOD)
    said = eunomia("build", tmp_path / "mine.bpf.c", environment={"PATH": "/nonexistent"}).one_line(1)
    assert "clang is missing" in said
    assert "apt install clang" in said


def test_a_header_that_is_missing_is_named_with_its_package(eunomia, tmp_path):
    (tmp_path / "mine.bpf.c").write_text("#include <bpf/no_such_header.h>\n")
    done = eunomia("build", tmp_path / "mine.bpf.c")
    assert done.code == 1
    assert "bpf/no_such_header.h is missing: apt install libbpf-dev" in done.err


def test_what_does_not_compile_leaves_the_old_object_and_shows_clang_s_words(eunomia, tmp_path):
    source, made = tmp_path / "mine.bpf.c", tmp_path / "mine.bpf.o"
    source.write_text(GOOD)
    assert eunomia("build", source).code == 0
    before = made.read_bytes()
    source.write_text(GOOD + "int broken(\n")
    done = eunomia("build", source)
    assert done.code == 1
    assert "error: expected" in done.err
    assert f"{source}: clang did not compile it" in done.err
    assert made.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["mine.bpf.c", "mine.bpf.o"]


def test_warnings_are_shown_and_are_errors_if_asked_for(eunomia, tmp_path):
    source = tmp_path / "mine.bpf.c"
    source.write_text(GOOD + "static int unused;\n")
    done = eunomia("build", source)
    assert done.code == 0
    assert "warning: unused variable" in done.err
    assert eunomia("build", source, "--werror").code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.bpf.c"], "nothing.bpf.c: No such file or directory"),
        (["mine.c"], "the source of a probe is named NAME.bpf.c"),
        (["empty"], "there is no *.bpf.c in this folder"),
    ],
)
def test_what_is_no_source_is_named(eunomia, tmp_path, words, said):
    (tmp_path / "mine.c").write_text(GOOD)
    (tmp_path / "empty").mkdir()
    assert said in eunomia("build", *words, cwd=tmp_path).one_line(1)
