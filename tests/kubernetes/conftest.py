# SPDX-License-Identifier: BSD-2-Clause
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.kubernetes.fake import NODE, FakeApi, fake_api


@pytest.fixture
def api() -> Iterator[FakeApi]:
    needs.module("kubernetes", "eunomia[kubernetes]")
    with fake_api() as running:
        yield running


@pytest.fixture
def kubeconfig(api: FakeApi, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters: [{{name: fake, cluster: {{server: "{api.host}"}}}}]
users: [{{name: me, user: {{token: secret}}}}]
contexts: [{{name: fake, context: {{cluster: fake, user: me}}}}]
current-context: fake
"""
    )
    return path


class Following:
    """A watcher at work, and what it told."""

    def __init__(self, kubeconfig: Path, node: str = NODE) -> None:
        from eunomia.kubernetes.access import Access
        from eunomia.kubernetes.watcher import Watcher

        self.said: list[str] = []
        self.watcher = Watcher(Access(str(kubeconfig)), node, self.said.append, pause=0.02, pause_limit=0.4)
        self.changes: list[tuple[str, str]] = []  # what the follower of pods passed on
        follower = self.watcher._pods
        put, drop = follower._put, follower._drop
        follower._put = lambda pod: (self.changes.append((pod.uid, pod.version)), put(pod))
        follower._drop = lambda uid: (self.changes.append((uid, "gone")), drop(uid))
        self.watcher.start()

    def pod(self, uid: str):
        return self.watcher.pods.get(uid)

    def until(self, holds: Callable[[], object], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not within {seconds} s; said {self.said}, passed on {self.changes}"
            time.sleep(0.005)


@pytest.fixture
def follow(kubeconfig: Path) -> Iterator[Callable[..., Following]]:
    """Start following when called; ended with the test."""
    running: list[Following] = []

    def begin(node: str = NODE) -> Following:
        running.append(Following(kubeconfig, node))
        return running[-1]

    yield begin
    for one in running:
        one.watcher.close()
        one.until(lambda one=one: not any(t.is_alive() for t in one.watcher._threads))
