# SPDX-License-Identifier: BSD-2-Clause
"""What is said where something that is usually there is not: rights, /proc, tracefs, sound packages."""

import json
import os
import subprocess
import sys

import pytest

from tests import needs
from tests.cli.conftest import EUNOMIA, UNKNOWN_PROCESS

CAPABILITIES = "+bpf,+perfmon,+dac_read_search"


def said(*command: str, **options) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert "bug in eunomia" not in done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", ["run process --duration 1s", "containers", "tree"])
def test_without_proc_that_is_what_is_said(words):
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    code, err = said(unshare, "-m", "sh", "-c", f"umount -R -l /proc; exec {EUNOMIA} {words}")
    assert (code, err) == (1, "eunomia: /proc is not mounted here, and nothing works without it: mount -t proc proc /proc\n")


@pytest.mark.parametrize("words", ["run process --duration 1s", "tree", "list", "doctor"])
def test_without_sys_that_is_what_is_said(words):
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    command = [unshare, "-m", "sh", "-c", f"umount -R -l /sys; exec {EUNOMIA} {words} 2>&1"]
    out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "/sys is not mounted here" in out
    assert "mount -t sysfs sysfs /sys" in out
    assert "libbpf:" not in out
    assert "-2 possible" not in out
    assert "CONFIG_DEBUG_INFO_BTF" not in out


@pytest.mark.parametrize("words", ["run process --duration 300ms", "tree", "containers"])
def test_without_cgroups_it_is_reported_that_containers_cannot_be_found(words):
    needs.root()
    unshare = needs.program("unshare", "util-linux")
    code, err = said(unshare, "-m", "sh", "-c", f"umount -R -l /sys/fs/cgroup; exec {EUNOMIA} {words}")
    assert code == 0
    assert "containers cannot be found" in err
    assert "mount -t cgroup2" in err


def test_in_a_user_namespace_that_is_what_is_said():
    unshare = needs.program("unshare", "util-linux")
    code, err = said(unshare, "-Ur", EUNOMIA, "run", "process", "--duration", "1s")
    assert code == 1
    assert "inside a user namespace" in err


def as_nobody(capabilities: str, mount: str, what: str = "process") -> tuple[int, str]:
    needs.root()
    needs.program("setpriv", "util-linux")
    given = f"--inh-caps {capabilities} --ambient-caps {capabilities}"
    drop = f"setpriv --reuid {UNKNOWN_PROCESS} --regid {UNKNOWN_PROCESS} --clear-groups {given}"
    hide = "umount -q /sys/kernel/tracing; umount -q /sys/kernel/debug/tracing; umount -q /sys/kernel/debug;"
    return said("unshare", "-m", "sh", "-c", f"{hide} {mount} exec {drop} {EUNOMIA} run {what} --duration 300ms")


MOUNT = "mount -t tracefs none /sys/kernel/tracing;"


@pytest.mark.parametrize("what", ["process", "opensnoop", "syscall", "container"])
def test_who_follows_the_advice_on_capabilities_can_run(what):
    code, err = as_nobody(CAPABILITIES, MOUNT, what)
    assert (code, "not permitted" in err) == (0, False), err


@pytest.mark.parametrize(
    ("capabilities", "mount", "lacking"),
    [("+bpf,+perfmon", MOUNT, "with the capability DAC_READ_SEARCH"), (CAPABILITIES, "", "mount -t tracefs"),
     ("+dac_read_search", MOUNT, "(BPF, PERFMON missing)")],
)  # fmt: skip
def test_the_advice_on_capabilities_names_what_is_missing(capabilities, mount, lacking):
    code, err = as_nobody(capabilities, mount)
    assert code == 1
    assert lacking in err


def test_what_is_no_regular_file_is_no_object(tmp_path):
    os.mkfifo(tmp_path / "fifo.o")
    with open(tmp_path / "huge.o", "wb") as huge:
        huge.truncate(1 << 40)
    expected = {"/dev/zero": "it is a device", "fifo.o": "it is a pipe", "huge.o": "more than 64 MiB", ".": "directory"}
    for path, word in expected.items():
        for command in ("run", "info"):
            code, err = said(EUNOMIA, command, path if path != "." else "./", cwd=tmp_path)
            assert (code, word in err) == (1, True), err


BROKEN = {
    "absent": "there_is_no_such_module:TRACKER",
    "leaves": "eu_leaves:TRACKER",
    "raises": "eu_raises:TRACKER",
    "nothing": "eu_sound:NOTHING",
    "wrong": "eu_sound:WRONG",
    "bold\x1b[1m": "eu_sound:WRONG",
}


@pytest.fixture
def broken(tmp_path):
    """Return the environment of a package whose entry points are broken in one way each."""
    info = tmp_path / "eu_broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: eu-broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[eunomia.trackers]\n" + "".join(f"{name} = {value}\n" for name, value in BROKEN.items())
    )
    (tmp_path / "eu_leaves.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "eu_raises.py").write_text("1 / 0\n")
    (tmp_path / "eu_sound.py").write_text("WRONG = 'a text'\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_broken_packages_are_named_and_keep_nobody_else_from_running(broken, tmp_path):
    answer = tmp_path / "completed"
    done = subprocess.run([EUNOMIA, "list", "-o", "json"], capture_output=True, text=True, env=broken, check=True)
    rows = {r["tracker"]: r for r in map(json.loads, done.stdout.splitlines())}
    assert set(rows) >= {"process", "opensnoop", "syscall", "container", *BROKEN}
    assert rows["process"]["runs"] != "no"
    for name, value in BROKEN.items():
        assert rows[name]["runs"] == "no"
        assert f"{value} of eu-broken is broken" in rows[name]["why"]
    assert "ZeroDivisionError" in rows["raises"]["why"]
    assert "SystemExit: 7" in rows["leaves"]["why"]
    assert "it is a str, not a Tracker" in rows["wrong"]["why"]
    completing = {"COMP_LINE": "eunomia run ", "COMP_POINT": "12", "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    assert subprocess.run([EUNOMIA], env={**broken, **completing}, check=False).returncode == 0
    words = answer.read_text().split("\v")
    assert "process" in " ".join(words)
    assert all(w.strip().isprintable() for w in words), "an escape sequence would reach the terminal"
    for words in (["run", "leaves"], ["info", "wrong"]):
        code, err = said(EUNOMIA, *words, env=broken)
        assert code == 1
        assert f"tracker {words[1]}: its entry point" in err
    assert said(EUNOMIA, "info", "process", env=broken)[0] == 0


def test_collections_of_garbage_are_as_before_when_a_run_is_over():
    needs.root()
    script = """
import gc
from eunomia.cli import main
assert main(["run", "process", "--duration", "100ms", "--output", "/dev/null"]) == 0
print(gc.isenabled(), gc.get_freeze_count())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0"]


def test_two_names_for_this_node_have_one_order_of_precedence():
    script = "from eunomia import meaning; from eunomia.kubernetes import watcher; print(meaning.node(), watcher.node_name(''))"
    both = {"EUNOMIA_NODE": "ours", "NODE_NAME": "theirs"}
    for given, expected in ((both, "ours"), ({"NODE_NAME": "theirs"}, "theirs")):
        environment = {k: v for k, v in os.environ.items() if k not in both} | given
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.split() == [expected, expected]
