# SPDX-License-Identifier: BSD-2-Clause
"""A host with containers in cgroup v1 only; ``test_first_version.py`` makes it and runs this."""

import os
import platform
import subprocess
from collections.abc import Iterator

import pytest

from eunomia.cgroup_hierarchy import CONTROLLERS
from eunomia.cli.checks.containers import _cgroups
from eunomia.containers import cgroup_files
from eunomia.containers.registry import Registry
from eunomia.containers.selectors import Selectors
from eunomia.filters import Filters
from tests import needs
from tests.harness import tracked
from tests.runtimes.docker import Docker, private_docker

RUNS = 10


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """A Docker whose containers have no cgroups in v2, as there is none where this is run."""
    with private_docker() as running:
        yield running


def test_a_controller_of_v1_is_used_and_its_ids_are_inode_numbers(docker):
    used = cgroup_files.current()
    assert (used.version, used.controller in CONTROLLERS) == (1, True)
    assert used.constants()["eunomia_subsystem"] > 0
    registry = Registry()
    assert registry.by_pid(os.getpid()) == registry[os.stat(used.mount + cgroup_files.path_of("self")).st_ino]


def test_every_event_of_short_containers_has_id_name_and_image(docker):
    with tracked("process") as seen:
        for i in range(RUNS):
            docker.run("run", "--rm", "--network", "none", "--name", f"brief{i}", docker.image, "echo", "brief", "v1")
    inside = seen.rows("exec", argv=["echo", "brief", "v1"])
    assert len(inside) == RUNS
    assert {row["container.name"] for row in inside} == {f"brief{i}" for i in range(RUNS)}
    for row in inside:
        assert len(row["container.id"]) == 64
        assert (row["container.image"], row["identity"]) == (docker.image, "resolved")
    pids = {row["pid"] for row in inside}
    ended = [row for row in seen.rows("exit") if row["pid"] in pids]
    assert len(ended) == RUNS
    assert {row["identity"] for row in ended} == {"resolved"}


@pytest.mark.parametrize("tracker", ["opensnoop", "syscall"])
def test_the_other_trackers_tell_containers_apart_too(docker, tracker):
    with tracked(tracker) as seen:
        docker.run("run", "--rm", "--network", "none", "--name", tracker, docker.image, "cat", "/etc/passwd")
    inside = seen.rows(comm="cat", **{"container.name": tracker})
    assert inside
    assert {row["identity"] for row in inside} == {"resolved"}


def test_the_kernel_chooses_containers_by_their_ids_in_v1(docker):
    docker.run("run", "-d", "--name", "wanted", "--network", "none", docker.image, "sleep", "60")
    docker.run("run", "-d", "--name", "other", "--network", "none", docker.image, "sleep", "60")
    try:
        with tracked("process", filters=Filters(selectors=Selectors(("wanted",)), traces_itself=True)) as seen:
            for name in ("wanted", "other"):
                docker.run("exec", name, "id")
            docker.run("run", "--rm", "--name", "third", "--network", "none", docker.image, "id")
        assert {row["container.name"] for row in seen.rows()} == {"wanted"}
        assert [row["argv"] for row in seen.rows("exec", comm="id")] == [["id"]]
        assert seen.ledger("exec").filtered == 0
    finally:
        docker.run("rm", "-f", "wanted", "other")


FOREIGN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u64 cgroup_id; __u32 pid; char comm[16]; };
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
	__type(value, struct event);
} execs SEC(".maps");
SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx)
{
	struct event event = { bpf_get_current_cgroup_id(), bpf_get_current_pid_tgid() >> 32 };
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_ringbuf_output(&execs, &event, sizeof(event), 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def test_a_foreign_objects_cgroup_ids_are_of_v2_so_its_rows_are_joined_by_their_process(docker, tmp_path):
    with tracked(_compiled(FOREIGN, tmp_path)) as seen:
        docker.run("run", "-d", "--name", "lasting", "--network", "none", docker.image, "usleep", "60000000")
        try:
            seen.until(lambda s: s.rows(comm="usleep"))
        finally:
            docker.run("rm", "-f", "lasting")
    assert seen.row(comm="usleep")["container.name"] == "lasting"


def _compiled(source, directory):
    clang = needs.program("clang", "clang")
    include = f"-I/usr/include/{platform.machine()}-linux-gnu"
    command = [clang, "-O2", "-g", "-target", "bpf", include, "-xc", "-", "-c", "-o", directory / "foreign.bpf.o"]
    subprocess.run(command, input=source, text=True, check=True)
    return str(directory / "foreign.bpf.o")


def test_doctor_names_the_controller_and_why(docker):
    finding = _cgroups()
    assert finding.state == "ok"
    assert finding.found.startswith(f"version 1, {cgroup_files.current().controller} at ")
    assert "version 2 is not mounted" in finding.found
