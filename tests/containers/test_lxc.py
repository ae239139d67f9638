# SPDX-License-Identifier: BSD-2-Clause
"""LXC: names in cgroup paths, one real container, and made files for LXD, which is not available here."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from eunomia.containers.cgroup_files import mount_point
from eunomia.containers.registry import Registry
from eunomia.containers.runtimes import lxc as module
from eunomia.containers.runtimes.lxc import Lxc
from eunomia.identity import RESOLVED
from tests import needs
from tests.harness import tracked
from tests.runtimes.docker import busybox_root

lxc = Lxc()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/lxc.payload.web", "web"),
        ("/lxc.payload.web.example", "web.example"),
        ("/lxc.payload/web", "web"),
        ("/lxc/web", "web"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/lxc.payload.mine", "mine"),
        ("/lxc.monitor.web", ""),
        ("/lxc.monitor/web", ""),
        ("/lxc/lxc.monitor.web", ""),
        ("/lxc.pivot", ""),
        ("/lxc.payload/lxc.pivot", ""),
        ("/lxc.payload", ""),
        ("/lxc.payload.", ""),
        ("/lxc", ""),
        ("/lxc.payload.web/.lxc", ""),
        ("/lxc.payload.web/system.slice", ""),
        ("/system.slice/lxc-net.service", ""),
    ],
)
def test_names_are_taken_from_the_path(path, name):
    assert lxc.recognises(*path.split("/")[-2:]) == name
    found = lxc.lookup(name or "web", path)
    if name:
        assert (found.container.id, found.container.name, found.container.runtime) == (name, name, "lxc")
    else:
        assert found is None


@pytest.mark.parametrize(
    ("config", "image"),
    [
        ("# Template used to create this container: /usr/share/lxc/templates/lxc-busybox\n", "busybox"),
        ("# Template used to create this container: /usr/share/lxc/templates/lxc-download\n"
         "# Parameters passed to the template: -d debian -r bookworm -a amd64\nlxc.rootfs.path = dir:/x\n",
         "debian/bookworm/amd64"),
        ("# Template used to create this container: /usr/share/lxc/templates/lxc-download\n"
         "# Parameters passed to the template: --dist alpine --release 3.20\n", "alpine/3.20"),
        ("lxc.rootfs.path = dir:/srv/web/rootfs\n", "/srv/web/rootfs"),
        ("lxc.rootfs.path = overlay:/srv/base/rootfs:/srv/web/delta\n", "/srv/base/rootfs"),
        ("lxc.rootfs = /srv/web/rootfs\n", "/srv/web/rootfs"),
        ("", ""),
        ("\0" * 1000, ""),
        ("# Parameters passed to the template:", ""),
        ("lxc.rootfs.path", ""),
    ],
)  # fmt: skip
def test_images_are_taken_from_what_made_the_container(tmp_path, monkeypatch, config, image):
    monkeypatch.setattr(module, "host_bases", lambda: [str(tmp_path)])
    (tmp_path / "var/lib/lxc/web").mkdir(parents=True)
    (tmp_path / "var/lib/lxc/web/config").write_text(config)
    assert lxc.lookup("web", "/lxc.payload.web").container.image == image


def test_lxds_record_has_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "host_bases", lambda: [str(tmp_path)])
    record = tmp_path / "var/lib/incus/storage-pools/default/containers/web/backup.yaml"
    record.parent.mkdir(parents=True)
    record.write_text("container:\n  config:\n    image.description: Debian bookworm amd64 (20261101)\n")
    (tmp_path / "var/lib/incus/containers").mkdir()
    (tmp_path / "var/lib/incus/containers/web").symlink_to("/var/lib/incus/storage-pools/default/containers/web")
    assert lxc.lookup("web", "/lxc.payload.web").container.image == "Debian bookworm amd64 (20261101)"


def test_a_users_cgroup_does_not_get_roots_image(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "host_bases", lambda: [str(tmp_path)])
    (tmp_path / "var/lib/lxc/web").mkdir(parents=True)
    (tmp_path / "var/lib/lxc/web/config").write_text("lxc.rootfs.path = dir:/srv\n")
    assert lxc.lookup("web", "/user.slice/user-1000.slice/lxc.payload.web").container.image == ""


@pytest.mark.parametrize("name", ["..", "a\x1b[2J", "x" * 300, "\0", "-", "%s"])
def test_names_of_any_kind_do_no_harm(tmp_path, monkeypatch, name):
    monkeypatch.setattr(module, "host_bases", lambda: [str(tmp_path)])
    (tmp_path / "var/lib/lxc").mkdir(parents=True)
    (tmp_path / "var/lib/config").write_text("lxc.rootfs.path = dir:/outside\n")
    found = lxc.lookup(name, f"/lxc.payload.{name}")
    assert (found.container.id, found.container.image) == (name, "")


def test_a_real_container_is_known_and_its_programs_have_its_name():
    needs.root()
    start, stop = needs.program("lxc-start", "lxc"), needs.program("lxc-stop", "lxc")
    busybox = needs.program("busybox", "busybox-static")
    name = f"eu{os.getpid()}"
    with TemporaryDirectory(prefix="eu-", dir="/tmp") as directory:
        rootfs = Path(directory) / name / "rootfs"
        rootfs.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", rootfs], input=busybox_root(busybox), check=True)
        settings = {
            "lxc.rootfs.path": f"dir:{rootfs}", "lxc.net.0.type": "empty", "lxc.uts.name": name,
            "lxc.apparmor.profile": "unconfined", "lxc.init.cmd": "/bin/sleep 1000",
        }  # fmt: skip
        (rootfs.parent / "config").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        log = Path(directory) / "log"
        with tracked("process") as seen:
            done = subprocess.run([start, "-P", directory, "-n", name, "-o", str(log)], capture_output=True, check=False)
            try:
                assert done.returncode == 0, log.read_text()
                seen.until(lambda seen: seen.rows("exec", comm="sleep", **{"container.id": name}))
                registry = Registry()
                registry.start()
                identity = registry[os.stat(f"{mount_point()}/lxc.payload.{name}").st_ino]
            finally:
                subprocess.run([stop, "-k", "-P", directory, "-n", name], capture_output=True, check=False)
    assert identity.state == RESOLVED
    assert identity.container.image == str(rootfs)
    row = seen.row("exec", comm="sleep", **{"container.id": name})
    assert (row["container.name"], row["container.runtime"]) == (name, "lxc")
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lxc.*.{name}"))
