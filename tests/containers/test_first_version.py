# SPDX-License-Identifier: BSD-2-Clause
"""A host with cgroup v1: a mount namespace without v2, so that no runtime uses it either."""

import subprocess
import sys
from pathlib import Path

import pytest

from eunomia.cgroup_hierarchy import of_first_version, unified
from tests import needs

ROOT = Path(__file__).parent.parent.parent


def test_all_holds_on_a_host_that_has_version_1_alone():
    """Run what ``on_first_version.py`` asks, in a process of its own: threads cannot leave a namespace alone."""
    needs.root()
    if not of_first_version():
        pytest.skip("needs cgroup v1 hierarchies: this machine has v2 only")
    second = unified()
    hide = "true" if second is None else f"umount -l {second.mount}"
    tests = f"{sys.executable} -m pytest -q -p no:cacheprovider tests/containers/on_first_version.py"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{hide} && exec {tests}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
