# SPDX-License-Identifier: BSD-2-Clause
"""Podman's files, written by the tests: SQLite (Podman 5 is not available here), users' stores, hostile ones."""

import json
import os
import sqlite3
import time
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from eunomia.containers import storage
from eunomia.containers.daemons import DataRoot
from eunomia.containers.runtimes.podman import Podman
from eunomia.containers.storage import Store, roots_stores, users_stores
from eunomia.identity import Container, Pod
from tests import needs
from tests.containers.bolt_file import Writer
from tests.containers.stage import DB, WEB

PATH = f"/machine.slice/libpod-{WEB}.scope"
SLICE = "/user.slice/user-1234.slice"
USERS_PATH = f"{SLICE}/user@1234.service/user.slice/libpod-{WEB}.scope"
CONFIG = {
    "id": WEB,
    "name": "web",
    "rootfsImageName": "localhost/bb:latest",
    "rootfsImageID": "38" * 32,
    "labels": {"app": "web"},
    "createdTime": "2026-11-23T23:44:17Z",
    "newNetworks": {"front": {}, "back": {}},
    "networkMode": "bridge",
    "privileged": False,
    "pause": False,
    "spec": {"process": {"args": ["httpd", "-f"]}},
}
STATE = {
    "state": 3,
    "pid": 77,
    "startedTime": "2026-11-23T23:44:18Z",
    "restartCount": 2,
    "networkStatus": {"front": {"interfaces": {"eth0": {"subnets": [{"ipnet": "10.88.0.5/16"}, {"ipnet": "fd00::5/64"}]}}}},
}
POD = "9d" * 32
POD_CONFIG = {"id": POD, "name": "shop", "labels": {"tier": "front"}}
POD_STATE = {"cgroupPath": "/libpod_parent/" + POD, "InfraContainerID": DB}
# As libpod/sqlite_state_internal.go makes them, without what refers to other tables.
TABLES = """
CREATE TABLE ContainerConfig(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, PodID TEXT, JSON TEXT NOT NULL);
CREATE TABLE ContainerState(ID TEXT PRIMARY KEY NOT NULL, State INTEGER NOT NULL, ExitCode INTEGER, JSON TEXT NOT NULL);
CREATE TABLE PodConfig(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, JSON TEXT NOT NULL);
CREATE TABLE PodState(ID TEXT PRIMARY KEY NOT NULL, InfraContainerID TEXT, JSON TEXT NOT NULL);
"""


@pytest.fixture
def podman(tmp_path):
    time = count(step=10**9)
    return Podman([Store(DataRoot("/", str(tmp_path)))], clock=lambda: next(time))


def sqlite(root: Path, config=CONFIG, state=STATE) -> Path:
    with closing(sqlite3.connect(root / "db.sql")) as db:
        db.executescript(TABLES)
        for name, one in ((WEB, config), (DB, {**CONFIG, "name": "db"})):
            text = one if isinstance(one, (str, bytes)) else json.dumps(one)
            db.execute("INSERT INTO ContainerConfig VALUES (?, ?, NULL, ?)", (name, name[:3], text))
            db.execute("INSERT INTO ContainerState VALUES (?, 3, 0, ?)", (name, json.dumps(state)))
        db.execute("INSERT INTO PodConfig VALUES (?, 'shop', ?)", (POD, json.dumps(POD_CONFIG)))
        db.execute("INSERT INTO PodState VALUES (?, ?, ?)", (POD, DB, json.dumps(POD_STATE)))
        db.commit()
    return root / "db.sql"


def boltdb(root: Path, config=CONFIG, state=STATE) -> Path:
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    (root / "libpod").mkdir(parents=True, exist_ok=True)
    path = root / "libpod" / "bolt_state.db"
    pod = {b"config": json.dumps(POD_CONFIG).encode(), b"state": json.dumps(POD_STATE).encode()}
    ours = {b"config": text, b"state": json.dumps(state).encode()}
    path.write_bytes(Writer().file({b"ctr": {WEB.encode(): ours}, b"pod": {POD.encode(): pod}}))
    return path


def listed(root: Path, name="containers.json", driver="overlay") -> Path:
    about = {"image-name": "localhost/bb:latest", "name": "web"}
    entries = [{"id": DB, "names": ["db"]}, {"id": WEB, "names": ["web"], "metadata": json.dumps(about)}]
    path = root / f"{driver}-containers" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


def told(podman, path=PATH) -> Container | None:
    found = podman.lookup(WEB, path)
    return found and found.container


@pytest.mark.parametrize("write", [sqlite, boltdb])
def test_both_databases_have_the_same(tmp_path, podman, write):
    write(tmp_path)
    (tmp_path / "overlay-images").mkdir()
    images = [{"id": "38" * 32, "digest": "sha256:" + "25" * 32}]
    (tmp_path / "overlay-images" / "images.json").write_text(json.dumps(images))
    found = told(podman)
    assert (found.id, found.name, found.image, found.runtime) == (WEB, "web", "localhost/bb:latest", "podman")
    assert (found.image_id, found.image_digest) == ("sha256:" + "38" * 32, "sha256:" + "25" * 32)
    assert (found.labels, found.command) == ((("app", "web"),), ("httpd", "-f"))
    assert (found.network, found.addresses) == ("back,front", ("10.88.0.5", "fd00::5"))
    assert (found.state, found.pid, found.restarts) == ("running", 77, 2)
    assert found.started - found.created == 10**9


@pytest.mark.parametrize("write", [sqlite, boltdb])
def test_both_databases_have_the_pod(tmp_path, podman, write):
    write(tmp_path, {**CONFIG, "pod": POD})
    assert podman.lookup(WEB, PATH).pod == Pod("shop", "", POD, labels=(("tier", "front"),), sandbox=DB)


@pytest.mark.parametrize("pod", ["", None, "../x", "8e" * 32, ["9d" * 32], POD[:-1]])
@pytest.mark.parametrize("write", [sqlite, boltdb])
def test_an_invalid_pod_is_left_out(tmp_path, podman, write, pod):
    write(tmp_path, {**CONFIG, "pod": pod})
    found = podman.lookup(WEB, PATH)
    assert (found.container.name, found.pod) == ("web", None)


def test_a_rename_in_sqlite_is_noticed_and_another_containers_is_none(tmp_path, podman):
    path = sqlite(tmp_path)
    found = told(podman)
    assert podman.watches(found, PATH) == [str(path), str(tmp_path)], "journals come and go there"
    assert not podman.changed(found, PATH)
    for container_id, changed in ((DB, False), (WEB, True)):
        with closing(sqlite3.connect(path)) as db:
            config = json.dumps({**CONFIG, "name": "new"})
            db.execute("UPDATE ContainerConfig SET Name = ?, JSON = ? WHERE ID = ?", ("n" + container_id, config, container_id))
            db.commit()
        assert podman.changed(found, PATH) == changed
    assert told(podman).name == "new"
    assert not podman.changed(found, PATH)


def test_a_database_that_is_being_written_to_is_not_used(tmp_path, podman):
    path = sqlite(tmp_path)
    (tmp_path / "db.sql-journal").write_bytes(b"x")
    assert told(podman) is None
    (tmp_path / "db.sql-journal").unlink()
    assert told(podman).name == "web"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")  # early versions of Podman 4 asked for it
        assert told(podman).name == "web"


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_without_a_database_the_list_has_name_and_image(tmp_path, podman, driver):
    listed(tmp_path, driver=driver)
    bundle = tmp_path / f"{driver}-containers" / WEB / "userdata"
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"process": {"args": ["true"]}}))
    found = told(podman)
    assert (found.name, found.image, found.command) == ("web", "localhost/bb:latest", ("true",))


def test_the_list_of_containers_that_a_reboot_clears_is_read_too(tmp_path):
    run = tmp_path / "run"
    listed(run, "volatile-containers.json")
    assert told(Podman([Store(DataRoot("/", str(tmp_path)), str(run))])).name == "web"


@pytest.mark.parametrize("write", [sqlite, boltdb])
@pytest.mark.parametrize(
    "config",
    [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"name":' * 100_000, b'{"name":5,"labels":[],"spec":7}',
     b'{"name":"","namedVolumes":[1,{}],"newNetworks":{"a":1},"labels":{"a":{}},"createdTime":"x","user":[]}'],
    ids=lambda c: repr(c)[:30],
)  # fmt: skip
def test_records_of_any_kind_do_no_harm(tmp_path, podman, write, config):
    write(tmp_path, config.decode("utf-8", "surrogateescape").encode("utf-8", "replace") if write is sqlite else config)
    found = told(podman)
    assert found is None or found.name == ""
    listed(tmp_path)
    assert told(podman).name == "web"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW ContainerConfig AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS ID, x AS JSON FROM n",
        f"CREATE VIEW ContainerConfig AS SELECT '{WEB}' AS ID, zeroblob(1000000000) AS JSON",
        "CREATE TABLE ContainerConfig(Other TEXT)",
        f"CREATE VIEW ContainerConfig AS SELECT '{WEB}' AS ID, readfile('/etc/shadow') AS JSON",
    ],
    ids=["endless", "large", "other", "function"],
)
def test_a_hostile_schema_costs_little(tmp_path, podman, statement):
    with closing(sqlite3.connect(tmp_path / "db.sql")) as db:
        db.execute(statement)
        db.execute("CREATE TABLE ContainerState(ID TEXT, JSON TEXT)")
        db.commit()
    start = time.monotonic()
    assert told(podman) is None
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("statement", ["VIEW {0} AS SELECT * FROM Own{0}", "TABLE {0}(ID TEXT, JSON TEXT AS (printf('{{}}')))"])
def test_nothing_but_tables_is_read(tmp_path, podman, statement):
    with closing(sqlite3.connect(sqlite(tmp_path))) as db:
        db.execute("ALTER TABLE ContainerConfig RENAME TO OwnContainerConfig")
        db.execute("CREATE " + statement.format("ContainerConfig"))
        db.commit()
    assert told(podman) is None


def test_torn_databases_do_no_harm(tmp_path, podman):
    for path in (sqlite(tmp_path), boltdb(tmp_path)):
        whole = path.read_bytes()
        for size in range(0, len(whole), 1000):
            path.write_bytes(whole[:size])
            told(podman)
        for at in range(0, len(whole), 97):
            path.write_bytes(whole[:at] + b"\xff\xff" + whole[at + 2 :])
            told(podman)
        path.unlink()


# Users' stores


def users(tmp_path, **more) -> Podman:
    return Podman([Store(DataRoot("/", str(tmp_path), SLICE), uid=os.stat(tmp_path).st_uid, **more)])


@pytest.fixture
def owned(tmp_path):
    """A user's store: its files belong to user 1234."""
    needs.root()
    for path in (sqlite(tmp_path), listed(tmp_path)):
        os.chown(path, 1234, 1234)
    os.chown(tmp_path, 1234, 1234)
    return tmp_path


def test_a_user_is_trusted_only_for_their_own_slice(owned):
    podman = users(owned)
    assert told(podman, USERS_PATH).name == "web"
    for path in (PATH, f"/user.slice/user-1235.slice/libpod-{WEB}.scope", f"{SLICE}x/libpod-{WEB}", f"/libpod-{WEB}"):
        assert told(podman, path) is None


def test_a_users_links_to_files_of_others_are_not_followed(owned, tmp_path_factory):
    secret = tmp_path_factory.mktemp("root")
    for write, name in ((sqlite, "db.sql"), (listed, "overlay-containers/containers.json")):
        write(secret)
        (owned / name).unlink()
        (owned / name).symlink_to(secret / name)
    assert told(users(owned), USERS_PATH) is None


def test_a_users_fifo_delays_nothing(owned):
    for name in ("db.sql", "overlay-containers/containers.json"):
        (owned / name).unlink()
        os.mkfifo(owned / name)
    assert told(users(owned), USERS_PATH) is None


def machine(tmp_path: Path, monkeypatch) -> Path:
    """Lay a machine's configuration by hand, as another root directory."""
    for directory in ("etc/containers", "usr/share/containers", "home/ann/.config/containers"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1234:1234::/home/ann:/bin/sh\n")
    monkeypatch.setattr(storage, "host_bases", lambda: [str(tmp_path)])
    return tmp_path


def test_stores_are_where_the_configuration_says(tmp_path, monkeypatch):
    root = machine(tmp_path, monkeypatch)
    assert {s.root.path for s in roots_stores()} == {"/var/lib/containers/storage"}
    assert [s.root.path for s in users_stores(USERS_PATH)] == ["/home/ann/.local/share/containers/storage"]
    (root / "usr/share/containers/storage.conf").write_text("[storage]\ngraphroot = '/no'\n")
    (root / "etc/containers/storage.conf").write_text(
        "[storage]\ngraphroot = '/data/c'\nrunroot = '/data/r'\nrootless_storage_path = '/users/$UID/$USER'\n"
    )
    first = next(iter(roots_stores()))
    assert (first.root.path, first.run, first.uid, first.root.below) == ("/data/c", "/data/r", 0, "/")
    own = root / "home/ann/.config/containers/storage.conf"
    own.write_text("[storage]\ngraphroot = '$HOME/c'\n")
    os.chown(own, 1234, 1234)
    stores = list(users_stores(USERS_PATH))
    assert [s.root.path for s in stores] == ["/home/ann/c", "/users/1234/ann", "/home/ann/.local/share/containers/storage"]
    assert {(s.uid, s.root.below, s.run) for s in stores} == {(1234, SLICE, "/run/user/1234/containers")}


@pytest.mark.parametrize(
    "path",
    ["/", "/user.slice", "/user.slice/user-0.slice/x", "/user.slice/user-.slice/x", "/user.slice/user-1234.slice",
     "/user.slice/user-9.slice/x", f"/docker/{WEB}/user.slice/user-1234.slice/x", "/user.slice/user-٣.slice/x"],
)  # fmt: skip
def test_other_slices_have_no_stores(tmp_path, monkeypatch, path):
    machine(tmp_path, monkeypatch)
    assert list(users_stores(path)) == []


@pytest.mark.parametrize("text", ["", "[storage", "storage = 5", "[storage]\ngraphroot = 5", "\0", "[[storage]]", "a." * 9999])
def test_a_configuration_of_any_kind_leaves_the_default(tmp_path, monkeypatch, text):
    root = machine(tmp_path, monkeypatch)
    (root / "etc/containers/storage.conf").write_text(text)
    assert {s.root.path for s in roots_stores()} == {"/var/lib/containers/storage"}
