# SPDX-License-Identifier: BSD-2-Clause
"""The container tracker's rows about real containers."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests import needs
from tests.harness import ALL, Row, Seen, batch_of, schema_of, tracked
from tests.runtimes.containerd import Containerd
from tests.runtimes.docker import Docker
from tests.runtimes.podman import Podman

from eunomia.containers.cgroup_files import mount_point
from eunomia.containers.selectors import Selectors


def life(seen: Seen, name: str) -> list[Row]:
    """Return what happened to the container that had, or has, a name."""
    ids = {r["container.id"] for r in seen.all if r["container.name"] == name}
    return [r for r in seen.all if r["container.id"] in ids]


def events(seen: Seen, name: str) -> list[str]:
    return [r["event"] for r in life(seen, name)]


@pytest.fixture
def removed(docker: Docker) -> Iterator[list[str]]:
    """Names of containers to remove in the end."""
    names: list[str] = []
    yield names
    for name in names:
        docker.run("rm", "-f", name, check=False)


# Bytes to rows


def test_a_record_reads_as_a_row():
    schema = schema_of("container", "life")
    batch = batch_of(
        schema,
        {"event": 3, "pid": 7, "previous_name": b"old"},
        {"event": 7, "exit_code": -1, "signal": 9, "duration_ns": 5},
    )
    assert list(batch.values("event")) == ["renamed", "exited"]
    assert list(batch.values("previous_name")) == ["old", ""]
    assert list(batch.values("exit_code")) == [0, None]
    assert list(batch.values("signal")) == ["", "SIGKILL"]
    names = schema.fields["event"].names
    assert names is not None
    assert list(names.values()) == [
        "created", "started", "renamed", "paused", "unpaused", "oom_killed", "exited", "removed",
    ]  # fmt: skip


# Docker


def test_a_run_is_four_events_each_with_name_and_image(docker: Docker):
    with tracked("container") as seen:
        docker.run("run", "--rm", "--name", "brief", docker.image, "true")
        seen.until(lambda s: "removed" in events(s, "brief"))
    rows = life(seen, "brief")
    assert [r["event"] for r in rows] == ["created", "started", "exited", "removed"]
    for row in rows:
        assert (row["container.name"], row["container.image"], row["container.runtime"]) == (
            "brief", docker.image, "docker",
        )  # fmt: skip
        assert row["identity"] == "resolved"
    _, started, exited, _ = rows
    assert started["pid"] == exited["pid"] > 1
    assert (exited["exit_code"], exited["signal"]) == (0, "")
    assert 0 < exited["duration_ns"] < 5e9 * needs.PATIENCE
    assert [r["time"] for r in rows] == sorted(r["time"] for r in rows)
    account = seen.ledger("life")
    assert account.balanced
    assert (account.emitted, account.lost) == (len(seen.all), 0)


def test_the_end_is_shown_as_by_wait(docker: Docker, removed: list[str]):
    removed += ["fails", "killed"]
    with tracked("container") as seen:
        docker.run("run", "--name", "fails", docker.image, "sh", "-c", "exit 3", check=False)
        docker.run("run", "-d", "--name", "killed", docker.image, "sleep", "1000")
        docker.run("kill", "killed")
        seen.until(lambda s: "exited" in events(s, "killed"))
    end = seen.row(event="exited", **{"container.name": "fails"})
    assert (end["exit_code"], end["signal"]) == (3, "")
    end = seen.row(event="exited", **{"container.name": "killed"})
    assert (end["exit_code"], end["signal"]) == (137, "SIGKILL")
    assert events(seen, "fails") == events(seen, "killed") == ["created", "started", "exited"]


def test_a_container_is_paused_and_goes_on(docker: Docker, removed: list[str]):
    removed += ["still"]
    with tracked("container") as seen:
        docker.run("run", "-d", "--name", "still", docker.image, "sleep", "1000")
        for event in ("pause", "unpause", "pause", "unpause"):
            count = events(seen, "still").count(f"{event}d") + 1
            docker.run(event, "still")
            seen.until(lambda s, e=event, n=count: events(s, "still").count(f"{e}d") == n)
        docker.run("rm", "-f", "still")
        seen.until(lambda s: "removed" in events(s, "still"))
    between = ["paused", "unpaused"] * 2
    assert events(seen, "still") == ["created", "started", *between, "exited", "removed"]


def test_a_rename_has_both_names(docker: Docker, removed: list[str]):
    removed += ["before", "after"]
    with tracked("container") as seen:
        docker.run("run", "-d", "--name", "before", docker.image, "sleep", "1000")
        docker.run("rename", "before", "after")
        seen.until(lambda s: "renamed" in events(s, "after"))
        docker.run("rm", "-f", "after")
        seen.until(lambda s: "removed" in events(s, "after"))
    row = seen.row(event="renamed", **{"container.name": "after"})
    assert (row["previous_name"], row["container.name"]) == ("before", "after")
    assert events(seen, "after") == ["created", "started", "renamed", "exited", "removed"]
    assert [r["container.name"] for r in life(seen, "after")] == ["before", "before", "after", "after", "after"]


def test_one_that_is_stopped_and_started_again_is_not_created_again(docker: Docker, removed: list[str]):
    removed += ["again"]
    with tracked("container") as seen:
        docker.run("run", "-d", "--name", "again", docker.image, "sleep", "1000")
        docker.run("kill", "-s", "TERM", "again")
        docker.run("stop", "-t", "0", "again")
        docker.run("start", "again")
        docker.run("rm", "-f", "again")
        seen.until(lambda s: "removed" in events(s, "again"))
    assert events(seen, "again") == ["created", "started", "exited", "started", "exited", "removed"]
    first, second = (r for r in life(seen, "again") if r["event"] == "started")
    assert first["pid"] != second["pid"]


def test_one_that_is_never_started_is_created_and_removed(docker: Docker):
    with tracked("container") as seen:
        docker.run("create", "--name", "idle", docker.image, "true")
        seen.until(lambda s: events(s, "idle"))  # one that is gone within a fifth of a second may not be reported
        docker.run("rm", "idle")
        seen.until(lambda s: "removed" in events(s, "idle"))
    assert events(seen, "idle") == ["created", "removed"]
    assert [r["container.image"] for r in life(seen, "idle")] == [docker.image] * 2


def test_one_that_cannot_start_has_not_started(docker: Docker, removed: list[str]):
    removed += ["broken"]
    with tracked("container") as seen:
        docker.run("run", "--name", "broken", docker.image, "/nonexistent", check=False)
        docker.run("rm", "broken")
        seen.until(lambda s: "removed" in events(s, "broken"))
    assert events(seen, "broken") == ["created", "removed"]


def test_one_that_ran_before_ends_with_its_code(docker: Docker, removed: list[str]):
    removed += ["early"]
    script = "trap 'exit 5' TERM; echo trapped; sleep 1000 & wait"
    docker.run("run", "-d", "--name", "early", docker.image, "sh", "-c", script)
    began = time.monotonic()
    time.sleep(0.2)
    while "trapped" not in docker.run("logs", "early").stdout:
        assert time.monotonic() - began < 10 * needs.PATIENCE, "a first process without a trap ignores the signal"
    with tracked("container") as seen:
        docker.run("kill", "-s", "TERM", "early")
        seen.until(lambda s: "exited" in events(s, "early"))
        docker.run("rm", "early")
        seen.until(lambda s: "removed" in events(s, "early"))
    assert events(seen, "early") == ["exited", "removed"]
    end = life(seen, "early")[0]
    assert (end["exit_code"], end["signal"]) == (5, "")
    assert 0.2e9 < end["duration_ns"] < (time.monotonic() - began + 10) * 1e9


def test_one_that_was_stopped_before_starts(docker: Docker, removed: list[str]):
    removed += ["asleep"]
    docker.run("create", "--name", "asleep", docker.image, "true")
    with tracked("container") as seen:
        docker.run("start", "-a", "asleep")
        docker.run("rm", "asleep")
        seen.until(lambda s: "removed" in events(s, "asleep"))
    assert events(seen, "asleep") == ["started", "exited", "removed"]


def test_an_out_of_memory_kill_is_reported(docker: Docker, removed: list[str]):
    removed += ["greedy"]
    hog = "a=x; while :; do a=$a$a; done"
    with tracked("container") as seen:
        words = ["run", "-d", "--name", "greedy", "--memory", "16m", docker.image, "sh", "-c", hog]
        done = docker.run(*words, check=False)
        if done.returncode or "does not support memory limit" in done.stderr:
            pytest.skip(f"needs a memory controller that Docker may use: {done.stderr.strip()[-200:]}")
        seen.until(lambda s: "exited" in events(s, "greedy"), 20)
    assert events(seen, "greedy") == ["created", "started", "oom_killed", "exited"]
    killed, end = life(seen, "greedy")[2:]
    assert killed["pid"] == end["pid"]
    assert end["signal"] == "SIGKILL"


_HUNGRY_THREAD = """
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *eat(void *unused)
{
	size_t size = 1 << 20;

	for (char *more; (more = malloc(size));)
		memset(more, 1, size);
	return unused;
}

int main(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, eat, NULL);
	pthread_exit(NULL);
}
"""


def test_a_victim_whose_main_thread_has_ended_is_shown_by_its_process(
    docker: Docker, removed: list[str], tmp_path: Path
):
    removed += ["headless"]
    (tmp_path / "hungry.c").write_text(_HUNGRY_THREAD)
    gcc = needs.program("gcc", "gcc")
    subprocess.run([gcc, "-static", "-pthread", "-o", tmp_path / "hungry", tmp_path / "hungry.c"], check=True)
    with tracked("container") as seen:
        words = [
            "run",
            "-d",
            "--name",
            "headless",
            "--memory",
            "16m",
            "-v",
            f"{tmp_path}:/t:ro",
            docker.image,
            "/t/hungry",
        ]
        done = docker.run(*words, check=False)
        if done.returncode or "does not support memory limit" in done.stderr:
            pytest.skip(f"needs a memory controller that Docker may use: {done.stderr.strip()[-200:]}")
        seen.until(lambda s: "exited" in events(s, "headless"), 20)
    assert sorted(events(seen, "headless")) == ["created", "exited", "oom_killed", "started"]
    one = {row["event"]: row for row in life(seen, "headless")}
    assert one["oom_killed"]["pid"] == one["exited"]["pid"] == one["started"]["pid"]


def test_a_cgroup_that_outlives_its_container_is_that_of_its_next_run(docker: Docker, removed: list[str]):
    """A process in a cgroup below it keeps the cgroup, and its id."""
    removed += ["kept"]
    with tracked("container") as seen:
        container_id = docker.run("run", "-d", "--name", "kept", docker.image, "sleep", "1000").stdout.strip()
        cgroup = next(Path(f"{mount_point()}").rglob(container_id))
        before, inner = cgroup.stat().st_ino, cgroup / "inner"
        inner.mkdir()
        with subprocess.Popen(["sleep", "1000"]) as other:
            (inner / "cgroup.procs").write_text(str(other.pid))
            docker.run("kill", "kept")
            docker.run("wait", "kept")
            docker.run("start", "kept")
            assert cgroup.stat().st_ino == before
            docker.run("kill", "kept")
            seen.until(lambda s: events(s, "kept").count("exited") == 2)
            other.kill()
        inner.rmdir()
        with suppress(FileNotFoundError):  # the first one counts
            cgroup.rmdir()
    assert events(seen, "kept") == ["created", "started", "exited", "started", "exited"]


def test_what_is_executed_in_it_later_is_not_its_start(docker: Docker, removed: list[str]):
    removed += ["busy"]
    with tracked("container") as seen:
        docker.run("run", "-d", "--name", "busy", docker.image, "sleep", "1000")
        for _ in range(3):
            docker.run("exec", "busy", "true")
        docker.run("kill", "busy")
        seen.until(lambda s: "exited" in events(s, "busy"))
    assert events(seen, "busy") == ["created", "started", "exited"]


def test_cgroups_in_a_container_have_no_life_of_their_own(docker: Docker, removed: list[str]):
    removed += ["outer"]
    with tracked("container") as seen:
        container = docker.run("run", "-d", "--name", "outer", docker.image, "sleep", "1000").stdout.strip()
        base = next(p for p in (f"/sys/fs/cgroup/unified/docker/{container}", f"/sys/fs/cgroup/docker/{container}")
                    if os.path.isdir(p))  # fmt: skip
        inner = f"{base}/service"
        os.mkdir(inner)
        enter = f"echo $$ > {inner}/cgroup.procs; /bin/true; exit 7"
        assert subprocess.run(["sh", "-c", enter], check=False).returncode == 7
        os.rmdir(inner)
        docker.run("kill", "outer")
        seen.until(lambda s: "exited" in events(s, "outer"))
    assert events(seen, "outer") == ["created", "started", "exited"]
    assert life(seen, "outer")[-1]["signal"] == signal.SIGKILL.name


def test_thirty_at_the_same_time_are_all_shown_in_full(docker: Docker):
    names = [f"crowd{i}" for i in range(30)]
    with tracked("container") as seen:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: docker.run("run", "--rm", "--name", n, docker.image, "true"), names))
        seen.until(lambda s: all("removed" in events(s, n) for n in names), 10)
    for name in names:
        assert events(seen, name) == ["created", "started", "exited", "removed"]
        assert {r["identity"] for r in life(seen, name)} == {"resolved"}


def test_only_selected_containers_are_shown(docker: Docker):
    chosen = ALL._replace(selectors=Selectors(containers=("chosen",)))
    with tracked("container", filters=chosen) as seen:
        docker.run("run", "--rm", "--name", "chosen", docker.image, "true")
        docker.run("run", "--rm", "--name", "other", docker.image, "true")
        seen.until(lambda s: "removed" in events(s, "chosen"))
    assert {r["container.name"] for r in seen.all} == {"chosen"}
    assert events(seen, "chosen") == ["created", "started", "exited", "removed"]
    account = seen.ledger("life")
    assert account.balanced
    assert account.filtered >= 3


# containerd, which keeps no record that outlasts a cgroup


def test_a_plain_container_of_containerd_is_paused_goes_on_and_ends(containerd: Containerd):
    with tracked("container") as seen:
        containerd.start("plain", "sleep", "1000")
        for word in ("pause", "resume"):
            containerd.ctr("task", word, "plain")
            event = "paused" if word == "pause" else "unpaused"
            seen.until(lambda s, e=event: e in events(s, "plain"))
        containerd.remove("plain")
        seen.until(lambda s: "removed" in events(s, "plain"))
    rows = life(seen, "plain")
    assert [r["event"] for r in rows] == ["created", "started", "paused", "unpaused", "exited", "removed"]
    assert {(r["container.runtime"], r["container.image"]) for r in rows} == {("containerd", containerd.image)}
    assert rows[4]["signal"] == "SIGKILL"


def test_a_short_container_of_containerd_is_shown_in_full(containerd: Containerd):
    with tracked("container") as seen:
        containerd.once("short", "true")
        seen.until(lambda s: "removed" in events(s, "short"))
    assert events(seen, "short") == ["created", "started", "exited", "removed"]


def test_a_pods_containers_have_its_name(containerd: Containerd):
    with tracked("container") as seen:
        pod = containerd.cri.pod("lively", image=containerd.image, host_network=True)
        seen.until(lambda s: len(s.rows(event="started", **{"pod.name": "lively"})) >= 1)
        containerd.cri.remove(pod.sandbox)
        seen.until(lambda s: s.rows(event="removed", **{"pod.name": "lively"}))
    rows = seen.rows(**{"pod.name": "lively"})
    for container in {r["container.id"] for r in rows}:
        happened = [r["event"] for r in rows if r["container.id"] == container]
        assert happened == ["created", "started", "exited", "removed"]


# Podman, whose word is a database


def test_a_short_container_of_podman_is_shown_in_full(podman: Podman):
    with tracked("container") as seen:
        podman.run("run", "--rm", "--name", "pod-short", podman.image, "sh", "-c", "exit 6", check=False)
        seen.until(lambda s: "removed" in events(s, "pod-short"))
    rows = life(seen, "pod-short")
    assert [r["event"] for r in rows] == ["created", "started", "exited", "removed"]
    assert rows[2]["exit_code"] == 6
    assert {(r["container.runtime"], r["container.image"]) for r in rows} == {("podman", podman.image)}


def test_a_container_of_podman_lives_until_its_record_is_gone(podman: Podman):
    with tracked("container") as seen:
        podman.run("run", "-d", "--name", "pod-long", podman.image, "sleep", "1000")
        for event in ("pause", "unpause"):
            podman.run(event, "pod-long")
            seen.until(lambda s, e=event: f"{e}d" in events(s, "pod-long"))
        podman.run("rename", "pod-long", "pod-other")
        seen.until(lambda s: "renamed" in events(s, "pod-other"))
        podman.run("stop", "-t", "0", "pod-other")
        podman.run("start", "pod-other")
        seen.until(lambda s: events(s, "pod-other").count("started") == 2)
        podman.run("create", "--name", "pod-idle", podman.image, "true")
        seen.until(lambda s: "created" in events(s, "pod-idle"))
        podman.run("rm", "-f", "-t", "0", "pod-other", "pod-idle")
        seen.until(lambda s: {"removed"} <= set(events(s, "pod-other")) & set(events(s, "pod-idle")))
    between = ["paused", "unpaused", "renamed", "exited", "started", "exited"]
    assert events(seen, "pod-other") == ["created", "started", *between, "removed"]
    assert events(seen, "pod-idle") == ["created", "removed"]
