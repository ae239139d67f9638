# SPDX-License-Identifier: BSD-2-Clause
"""The shared filters, on real processes: nothing unwanted is shown, nothing wanted is missing."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from eunomia.containers.selectors import Selectors
from eunomia.filters import Filters
from tests.containers.test_kernel import cgroup
from tests.harness import tracked

OPEN = "os.close(os.open('/etc/hostname', 0))"


def opens(ended):
    return [r for r in ended.rows if r["path"] == "/etc/hostname"]


def test_pid_shows_the_processes_named_and_no_other(start, worker):
    ours, theirs, third = worker(OPEN), worker(OPEN), worker(OPEN)
    running = start("opensnoop", "-o", "json", "--pid", f"{ours.pid},{third.pid}", "--pid", str(ours.pid)).attached()
    for one in (ours, theirs, third):
        one.go()
    ended = running.end()
    assert [r["pid"] for r in opens(ended)] == [ours.pid, third.pid]
    assert {r["pid"] for r in ended.rows} <= {ours.pid, third.pid}


@pytest.mark.parametrize("given", [("--comm", "eu-one,eu-two"), ("--comm", "eu-one", "--comm", "eu-two")])
def test_comm_takes_several_names(start, tmp_path, given):
    running = start("process", "-o", "json", "--streams", "exec", *given).attached()
    for name in ("eu-one", "eu-two", "eu-three"):
        shutil.copy("/bin/true", tmp_path / name)
        subprocess.run([tmp_path / name], check=True)
    ended = running.end()
    assert [r["comm"] for r in ended.rows] == ["eu-one", "eu-two"]


def test_comm_takes_names_longer_than_the_kernel_keeps_and_any_bytes(start, tmp_path):
    names = [b"eunomia-has-a-long-name", b"eu-\xff\xfe\x1b[2J"]
    running = start("process", "-o", "json", "--streams", "exec", "--comm", names[0], "--comm", names[1]).attached()
    for name in names:
        path = os.fsencode(tmp_path) + b"/" + name
        shutil.copy("/bin/true", path)
        subprocess.run([path], check=True)
    assert [r["comm"] for r in running.end().rows] == ["eunomia-has-a-l", "eu-\\xff\\xfe\x1b[2J"]


def test_uid_shows_that_user_alone(start):
    running = start("process", "-o", "json", "--uid", "65533,65534").attached()
    subprocess.run(["/bin/true"], check=True)
    subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "/bin/true"], check=True)
    rows = running.end().rows
    assert {r["uid"] for r in rows} == {65534}
    assert any(r["stream"] == "exec" and r["comm"] == "true" for r in rows)


def test_filters_of_different_kinds_must_all_hold(start, worker):
    one = worker(OPEN)
    pid = str(one.pid)
    right = start("opensnoop", "-o", "json", "--pid", pid, "--uid", "0", "--host-only").attached()
    wrong = start("opensnoop", "-o", "json", "--pid", pid, "--uid", "4242").attached()
    inside = start("opensnoop", "-o", "json", "--pid", pid, "--containers-only").attached()
    one.go()
    assert len(opens(right.end())) == 1
    assert wrong.end().out == inside.end().out == b""


def test_it_never_shows_itself_unless_asked(start):
    for extra, shown in (((), False), (("--self",), True)):
        running = start("opensnoop", "-o", "json", "--duration", "700ms", *extra)
        rows = running.wait().rows
        assert any(r["pid"] == running.pid for r in rows) == shown


def test_a_foreign_object_is_filtered_by_its_records(start, compiled, worker):
    source = """
    struct event { __u32 pid; __u32 uid; char comm[16]; };
    struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); __type(value, struct event); }
        events SEC(".maps");
    SEC("tp/syscalls/sys_enter_getppid") int f(void *ctx)
    {
        struct event event = { .pid = bpf_get_current_pid_tgid() >> 32, .uid = bpf_get_current_uid_gid() };
        bpf_get_current_comm(event.comm, sizeof(event.comm));
        bpf_ringbuf_output(&events, &event, sizeof(event), 0);
        return 0;
    }
    """
    path = compiled("calls", source)
    one, other = worker("os.getppid()"), worker("os.getppid()")
    comm = Path(f"/proc/{one.pid}/comm").read_text().strip()
    running = start(path, "-o", "json", "--pid", str(one.pid), "--comm", comm, "--uid", "0").attached()
    one.go()
    other.go()
    ended = running.end()
    assert [r["pid"] for r in ended.rows] == [one.pid]
    entry = ended.ledger["calls/events"]
    assert entry["filtered"] >= 1
    assert entry["emitted"] == entry["filtered"] + entry["delivered"]


# Containers


def names(ended):
    return {r.get("container", {}).get("name") for r in ended.rows}


def said(ended):
    """What the containers' commands were told to say, as execs of echo show it."""
    return [r["argv"][1] for r in ended.rows if r["stream"] == "exec" and r["argv"][:1] == ["echo"]]


def test_container_shows_one_by_name_also_when_it_starts_later(start, docker):
    running = start("process", "-o", "json", "--container", "eu-wanted").attached()
    docker.run("run", "--rm", "--name", "eu-other", docker.image, "echo", "no")
    docker.run("run", "--rm", "--name", "eu-wanted", docker.image, "echo", "yes")
    subprocess.run(["echo", "no"], check=True)
    ended = running.end()
    assert said(ended) == ["yes"]
    assert names(ended) == {"eu-wanted"}
    assert {r["identity"] for r in ended.rows} == {"resolved"}


def test_container_shows_one_that_ran_before_by_name_id_and_prefix(start, docker):
    full = docker.run("run", "-d", "--name", "eu-before", docker.image, "sleep", "1000").stdout.strip()
    try:
        running = [
            start("process", "-o", "json", "--container", word).attached()
            for word in ("eu-before", full, full[:6].upper(), "nonesuch,/eu-before")
        ]
        docker.run("exec", "eu-before", "echo", "yes")
        for one in running:
            ended = one.end()
            assert said(ended) == ["yes"]
            assert names(ended) == {"eu-before"}
    finally:
        docker.run("rm", "-f", "eu-before")


@pytest.mark.parametrize(
    "chosen",
    [
        ("--container", "eu-w*"),
        ("--image", "bb", "--container", "*wan[st]*"),
        ("--label", "role=wa*"),
        ("--label", "role!=other", "--container", "eu-*"),
        ("--runtime", "docker", "--label", "role=want"),
    ],
)
def test_selectors_choose_containers_that_start_later(start, docker, chosen):
    running = start("process", "-o", "json", *chosen).attached()
    for name in ("other", "want"):
        command = ("run", "--rm", "--name", f"eu-{name}", "--label", f"role={name}", docker.image, "echo", name)
        docker.run(*command)
    ended = running.end()
    assert said(ended) == ["want"]
    assert names(ended) == {"eu-want"}


@pytest.mark.parametrize("chosen", [("--pod", "*"), ("--namespace", "shop"), ("--runtime", "podman"), ("--image", "b?b")])
def test_selectors_that_match_nothing_show_nothing(start, docker, chosen):
    running = start("process", "-o", "json", *chosen).attached()
    docker.run("run", "--rm", docker.image, "echo", "no")
    assert running.end().rows == []


def test_container_follows_a_rename(start, docker):
    docker.run("run", "-d", "--name", "eu-old", docker.image, "sleep", "1000")
    try:
        running = start("process", "-o", "json", "--container", "eu-new").attached()
        docker.run("exec", "eu-old", "echo", "before")
        docker.run("rename", "eu-old", "eu-new")
        time.sleep(2)
        docker.run("exec", "eu-new", "echo", "after")
        ended = running.end()
        assert said(ended) == ["after"]
        assert names(ended) == {"eu-new"}
    finally:
        docker.run("rm", "-f", "eu-old", "eu-new", check=False)


def test_host_and_containers_are_told_apart_from_the_first_row_to_the_last(start, docker):
    """Containers begin and end all the while, so that some are new at whatever moment each one starts."""
    loop = f"while :; do docker -H unix://{docker.socket} run --rm {docker.image} echo in; echo out >/dev/null; done"
    busy = subprocess.Popen(["sh", "-c", loop], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        docker.run("run", "-d", "--name", "eu-loop", docker.image, "sh", "-c", "while :; do /bin/true; done")
        host = [start("process", "-o", "json", "--host-only", "--duration", "700ms") for _ in range(2)]
        inside = start("process", "-o", "json", "--containers-only").attached()
        outside = [one.wait() for one in host]
        docker.run("run", "--rm", docker.image, "echo", "in")
        within = inside.end()
    finally:
        os.killpg(busy.pid, 15)
        busy.wait()
        docker.run("rm", "-f", "eu-loop", check=False)
    for ended in outside:
        assert {r["identity"] for r in ended.rows} == {"host"}
        assert not [r for r in ended.rows if "container" in r]
        assert [r for r in ended.rows if r["stream"] == "exec"]
        for entry in ended.ledger.values():
            assert entry["emitted"] == entry["filtered"] + entry["delivered"]
    assert all("container" in r for r in within.rows)
    assert "in" in said(within)


def test_a_container_that_is_over_before_anybody_could_choose_it_is_shown(docker):
    """Its cgroup passes in the kernel until user space, which is kept waiting here, has said whose it is."""
    filters = Filters(selectors=Selectors(containers=("eu-early",)))
    with tracked("process", filters=filters) as seen, seen._lock:
        for name, image in (("eu-early", docker.image), ("eu-others", docker.image)):
            docker.run("run", "--name", name, image, "echo", name)
        with cgroup(f"/eunomia-{os.getpid()}"):
            subprocess.run(["echo", "host"], check=True)
    try:
        assert [r["argv"] for r in seen.rows("exec", comm="echo")] == [["echo", "eu-early"]]
        assert {r["container.name"] for r in seen.all} == {"eu-early"}
        assert seen.ledger("exec").filtered > 0
    finally:
        docker.run("rm", "eu-early", "eu-others")


def test_no_container_of_fifty_milliseconds_is_missed(start, docker):
    running = start("process", "-o", "json", "--containers-only").attached()
    for i in range(3):
        docker.run("run", "--rm", "--name", f"eu-brief{i}", docker.image, "echo", str(i))
    ended = running.end()
    assert said(ended) == ["0", "1", "2"]
    for row in ended.rows:
        if row["stream"] == "exec" and row["argv"][:1] == ["echo"]:
            assert row["container"]["name"] == f"eu-brief{row['argv'][1]}"
