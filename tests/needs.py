# SPDX-License-Identifier: BSD-2-Clause
"""The only reasons to skip a test: this machine lacks something that can be named."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

# How many times longer than usual to wait for something: more than 1 on machines that are emulated.
PATIENCE = float(os.environ.get("EUNOMIA_PATIENCE") or 1)


def root() -> None:
    """Skip unless root: probes are loaded and containers are started by nobody else."""
    if os.geteuid() != 0:
        pytest.skip("needs root: run `sudo make test`")


def checkout_for_all(command: str, **who: object) -> None:
    """Skip where another user cannot start what was built: the checkout lies below root's home, say."""
    root()
    try:
        done = subprocess.run([command, "--version"], cwd="/", capture_output=True, check=False, **who)
        failed = done.returncode != 0
    except PermissionError:
        failed = True
    if failed:
        pytest.skip("needs a checkout that other users can read")


def program(name: str, package: str) -> str:
    """Return a program's path, or skip and say Debian's package that has it."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"needs {name}: apt install {package}")
    return path


def module(name: str, package: str) -> None:
    """Skip where an optional Python package is not installed, and say which extra brings it."""
    from importlib.util import find_spec

    if find_spec(name) is None:
        pytest.skip(f"needs the Python package {name}: .venv/bin/pip install -e '.[{package.partition('[')[2]}")
