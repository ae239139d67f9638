# SPDX-License-Identifier: BSD-2-Clause
"""The tests' own containerd: what other tests build on."""

from pathlib import Path

import pytest

from tests import needs
from tests.runtimes.containerd import Containerd, private_containerd
from tests.runtimes.cri import decoded, encoded


def test_a_container_runs_and_prints(containerd: Containerd):
    assert containerd.once("hello", "echo", "hello") == "hello\n"


def test_a_command_that_fails_says_why(containerd: Containerd):
    with pytest.raises(AssertionError, match="no-such-container"):
        containerd.ctr("container", "info", "no-such-container")


def test_messages_survive_the_way_there_and_back():
    message = {1: "text", 2: {1: 300, 2: ["a", "b"]}, 3: {"key": "value"}, 4: 0}
    fields = decoded(encoded(message))
    assert fields[1] == [b"text"]
    assert decoded(fields[2][0]) == {1: [300], 2: [b"a", b"b"]}
    assert decoded(fields[3][0]) == {1: [b"key"], 2: [b"value"]}
    assert 4 not in fields


def test_nothing_is_left_of_pods_and_containers_even_of_a_failed_run():
    needs.root()
    needs.program("containerd", "containerd")
    before = _processes()
    with pytest.raises(ZeroDivisionError), private_containerd() as containerd:
        root, pid = containerd.directory, containerd.pid
        containerd.start("stays", namespace=f"{containerd.namespace}-left")
        pod = containerd.cri.pod("web", image=containerd.image, host_network=True)
        assert len(_cgroups("stays")) == len(_cgroups(pod.sandbox)) > 0
        raise ZeroDivisionError
    assert not root.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert not _cgroups("stays")
    assert not _cgroups(pod.sandbox)
    assert not [line for line in _processes() - before if str(root) in line]


def _cgroups(container: str) -> list[Path]:
    """Return a container's cgroups, one a hierarchy."""
    return list(Path("/sys/fs/cgroup").glob(f"**/{container}"))


def _processes() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(path.read_text(errors="replace"))
        except OSError:
            continue
    return found
