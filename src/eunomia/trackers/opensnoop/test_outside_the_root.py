# SPDX-License-Identifier: BSD-2-Clause
"""What opensnoop says of files that are not below the root of who opens them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import needs
from tests.harness import tracked
from tests.runtimes.docker import Docker

# Functions for the scripts below, each of which runs in a process of its own.
PRELUDE = """
import ctypes, os, struct, sys
BENEATH, IN_ROOT = 0x08, 0x10
libc = ctypes.CDLL(None, use_errno=True)
def openat2(directory, path, resolve):
    how = struct.pack("QQQ", os.O_RDONLY, 0, resolve)
    return libc.syscall(437, directory, path.encode(), how, len(how))
def attempt(path, directory=None):
    try:
        return os.open(path, os.O_RDONLY, dir_fd=directory)
    except OSError:
        pass
def below(root):
    os.chroot(root)
    os.chdir("/")
"""


def led(script: str, cwd: Path, *command: str) -> dict[str, str]:
    """Run a script, by a command that it is given to; return where each path that it opened led."""
    comm = f"led-{os.getpid()}"
    with tracked("opensnoop") as seen:
        named = f"libc.prctl(15, b'{comm}', 0, 0, 0)\n"  # PR_SET_NAME: other processes open files too
        words = [*command, sys.executable, "-c", PRELUDE + named + script]
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {r["path"]: r["resolved"] for r in seen.rows("open", comm=comm)}


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """Return a directory to be a root: it has files, and another is beside it."""
    (tmp_path / "jail/etc").mkdir(parents=True)
    (tmp_path / "jail/etc/mine").touch()
    (tmp_path / "secret").touch()
    return tmp_path / "jail"


def test_a_descriptor_from_outside_of_a_chroot_leads_to_what_is_unreachable(jail: Path):
    outside = jail.parent
    script = """
leaked = os.open("..", os.O_PATH | os.O_DIRECTORY)
below(".")
attempt("secret", leaked), attempt("./absent", leaked), attempt("../../etc/../absent2", leaked), attempt("/etc/mine")
"""
    paths = led(script, jail)
    assert paths["secret"] == f"(unreachable){outside}/secret"
    assert paths["./absent"] == f"(unreachable){outside}/absent"
    assert paths["../../etc/../absent2"] == f"(unreachable){outside.parent.parent}/absent2"
    assert paths["/etc/mine"] == "/etc/mine"


def test_a_working_directory_outside_of_the_root_is_unreachable_however_far_up_it_goes(jail: Path):
    script = """
os.chdir("..")
os.chroot("jail")
attempt("secret"), attempt("./absent"), attempt("../" * 60 + "etc/passwd"), attempt("../" * 60 + "absent2"), attempt("/absent3")
"""
    paths = led(script, jail)
    assert paths["secret"] == f"(unreachable){jail.parent}/secret"
    assert paths["./absent"] == f"(unreachable){jail.parent}/absent"
    assert paths["../" * 60 + "etc/passwd"] == "(unreachable)/etc/passwd"
    assert paths["../" * 60 + "absent2"] == "(unreachable)/absent2"
    assert paths["/absent3"] == "/absent3"


def test_a_path_that_openat2_keeps_in_a_root_stays_there_also_when_it_cannot_be_opened(jail: Path):
    script = """
root = os.open(".", os.O_PATH)
for path in ("/etc/mine", "../../etc/mine", "/../absent", "a/../../../x/./absent", "..", "/..//../etc/../absent2",
             "...", "..x/absent", "../.."):
    openat2(root, path, IN_ROOT)
openat2(root, "../secret", BENEATH)
"""
    paths = led(script, jail)
    assert paths["/etc/mine"] == paths["../../etc/mine"] == f"{jail}/etc/mine"
    assert paths["/../absent"] == f"{jail}/absent"
    assert paths["a/../../../x/./absent"] == f"{jail}/x/absent"
    assert paths["/..//../etc/../absent2"] == f"{jail}/absent2"
    assert paths["..."] == f"{jail}/..."
    assert paths["..x/absent"] == f"{jail}/..x/absent"
    assert paths[".."] == paths["../.."] == str(jail)
    assert paths["../secret"] == str(jail.parent / "secret")  # it was refused, and would have been that


def test_the_root_of_openat2_may_itself_be_unreachable(jail: Path):
    script = """
leaked = os.open("..", os.O_PATH | os.O_DIRECTORY)
below(".")
openat2(leaked, "../../secret", IN_ROOT), openat2(leaked, "../../absent", IN_ROOT)
"""
    paths = led(script, jail)
    assert paths["../../secret"] == f"(unreachable){jail.parent}/secret"
    assert paths["../../absent"] == f"(unreachable){jail.parent}/absent"


def test_another_mount_namespace_is_unreachable(jail: Path):
    needs.program("unshare", "util-linux")
    command = ("sh", "-c", 'exec 9<..; exec unshare -m "$@"', "sh")
    paths = led('attempt("secret", 9), attempt("../secret")', jail, *command)
    assert paths["secret"] == f"(unreachable){jail.parent}/secret"
    assert paths["../secret"] == f"{jail.parent}/secret"


def test_a_mount_that_hangs_nowhere_is_unreachable(jail: Path):
    needs.program("unshare", "util-linux")
    script = """
os.system("mount -t tmpfs none etc && mkdir etc/deep && touch etc/deep/file")
here, top = os.open("etc/deep", os.O_PATH), os.open("etc", os.O_PATH)
os.system("umount -l etc")
attempt("file", here), attempt("./.", top)
"""
    paths = led(script, jail, "unshare", "-m")
    assert paths["file"] == "(unreachable)/deep/file"
    assert paths["./."] == "(unreachable)/"


def test_a_directory_that_was_moved_out_of_what_is_mounted_is_unreachable(jail: Path):
    needs.program("unshare", "util-linux")
    (jail / "etc/deep").mkdir()
    (jail / "etc/deep/file").touch()
    script = """
os.mkdir("bound")
os.system("mount -t tmpfs none bound && mkdir -p bound/part/deep bound/rest && touch bound/part/deep/file")
os.mkdir("etc/view")
os.system("mount --bind bound/part etc/view")
below("etc/view")
deep = os.open("deep", os.O_PATH)
os.write(1, b"ready\\n")
sys.stdin.read()
attempt("file", deep), attempt("..", deep), attempt("../..", deep)
"""
    with tracked("opensnoop") as seen:
        words = ["unshare", "-m", sys.executable, "-c", PRELUDE + script]
        child = subprocess.Popen(words, cwd=jail, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        mount = f"nsenter -t {child.pid} -m mv {jail}/bound/part/deep {jail}/bound/rest/deep"
        assert subprocess.run(mount.split(), check=False).returncode == 0
        child.communicate()
        assert child.returncode == 0
    paths = {r["path"]: r["resolved"] for r in seen.rows("open", pid=child.pid)}
    assert paths["file"] == "(unreachable)/rest/deep/file"
    assert paths[".."] == "(unreachable)/rest"
    assert paths["../.."] == "(unreachable)/"


def test_what_was_removed_says_so(jail: Path):
    script = """
os.mkdir("gone")
there = os.open("gone", os.O_PATH)
file = os.open("gone/file", os.O_CREAT)
os.unlink("gone/file"), os.rmdir("gone")
attempt(f"/proc/self/fd/{file}"), attempt("./.", there), attempt("absent", there)
print(os.readlink(f"/proc/self/fd/{file}"), file)
"""
    paths = led(script, jail)
    assert [v for k, v in paths.items() if k.startswith("/proc/self/fd/")][-1] == f"{jail}/gone/file (deleted)"
    assert paths["./."] == f"{jail}/gone (deleted)"
    assert paths["absent"] == f"{jail}/gone (deleted)/absent"


def test_a_container_that_reaches_the_host_by_a_descriptor_shows_it(docker: Docker):
    """As by CVE-2024-21626, where runc leaks a descriptor of one of the host's directories."""
    docker.run("run", "-d", "--name", "inside", docker.image, "sleep", "1000")
    try:
        pid = docker.run("inspect", "-f", "{{.State.Pid}}", "inside").stdout.strip()
        enter = ("sh", "-c", f'exec 9</etc; exec nsenter -t {pid} -m -p sh -c "cat /proc/self/fd/9/passwd /etc/passwd"')
        with tracked("opensnoop") as seen:
            subprocess.run(enter, capture_output=True, check=False)
    finally:
        docker.run("rm", "-f", "inside")
    assert {r["resolved"] for r in seen.rows("open", path="/proc/self/fd/9/passwd")} == {"(unreachable)/etc/passwd"}
    assert {r["resolved"] for r in seen.rows("open", path="/etc/passwd", comm="cat")} == {"/etc/passwd"}
