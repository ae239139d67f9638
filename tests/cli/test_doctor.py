# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia doctor`` says what is so, and does not guess what it cannot see."""

import json
import os
import subprocess

import pytest

from tests import needs

STATES = {"ok", "warn", "fail", "unknown"}


@pytest.fixture
def findings(eunomia):
    def find(**options):
        done = eunomia("doctor", "-o", "json", **options)
        assert done.err == ""
        rows = {row["subject"]: row for row in map(json.loads, done.out.splitlines())}
        assert {row["state"] for row in rows.values()} <= STATES
        assert done.code == int(any(row["state"] == "fail" for row in rows.values()))
        return rows

    return find


def test_it_names_the_kernel_and_its_btf(findings):
    rows = findings()
    assert os.uname().release in rows["kernel"]["found"]
    assert rows["BTF"]["state"] == ("ok" if os.path.exists("/sys/kernel/btf/vmlinux") else "fail")


def test_every_failure_and_warning_says_what_to_do(findings):
    for row in findings().values():
        assert row["do"] or row["state"] in {"ok", "unknown"} or row["subject"].startswith("tracker "), row


def test_hooks_are_what_loading_them_shows(findings):
    needs.root()
    rows = findings()
    assert rows["hook raw_tp"]["state"] == "ok"
    if not os.path.exists("/sys/kernel/tracing/kprobe_events") and not _has_symbol("register_kprobe"):
        assert rows["hook kprobe"]["state"] == "warn"
        assert "CONFIG_KPROBES" in rows["hook kprobe"]["found"]


def _has_symbol(name):
    with open("/proc/kallsyms") as symbols:
        return any(line.split()[2] == name for line in symbols)


def test_trackers_are_tried(findings):
    needs.root()
    rows = findings()
    assert rows["tracker process"]["state"] == "ok"


def test_without_rights_it_fails_for_them_and_says_what_it_cannot_tell(findings):
    rows = findings(nobody=True)
    assert rows["capabilities"]["state"] == "fail"
    assert "sudo" in rows["capabilities"]["do"]
    for subject in ("hooks", "trackers", "memory for maps"):
        assert rows[subject]["state"] == "unknown"


def test_for_people_it_is_a_table_with_a_sum(eunomia):
    out = eunomia("doctor").out
    assert out.splitlines()[0].split() == ["STATE", "WHAT", "FOUND"]
    assert " ok" in out.splitlines()[-1]


def test_in_a_pid_namespace_of_its_own_it_warns():
    needs.root()
    from tests.cli.conftest import EUNOMIA

    unshare = needs.program("unshare", "util-linux")
    done = subprocess.run(
        [unshare, "--pid", "--fork", "--mount-proc", EUNOMIA, "doctor", "-o", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = {row["subject"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert rows["PID namespace"]["state"] == "warn"
    assert "--pid=host" in rows["PID namespace"]["do"]


def test_containers_of_a_running_docker_are_counted(findings, docker):
    name = f"doctor-{os.getpid()}"
    docker.run("run", "-d", "--name", name, docker.image, "sleep", "60")
    try:
        rows = findings()
        assert str(docker.data_root) in rows["Docker"]["found"]
        assert rows["containers"]["state"] == "ok"
        assert "running" in rows["containers"]["found"]
    finally:
        docker.run("rm", "-f", name)


def test_a_running_containerd_is_found(findings, containerd):
    found = findings()["containerd"]
    assert found["state"] == "ok"
    assert str(containerd.state) in found["found"]
