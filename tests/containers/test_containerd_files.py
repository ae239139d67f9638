# SPDX-License-Identifier: BSD-2-Clause
"""containerd's files, written by the tests: systemd's paths, other roots, hostile ones."""

import json
import os
import struct
import subprocess
import sys
import time

import pytest

from eunomia.containers.containerd_db import FILE, Database, _any, _time
from eunomia.containers.daemons import CONFIG_LIMIT, Daemon, DataRoot
from eunomia.containers.paths import Candidate, candidates
from eunomia.containers.runtimes.containerd import TASKS, Containerd, _configured
from eunomia.identity import CREATED, Container
from tests import needs
from tests.containers.bolt_file import Writer
from tests.containers.stage import DB, WEB

UID = "5f7211f8-372a-4038-a5e0-311a02ccdf24"
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
SCOPE = f"{SLICE}/cri-containerd-{WEB}.scope"
NAMELESS = Container(WEB, runtime="containerd")

NOTES = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "shop/app:1",
    "io.kubernetes.cri.sandbox-id": DB,
    "io.kubernetes.cri.sandbox-name": "web",
    "io.kubernetes.cri.sandbox-namespace": "shop",
}


@pytest.fixture
def reader(tmp_path):
    return Containerd([DataRoot("/", str(tmp_path))])


def write_bundle(state, container_id, content=None, namespace="k8s.io", **notes):
    """Write what containerd writes about a container; ``content`` (bytes) replaces all of it."""
    directory = state / TASKS / namespace / container_id
    directory.mkdir(parents=True, exist_ok=True)
    whole = {
        "process": {"args": ["sleep"]},
        "annotations": NOTES | notes,
        "linux": {"namespaces": [{"type": "network"}]},
    }
    (directory / "config.json").write_bytes(json.dumps(whole).encode() if content is None else content)
    return directory


def test_a_pod_below_systemds_slices_has_its_uid_from_the_path(tmp_path, reader):
    write_bundle(tmp_path, WEB)
    assert candidates(SCOPE, [reader]) == (Candidate(WEB, SCOPE, "containerd"),)
    container, pod = reader.lookup(WEB, SCOPE)
    assert (container.name, container.image, container.state) == ("app", "shop/app:1", CREATED)
    assert (pod.name, pod.namespace, pod.uid, pod.sandbox, pod.qos) == ("web", "shop", UID, DB, "Burstable")


def test_the_form_that_mixes_both_drivers_is_recognised(tmp_path, reader):
    write_bundle(tmp_path, WEB)
    path = f"/system.slice/containerd.service/kubepods-burstable-pod{UID.replace('-', '_')}.slice:cri-containerd:{WEB}"
    assert candidates(path, [reader]) == (Candidate(WEB, path, "containerd"),)
    assert reader.lookup(WEB, path).pod.uid == UID


@pytest.mark.parametrize(
    "name",
    [
        "cri-containerd-.scope",
        f"cri-containerd-{WEB}",
        f"cri-containerd-{WEB}x.scope",
        f"docker-{WEB}.scope",
        "nerdctl-x.scope",
        f"x{WEB}",
    ],
)
def test_names_that_only_look_alike_are_not_recognised(reader, name):
    assert reader.recognises("system.slice", name) == ""


def test_docker_namespaces_are_not_read(tmp_path, reader):
    write_bundle(tmp_path, WEB, namespace="moby")
    assert reader.lookup(WEB, f"/docker/{WEB}") is None
    assert reader.recognises("moby", "web") == ""


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"annotations":' * 100_000], ids=lambda c: repr(c)[:20]
)
def test_a_bundle_that_cannot_be_read_leaves_the_container_known_but_nameless(tmp_path, reader, content):
    write_bundle(tmp_path, WEB, content)
    assert reader.lookup(WEB, SCOPE).container == NAMELESS


def test_a_config_of_fifty_megabytes_is_not_read(tmp_path, reader):
    config = write_bundle(tmp_path, WEB) / "config.json"
    os.truncate(config, 50 << 20)
    start = time.monotonic()
    assert reader.lookup(WEB, SCOPE).container == NAMELESS
    assert time.monotonic() - start < 1
    assert CONFIG_LIMIT < 50 << 20


def test_a_pipe_a_directory_or_a_looping_link_in_the_place_of_a_file_is_harmless(tmp_path, reader):
    config = write_bundle(tmp_path, WEB) / "config.json"
    config.unlink()
    os.mkfifo(config)
    assert reader.lookup(WEB, SCOPE).container == NAMELESS
    config.unlink()
    config.symlink_to(config)
    assert reader.lookup(WEB, SCOPE).container == NAMELESS
    config.unlink()
    config.mkdir()
    assert reader.lookup(WEB, SCOPE).container == NAMELESS


def test_a_pipe_in_the_place_of_the_pid_or_the_database_does_not_block(tmp_path, reader):
    directory = write_bundle(tmp_path / "state", WEB)
    root = tmp_path / "root"
    (root / "io.containerd.metadata.v1.bolt").mkdir(parents=True)
    os.mkfifo(root / "io.containerd.metadata.v1.bolt/meta.db")
    os.mkfifo(directory / "init.pid")
    (directory / "work").symlink_to(root / TASKS / "k8s.io" / WEB)
    found = Containerd([DataRoot("/", str(tmp_path / "state"))]).lookup(WEB, SCOPE)
    assert (found.container.name, found.container.pid) == ("app", 0)


def test_links_of_another_root_stay_inside_that_root(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    secret = write_bundle(outside, WEB) / "config.json"
    directory = write_bundle(inside / "state", WEB)
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to(secret)
    assert getattr(Containerd([DataRoot(str(inside), "/state")]).lookup(WEB, SCOPE), "pod", None) is None


def test_a_daemon_in_a_container_is_trusted_only_for_nested_containers(tmp_path):
    write_bundle(tmp_path, WEB)
    write_bundle(tmp_path, "ssh", namespace="system")
    nested = Containerd([DataRoot("/", str(tmp_path), below=f"/docker/{DB}")])
    assert nested.lookup(WEB, SCOPE) is None
    assert nested.lookup(WEB, f"/docker/{DB}{SCOPE}").container.name == "app"
    assert nested.recognises("system", "ssh") == "", "a name of its choice would make the host's cgroups containers"


def write_database(root, **containers):
    """Write a database with these containers of Kubernetes; each is the metadata that CRI keeps of it."""
    buckets = {}
    for container_id, metadata in containers.items():
        kind = b"sandbox" if container_id == DB else b"container"
        packed = json.dumps({"Version": "v1", "Metadata": metadata}).encode()
        size = bytes([len(packed) & 0x7F | 0x80, len(packed) >> 7])
        assert len(packed) < 1 << 14
        buckets[container_id.encode()] = {
            b"image": b"shop/app:1",
            b"createdat": b"\x01" + struct.pack(">QIh", 62_135_596_800 + 5, 6, -1),
            b"extensions": {b"io.cri-containerd.%s.metadata" % kind: b"\x0a\x01t\x12" + size + packed},
            b"labels": {b"maker": b"somebody"},
        }
    image = {b"shop/app:1": {b"target": {b"digest": b"sha256:" + b"e" * 64}}}
    file = root / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(Writer().file({b"v1": {b"k8s.io": {b"containers": buckets, b"images": image}}}))


@pytest.fixture
def told(tmp_path):
    """Tell of a container whose CRI metadata and bundle are given."""

    def told(metadata, sandbox=None, **linux):
        whole = {"process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}, "annotations": NOTES}
        whole["linux"] = {"namespaces": [{"type": "network", "path": "/proc/5/ns/net"}], **linux}
        directory = write_bundle(tmp_path / "state", WEB, json.dumps(whole).encode())
        write_database(tmp_path / "root", **{WEB: metadata, DB: sandbox or {}})
        if not (directory / "work").is_symlink():
            (directory / "work").symlink_to(tmp_path / "root" / TASKS / "k8s.io" / WEB)
        return Containerd([DataRoot("/", str(tmp_path / "state"))]).lookup(WEB, SCOPE)

    return told


def test_what_cri_was_asked_for_is_read_from_the_database(told):
    security = {"privileged": True, "seccomp": {"profile_type": 2, "localhost_ref": "profiles/web.json"}}
    config = {"metadata": {"name": "app", "attempt": 7}, "labels": {"a": "b"}, "linux": {"security_context": security}}
    sandbox = {
        "IP": "10.1.2.3",
        "AdditionalIPs": ["fd00::3"],
        "Config": {"metadata": {"uid": UID}, "labels": {"app": "web"}},
    }
    container, pod = told({"Config": config, "ImageRef": "sha256:" + "f" * 64}, sandbox, seccomp={"defaultAction": "x"})
    assert (container.privileged, container.restarts, container.seccomp) == (True, 7, "profiles/web.json")
    assert (container.labels, container.network) == ((("a", "b"),), "pod")
    assert (container.image_digest, container.image_id) == ("sha256:" + "e" * 64, "sha256:" + "f" * 64)
    assert container.created == 5_000_000_006
    assert container.addresses == pod.addresses == ("10.1.2.3", "fd00::3")
    assert (pod.uid, pod.labels) == (UID, (("app", "web"),))


def test_a_requested_profile_that_is_not_applied_is_not_shown(told):
    asked = {"Config": {"linux": {"security_context": {"seccomp": {}}}}}
    assert told(asked).container.seccomp == "unconfined"
    assert told(asked, seccomp={"defaultAction": "x"}).container.seccomp == "default"


@pytest.mark.parametrize("value", [None, 1, -1.5, True, "x", [], [[]], {}, {"a": [1]}, {"": None}, 1 << 60])
def test_metadata_of_any_other_type_is_left_out(told, value):
    for metadata in (value, {"Config": value}, {"IP": value, "AdditionalIPs": value, "ImageRef": value}):
        assert told(metadata, metadata).container.name == "app"
    for name in ("metadata", "labels", "annotations", "linux"):
        for inside in (value, {"attempt": value, "name": value}, {"security_context": value}):
            container, pod = told({"Config": {name: inside}}, {"Config": {name: inside}})
            assert container.name == "app"
            assert isinstance(container.restarts, int | None)
            assert isinstance(pod.uid, str)


def test_texts_that_escape_a_terminal_are_kept_for_the_sinks_to_escape(tmp_path, reader):
    write_bundle(
        tmp_path,
        WEB,
        **{"io.kubernetes.cri.container-name": "a\x1b[2J\n", "io.kubernetes.cri.sandbox-name": "x" * 100_000},
    )
    container, pod = reader.lookup(WEB, SCOPE)
    assert container.name == "a\x1b[2J\n"
    assert len(pod.name) == 4096


def test_annotations_of_any_type_do_no_harm(tmp_path, reader):
    for value in (None, 1, [], {}, [[1]], {"a": 1}, 1 << 70, True):
        write_bundle(tmp_path, WEB, **dict.fromkeys(NOTES, value))
        assert reader.lookup(WEB, SCOPE).container.id == WEB


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ('version = 2\nstate = "/a/b"\n', "/a/b"),
        ("state = '/a/b' # here\n", "/a/b"),
        ('  "state"="/a"\n', "/a"),
        ('root = "/r"\n[plugins]\nstate = "/no"\n', ""),
        ("state = 5\n", ""),
        ("state = \n", ""),
        ("", ""),
        ("\xff\x00", ""),
    ],
)
def test_the_state_directory_is_read_off_the_configuration(tmp_path, text, state):
    (tmp_path / "config.toml").write_text(text, encoding="latin-1")
    assert _configured(Daemon("/"), str(tmp_path / "config.toml")) == state


def test_a_configuration_that_is_not_there_or_a_pipe_names_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert _configured(Daemon("/"), str(tmp_path / "pipe")) == ""
    assert _configured(Daemon("/"), "/not/there") == ""
    assert _configured(Daemon("/"), "a\0b") == ""


# A process called containerd: a real one is not needed to see where its data would be.
_PRETENDER = "import sys, time; open('/proc/self/comm', 'w').write('containerd'); print(flush=True); time.sleep(60)"


@pytest.fixture
def pretend():
    started = []

    def start(*arguments, **options):
        process = subprocess.Popen(["/usr/bin/python3", "-c", _PRETENDER, *arguments], stdout=subprocess.PIPE, **options)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_daemons_are_found_by_their_options_and_config_files(tmp_path, pretend):
    for name in ("option", "file", "relative"):
        write_bundle(tmp_path / name, WEB)
    (tmp_path / "config.toml").write_text(f'state = "{tmp_path}/file"\n')
    pretend("--state", f"{tmp_path}/option")
    pretend("--config", f"{tmp_path}/config.toml")
    pretend("--state=relative", cwd=tmp_path)
    reader = Containerd()
    reader.search()
    assert {str(tmp_path / name) for name in ("option", "file", "relative")} <= {s.path for s in reader.states}


def test_a_daemon_that_starts_later_is_found_when_its_container_is_asked_for(tmp_path, pretend):
    write_bundle(tmp_path, "web", namespace="default")
    reader = Containerd()
    assert reader.recognises("default", "web") == ""
    pretend("--state", str(tmp_path))
    time.sleep(0.03)
    assert reader.recognises("default", "web") == "web"


_NODE = """
mount -t tmpfs none "$1" && mkdir -p "$1/state/$2/default/web" && cp "$3" "$1/state/$2/default/web/config.json"
exec "$4" -c "$5" --state "$1/state"
"""


def test_a_daemon_in_another_mount_namespace_is_read_through_its_root(tmp_path):
    """As a node of kind's is, which is a privileged container."""
    needs.root()
    config = write_bundle(tmp_path / "outside", "web", namespace="default") / "config.json"
    node = tmp_path / "node"
    node.mkdir()
    command = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        _NODE,
        "sh",
        str(node),
        TASKS,
        str(config),
        sys.executable,
        _PRETENDER,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert not list(node.iterdir()), "nothing is there in our own view"
        reader = Containerd()
        assert reader.recognises("default", "web") == "web"
        assert reader.lookup("web", "/docker/node/default/web").container.name == "app"
        assert any(s.pid == process.pid and s.path == f"{node}/state" for s in reader.states)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    # A pid used again must not lend its root to the daemon that is gone.
    assert reader.lookup("web", "/docker/node/default/web") is None


def test_an_ordinary_user_cannot_pass_for_the_daemon(tmp_path, pretend):
    needs.root()
    tmp_path.chmod(0o755)
    write_bundle(tmp_path, WEB)
    pretend("--state", str(tmp_path), user=65534)
    assert Containerd().lookup(WEB, SCOPE) is None


def test_root_of_an_ordinary_container_cannot_pass_for_the_daemon(tmp_path, pretend):
    needs.root()
    write_bundle(tmp_path, WEB)
    contained = ["unshare", "--mount", "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable]
    process = subprocess.Popen([*contained, "-c", _PRETENDER, "--state", str(tmp_path)], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert Containerd().lookup(WEB, SCOPE) is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a",
        b"\x0a\xff",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x12\x05ab",
        b"\x08\x01",
        os.urandom(64),
    ],
)
def test_an_extension_that_is_no_any_is_read_without_an_error(data):
    assert isinstance(_any(data), bytes)


def test_an_extensions_value_is_found_behind_its_type():
    assert _any(b"\x0a\x02ab\x12\x03xyz") == b"xyz"
    assert _any(b"\x0a\x02ab\x12\x80\x01" + b"z" * 128) == b"z" * 128


def test_times_are_gos():
    seconds = 1_795_476_463
    packed = b"\x01" + struct.pack(">QIh", seconds + 62_135_596_800, 538_455_077, -1)
    assert _time(packed) == seconds * 1_000_000_000 + 538_455_077
    assert (_time(None), _time(b""), _time(b"\xff" * 15), _time(b"\x01" + bytes(14))) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100_000, os.urandom(65536), bytes(1 << 20)], ids=["empty", "text", "noise", "zeros"]
)
def test_an_invalid_database_is_ignored(tmp_path, content):
    directory = tmp_path / "io.containerd.metadata.v1.bolt"
    directory.mkdir()
    (directory / "meta.db").write_bytes(content)
    database = Database(DataRoot("/", str(tmp_path)))
    assert database.records("default", "web").record.image == ""
    assert database.image_id("sha256:" + "0" * 64) == ""
    assert database.image_id("../../../etc:passwd") == ""
