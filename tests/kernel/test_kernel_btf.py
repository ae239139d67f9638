# SPDX-License-Identifier: BSD-2-Clause
"""The part of the kernel's BTF by which our own objects are relocated says what all of it says."""

import os
import subprocess
from pathlib import Path

import pytest
from tests import needs
from tests.kernel import compiled

from eunomia._native import lib
from eunomia.kernel.btf import Btf
from eunomia.kernel.spec import Spec, kernel_btf

PACKAGE = Path(__file__).parents[2] / "src/eunomia"
VMLINUX = "/sys/kernel/btf/vmlinux"
OBJECTS = sorted(PACKAGE.rglob("*.bpf.o"))

_COMPOSITE = range(4, 6)
_ENUMS = (6, 19)


def part_for(path: Path) -> bytes:
    needs.root()
    spec = Spec.open(path, quick=True)
    try:
        assert lib.eu_reduced_btf(spec._object, kernel_btf()) == 0
        return os.pread(kernel_btf(), 1 << 24, 0)
    finally:
        spec.close()
        lib.eu_forget_kernel_btf()


@pytest.fixture(scope="module")
def whole() -> Btf:
    return Btf(Path(VMLINUX).read_bytes(), ours=False)


def by_name(btf: Btf, *kinds: int) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for id_ in btf.kind_ids(*kinds):
        found.setdefault(btf.name(id_), []).append(id_)
    return found


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_structs_and_enumerations_that_an_object_names_are_the_kernel_s(path, whole):
    part = Btf(part_for(path), ours=False)
    with_names = by_name(whole, *_COMPOSITE, *_ENUMS)
    spec = Spec.open(path)
    spec.close()
    asked = {name.partition("___")[0] for name in by_name(spec.btf, *_COMPOSITE, *_ENUMS)} - {""}
    there = by_name(part, *_COMPOSITE, *_ENUMS)
    assert asked & set(with_names) <= set(there)
    for name in asked & set(with_names):
        theirs = [whole.type(id_) for id_ in with_names[name]]  # names, sizes and places, of all held by value
        assert [part.type(id_) for id_ in there[name]] == theirs, name


def test_a_kernel_whose_btf_cannot_be_mapped_is_read(tmp_path):
    path = PACKAGE / "trackers/process/process.bpf.o"
    mapped = part_for(path)
    native = PACKAGE / "native"
    harness = compiled.native(
        f"""
#include <sys/mman.h>
#define mmap(...) MAP_FAILED
#include "{native}/kernel_btf.c"
int main(int argc, char **argv)
{{
	struct bpf_object *object = bpf_object__open_file(argv[argc - 1], NULL);
	int err = object ? eu_reduced_btf(object, 1) : -1;

	err |= eu_kernel_enum("cgroup_subsys_id", "no_such_name") != -1;
	eu_forget_kernel_btf();
	bpf_object__close(object);
	return err ? 1 : 0;
}}
""",
        "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{native}", "-lbpf",
    )  # fmt: skip
    out = tmp_path / "part"
    with open(out, "wb") as file:
        done = subprocess.run([harness, path], stdout=file, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == mapped


def test_an_enumeration_s_value_is_the_kernel_s(whole):
    needs.root()
    (id_,) = by_name(whole, 6)["cgroup_subsys_id"]
    names = whole.type(id_).names
    for value, name in names.items():
        assert lib.eu_kernel_enum(b"cgroup_subsys_id", name.encode()) == value
    assert lib.eu_kernel_enum(b"cgroup_subsys_id", b"none_such") == -1
    lib.eu_forget_kernel_btf()
