# SPDX-License-Identifier: BSD-2-Clause
"""The choice of the cgroup hierarchy."""

from pathlib import Path

import pytest

from eunomia import cgroup_hierarchy
from eunomia.cgroup_hierarchy import Hierarchy
from eunomia.containers import cgroup_files
from tests.containers.stage import WEB

V1 = [("memory", 6), ("pids", 8)]


@pytest.fixture
def host(tmp_path):
    """host("v2", "memory/docker/ID", ...) -> v2 or None, and v1's; each path is a cgroup with a process."""

    def lay(*paths):
        for path in paths:
            directory = tmp_path / path
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "cgroup.procs").write_text("1\n")
        second = Hierarchy(str(tmp_path / "v2")) if (tmp_path / "v2").exists() else None
        first = [Hierarchy(str(tmp_path / c), i, c) for c, i in V1 if (tmp_path / c).exists()]
        return cgroup_files.choose(second, first)

    return lay


def test_v2_alone_is_used_without_looking_for_reasons(host):
    assert (host("v2").version, host("v2").why) == (2, "")


def test_v1_alone_is_used_by_its_surest_controller(host):
    used = host("pids", "memory")
    assert (used.version, used.id, used.controller) == (1, 6, "memory")
    assert "not mounted" in used.why


def test_a_host_without_any_has_no_mount(host):
    assert host().mount is None


def test_beside_v1_v2_is_used_where_nothing_runs(host):
    assert host("v2", "memory/system.slice/ssh.service").version == 2


@pytest.mark.parametrize("name", [f"docker/{WEB}", f"x.slice/docker-{WEB}.scope", f"libpod_parent/libpod-{WEB}"])
def test_containers_in_v1_alone_speak_for_v1(host, name):
    used = host("v2", f"memory/{name}")
    assert used.controller == "memory"
    assert "no cgroups in version 2" in used.why


def test_containers_in_both_speak_for_v2(host):
    assert host(f"v2/docker/{WEB}", f"memory/docker/{WEB}").version == 2


def test_a_v1_cgroup_that_a_crashed_runtime_left_empty_says_nothing(host, tmp_path):
    host("v2", f"memory/docker/{WEB}")
    Path(tmp_path / f"memory/docker/{WEB}/cgroup.procs").write_text("")
    assert host("v2").version == 2


def test_a_controller_that_the_kernel_does_not_have_is_an_error():
    with pytest.raises(OSError, match="does not name the cgroup controller odd"):
        Hierarchy("/", 3, "odd").constants()


def test_the_path_of_a_process_is_that_in_the_hierarchy_asked_for():
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        assert cgroup_files.path_of("self", Hierarchy("/", int(number))) == path


def test_a_carriage_return_in_a_mount_point_ends_no_line(monkeypatch, tmp_path):
    file = tmp_path / "mountinfo"
    file.write_bytes(b"26 24 0:24 / /a\r0 - cgroup2 rw - cgroup2 cgroup2 rw\n27 - cgroup2\n")
    monkeypatch.setattr(cgroup_hierarchy, "open", lambda _, **how: file.open(**how), raising=False)
    assert cgroup_hierarchy.unified() == Hierarchy("/a\r0")
