# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures for tests/ and for the tests in the trackers' folders."""

from __future__ import annotations

import pytest

pytest_plugins = [
    "tests.acts",
    "tests.runtimes.docker",
    "tests.runtimes.containerd",
    "tests.runtimes.podman",
    "tests.kubernetes.real.cluster",
]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which every test was skipped has shown nothing, so it fails as one without tests does."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = reporter.stats.get("passed") if reporter else True
    if exitstatus == pytest.ExitCode.OK and not passed and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
