# SPDX-License-Identifier: BSD-2-Clause
"""Building from source: what is compiled again, and what is said where it cannot be."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).resolve().parent.parent
GOOD = "#include <eunomia/probe.h>\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with two probes of no content, a and b."""
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for part in ("bpf", "native"):
        shutil.copytree(ROOT / "src/eunomia" / part, tmp_path / "src/eunomia" / part)
    for name in ("a", "b"):
        folder = tmp_path / "src/eunomia/trackers" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.bpf.c").write_text(GOOD)
    return tmp_path


def build(
    tree: Path, command: str = "build_probes", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", command],
        cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def objects(tree: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in tree.rglob("*.bpf.o")}


def test_only_the_probe_that_changed_is_compiled_again(tree: Path):
    assert build(tree).returncode == 0
    first = objects(tree)
    time.sleep(0.02)
    (tree / "src/eunomia/trackers/a/a.bpf.c").touch()
    assert build(tree).returncode == 0
    second = objects(tree)
    assert second["a.bpf.o"] > first["a.bpf.o"]
    assert second["b.bpf.o"] == first["b.bpf.o"]


def test_a_header_that_changed_compiles_every_probe_again(tree: Path):
    build(tree)
    first = objects(tree)
    time.sleep(0.02)
    (tree / "src/eunomia/bpf/eunomia/probe.h").touch()
    build(tree)
    assert all(made > first[name] for name, made in objects(tree).items())


def test_an_object_keeps_its_btf_and_loses_its_dwarf(tree: Path):
    readelf = needs.program("llvm-readelf", "llvm")
    build(tree)
    made = next(tree.rglob("a.bpf.o"))
    sections = subprocess.run([readelf, "-S", made], capture_output=True, text=True, check=True).stdout
    assert " .BTF " in sections
    assert ".debug_info" not in sections


def test_a_wheel_carries_objects_and_headers_but_neither_c_nor_tests_nor_what_was_removed(tree: Path):
    (tree / "README.md").touch()
    (tree / "LICENSE").touch()
    (tree / "src/eunomia/trackers/a/tracker.py").touch()
    (tree / "src/eunomia/trackers/a/test_a.py").touch()
    build(tree, "bdist_wheel")
    (tree / "src/eunomia/trackers/a/tracker.py").unlink()
    (tree / "src/eunomia/trackers/a/renamed.py").touch()
    assert build(tree, "bdist_wheel").returncode == 0
    [wheel] = tree.glob("dist/*.whl")
    assert "-cp311-abi3-linux_" in wheel.name
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("eunomia/")}
    headers = {f"eunomia/bpf/eunomia/{h.name}" for h in (ROOT / "src/eunomia/bpf/eunomia").iterdir()}
    module = {"eunomia/_native.abi3.so"}
    trackers = {f"eunomia/trackers/{name}" for name in ("a/a.bpf.o", "a/renamed.py", "b/b.bpf.o")}
    assert names == headers | module | trackers


@pytest.mark.parametrize("bad", ["int broken(", "static int unused(void) { return 0; }"])
def test_a_probe_with_an_error_or_a_warning_fails_the_build_and_leaves_no_object(tree: Path, bad: str):
    (tree / "src/eunomia/trackers/a/a.bpf.c").write_text(GOOD + bad)
    done = build(tree)
    assert done.returncode == 1
    assert "a.bpf.c:2:" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(objects(tree)) == ["b.bpf.o"]
    assert not list(tree.rglob("*.tmp"))


def test_what_is_missing_is_named_with_its_package(tree: Path):
    done = build(tree, CLANG="/nowhere/clang", CC="/nowhere/cc")
    assert done.returncode == 1
    assert "clang 14 or later (compiles the kernel probes) is missing: apt install clang" in done.stderr
    assert "a C compiler (compiles the binding) is missing: apt install gcc libc6-dev" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Python.h" not in done.stderr, "it is there, although no compiler can say so"


def test_who_is_not_root_is_told_the_command_that_installs_what_is_missing():
    needs.root()  # to become somebody else
    with tempfile.TemporaryDirectory() as few:  # tmp_path is root's alone
        os.chmod(few, 0o755)
        for tool in ("id", "apt-get"):
            Path(few, tool).symlink_to(needs.program(tool, "apt"))
        done = subprocess.run(
            ["/bin/bash", "-s", "build"],
            input=(ROOT / "tools/install_needs.sh").read_text(),
            env={"PATH": few}, cwd="/", user="nobody", capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "clang            compiles probes for the kernel" in done.stderr
    command = done.stderr.splitlines()[-1]
    assert command.startswith("eunomia: please run: sudo apt-get install -y --no-install-recommends ")
    assert " clang" in command


def test_make_alone_prints_the_menu():
    alone = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=alone)
    targets = [line.split()[1] for line in done.stdout.splitlines()]
    assert targets == [
        "help", "build", "run", "test", "test-k8s", "test-image", "test-trees", "test-kernels", "fuzz",
        "fuzz-uploads", "fuzz-native", "fuzz-api", "api", "lint", "bench", "wheel", "clean", "deps",
    ]  # fmt: skip
