# SPDX-License-Identifier: BSD-2-Clause
"""Docker's files, some of them hostile."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eunomia.containers.cgroup_files import mount_point
from eunomia.containers.daemons import CONFIG_LIMIT, SEARCH_PAUSE, DataRoot, option
from eunomia.containers.runtime import TEXT_LIMIT
from eunomia.containers.runtimes.docker import Docker
from eunomia.identity import Container
from tests import needs
from tests.containers.stage import DB, WEB, write_config

PATH = f"/docker/{WEB}"
NAMELESS = Container(WEB, runtime="docker")


def lookup(docker: Docker, container_id: str, path: str) -> Container | None:
    """Return the container that was found."""
    found = docker.lookup(container_id, path)
    return found and found.container


@pytest.fixture
def docker(tmp_path):
    return Docker([DataRoot("/", str(tmp_path))])


def test_name_and_image_are_what_the_user_called_them(tmp_path, docker):
    write_config(tmp_path, WEB)
    assert lookup(docker, WEB, PATH)[:4] == (WEB, "web", "shop/web:1.2", "docker")


@pytest.mark.parametrize("value", [None, 1, -1.5, True, "x", [], [[]], {}, {"a": [1]}, {"": None}, 1 << 80])
def test_facts_of_any_other_type_are_left_out(tmp_path, docker, value):
    """Each fact, and each within a fact, is replaced by each kind of value in turn."""
    facts = ("State", "Config", "Created", "Path", "Args", "Image", "NetworkSettings", "RestartCount", "Driver",
             "MountPoints", "SeccompProfile", "AppArmorProfile")  # fmt: skip
    for name in facts:
        for changed in (value, {"Networks": value}, {"/data": value}, {"Labels": value, "User": value}, [value]):
            write_config(tmp_path, WEB, **{name: changed})
            found = lookup(docker, WEB, PATH)
            assert found.name == "web"
            assert all(isinstance(one, type(whole)) for one, whole in zip(found, Container(WEB), strict=True) if whole == "")
    for name in ("Privileged", "CapAdd", "CapDrop", "NetworkMode"):
        (tmp_path / "containers" / WEB / "hostconfig.json").write_text(json.dumps({name: value}))
        assert lookup(docker, WEB, PATH).name == "web"


def test_a_container_that_is_not_there_is_not_known(docker):
    assert lookup(docker, WEB, PATH) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"17",
        b'"text"',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"ID":' * 100_000,
        b'{"Config":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        {"ID": WEB},
        {"ID": WEB, "Name": 5},
        {"ID": WEB, "Name": ["/web"]},
        {"ID": WEB, "Name": ""},
        {"ID": WEB, "Name": "/"},
        {"ID": DB, "Name": "/web"},
        {"Name": "/web"},
        {"ID": WEB, "Name": None, "Config": {"Image": "i"}},
    ],
    ids=lambda c: repr(c)[:30],
)
def test_a_config_without_a_name_leaves_the_container_known_but_nameless(tmp_path, docker, content):
    write_config(tmp_path, WEB, content)
    found = lookup(docker, WEB, PATH)
    assert found is not None
    assert (found.id, found.name, found.runtime) == (WEB, "", "docker")


@pytest.mark.parametrize("config", [None, 1, [], "x", {"Image": 7}, {"Image": None}, {"Image": {}}, {}])
def test_an_image_of_any_other_type_is_left_empty(tmp_path, docker, config):
    write_config(tmp_path, WEB, Config=config)
    assert lookup(docker, WEB, PATH)[:4] == (WEB, "web", "", "docker")


def test_texts_are_bounded(tmp_path, docker):
    write_config(tmp_path, WEB, Name="/" + "x" * 100_000, Config={"Image": "y" * 100_000})
    found = lookup(docker, WEB, PATH)
    assert (len(found.name), len(found.image)) == (TEXT_LIMIT - 1, TEXT_LIMIT)


def test_half_a_surrogate_pair_never_reaches_a_row(tmp_path, docker):
    write_config(tmp_path, WEB, b'{"ID":"%s","Name":"/web","Config":{"Image":"\\ud800"}}' % WEB.encode())
    found = lookup(docker, WEB, PATH)
    f"{found.name}{found.image}".encode()
    assert found.id == WEB


def test_bytes_that_are_not_utf8_do_not_hide_the_container(tmp_path, docker):
    write_config(tmp_path, WEB, b'{"ID":"%s","Name":"/w\xffb","Config":{"Image":"i\xfe"}}' % WEB.encode())
    found = lookup(docker, WEB, PATH)
    assert found.name.startswith("w")
    assert found.name.endswith("b")


def test_a_file_too_large_to_be_real_is_not_read(tmp_path, docker):
    file = write_config(tmp_path, WEB)
    with open(file, "ab") as out:
        out.write(b" " * CONFIG_LIMIT)
    assert lookup(docker, WEB, PATH) == NAMELESS


def test_a_pipe_in_the_place_of_the_file_does_not_block(tmp_path, docker):
    file = write_config(tmp_path, WEB)
    file.unlink()
    os.mkfifo(file)
    assert lookup(docker, WEB, PATH) == NAMELESS


def test_a_directory_or_a_looping_link_in_the_place_of_the_file_is_harmless(tmp_path, docker):
    file = write_config(tmp_path, WEB)
    file.unlink()
    file.symlink_to(file)
    assert lookup(docker, WEB, PATH) == NAMELESS
    file.unlink()
    file.mkdir()
    assert lookup(docker, WEB, PATH) == NAMELESS


def test_links_of_another_root_stay_inside_that_root(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    secret = write_config(outside, WEB, Name="/secret")
    write_config(inside / "data", DB, Name="/mine", ID=DB)
    (inside / "data/containers" / WEB).mkdir()
    (inside / "data/containers" / WEB / "config.v2.json").symlink_to(secret)
    (inside / "up").symlink_to("../../../../../../../../" + str(outside))
    (inside / "moved").symlink_to("/data")
    assert lookup(Docker([DataRoot(str(inside), "/data")]), WEB, PATH) is None
    assert lookup(Docker([DataRoot(str(inside), "/up")]), WEB, PATH) is None
    assert lookup(Docker([DataRoot(str(inside), "/moved")]), DB, f"/docker/{DB}").name == "mine"


def test_a_daemon_in_a_container_is_trusted_only_for_nested_containers(tmp_path):
    write_config(tmp_path, WEB)
    nested = Docker([DataRoot("/", str(tmp_path), below=f"/docker/{DB}")])
    assert lookup(nested, WEB, PATH) is None
    assert lookup(nested, WEB, f"/docker/{DB}x/docker/{WEB}") is None
    assert lookup(nested, WEB, f"/docker/{DB}/docker/{WEB}").name == "web"


def test_the_first_data_root_that_names_it_wins(tmp_path):
    write_config(tmp_path / "broken", WEB, b"{")
    write_config(tmp_path / "whole", WEB, Name="/whole")
    roots = [DataRoot("/", str(tmp_path / d)) for d in ("absent", "broken", "whole")]
    assert lookup(Docker(roots), WEB, PATH).name == "whole"


def test_a_rewritten_config_is_noticed(tmp_path, docker):
    write_config(tmp_path, WEB)
    found = lookup(docker, WEB, PATH)
    assert not docker.changed(found, PATH)
    time.sleep(0.02)
    write_config(tmp_path, WEB, Name="/renamed")
    assert docker.changed(found, PATH)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["dockerd"], ""),
        (["dockerd", "--data-root", "/a"], "/a"),
        (["dockerd", "--data-root=/a"], "/a"),
        (["dockerd", "-g", "/a", "-H", "x"], "/a"),
        (["dockerd", "--graph=/a"], "/a"),
        (["dockerd", "--data-root"], ""),
        (["dockerd", "--data-root-x=/a"], ""),
    ],
)
def test_the_data_root_is_read_off_the_command_line(arguments, value):
    assert option(arguments, "--data-root", "--graph", "-g") == value


# A process called dockerd: a real one is not needed to see where its data would be.
_PRETENDER = (
    "import sys, time; open('/proc/self/comm', 'w').write('dockerd'); print(flush=True); time.sleep(60)"
)


@pytest.fixture
def pretend():
    started = []

    def start(*arguments, **options):
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", _PRETENDER, *arguments], stdout=subprocess.PIPE, **options
        )
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_daemons_are_found_by_their_options_and_config_files(tmp_path, pretend):
    settings = tmp_path / "daemon.json"
    settings.write_text('{"data-root": "/from/file"}')
    pretend("--data-root", "/from/option")
    pretend("--config-file", str(settings))
    pretend("-g", "relative", cwd=tmp_path)
    docker = Docker()
    docker.search()
    paths = {root.path for root in docker.roots}
    assert {"/from/option", "/from/file", f"{tmp_path}/relative", "/var/lib/docker"} <= paths


def test_a_daemon_that_starts_later_is_found_when_its_container_is_asked_for(tmp_path, pretend):
    write_config(tmp_path, WEB)
    docker = Docker(clock=lambda: next(times))
    times = iter(range(0, 10**13, SEARCH_PAUSE))
    assert lookup(docker, WEB, PATH) is None
    pretend("--data-root", str(tmp_path))
    assert lookup(docker, WEB, PATH).name == "web"


def test_looking_for_daemons_is_rate_limited(tmp_path, pretend):
    write_config(tmp_path, WEB)
    docker = Docker(clock=lambda: 5)
    assert lookup(docker, WEB, PATH) is None
    pretend("--data-root", str(tmp_path))
    assert lookup(docker, WEB, PATH) is None


def test_an_ordinary_user_cannot_pass_for_the_daemon(tmp_path, pretend):
    write_config(tmp_path, WEB)
    pretend("--data-root", str(tmp_path), user=65534)
    assert lookup(Docker(), WEB, PATH) is None


@contextmanager
def _moved_to(cgroup, process):
    directory = Path(mount_point() + cgroup)
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text(str(process.pid))
    try:
        yield
    finally:
        process.kill()
        process.wait()
        directory.rmdir()
        with suppress(OSError):  # another Docker's
            directory.parent.rmdir()


@pytest.mark.parametrize(("user", "elsewhere"), [(None, "web"), (65534, None)])
def test_a_daemon_in_a_container_is_trusted_for_others_only_if_it_is_privileged(
    tmp_path, pretend, user, elsewhere
):
    needs.root()
    write_config(tmp_path, WEB)
    with _moved_to(f"/docker/{DB}", pretend("--data-root", str(tmp_path), user=user)):
        docker = Docker()
        assert getattr(lookup(docker, WEB, PATH), "name", None) == elsewhere
        assert lookup(docker, WEB, f"/docker/{DB}/docker/{WEB}").name == "web"


_CHROOTED = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
os.chroot(sys.argv[1])
libc.prctl(15, b"dockerd", 0, 0, 0)  # PR_SET_NAME
print(flush=True)
time.sleep(60)
"""


def test_a_daemon_in_another_root_is_read_through_its_root(tmp_path):
    write_config(tmp_path / "data", WEB)
    process = subprocess.Popen(
        [sys.executable, "-c", _CHROOTED, str(tmp_path), "--data-root=/data"], stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        docker = Docker()
        assert lookup(docker, WEB, PATH).name == "web"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # A pid used again must not lend its root to the daemon that is gone.
    assert lookup(docker, WEB, PATH) is None
