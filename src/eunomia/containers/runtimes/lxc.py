# SPDX-License-Identifier: BSD-2-Clause
"""LXC, and LXD and Incus, which use it: the cgroup's path has the container's name, which is also its id.

    lxc.payload.NAME            since LXC 4.0; lxc.monitor.NAME is the monitor process's
    lxc.payload/NAME            3.1 and 3.2
    lxc/NAME                    before

The image is taken from the template's comment in the container's configuration, its root file system, or LXD's record.
Only root's containers are looked up: users' containers have only a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from eunomia.containers import blocking
from eunomia.containers.cgroup_files import mount_point
from eunomia.containers.daemons import CONFIG_LIMIT, DataRoot, daemon_of, host_bases
from eunomia.containers.runtime import Metadata, bounded
from eunomia.identity import RUNNING, Container
from eunomia.resolve_in_root import open_file, read

_PAYLOAD, _MONITOR = "lxc.payload", "lxc.monitor"
_PARENTS = (_PAYLOAD, "lxc")
_NOT = ("lxc.", ".")  # LXC's own cgroups beside those of containers
_PATHS = ("/var/lib/lxc",)
_RECORDS = ("/var/lib/incus/containers", "/var/lib/lxd/containers", "/var/snap/lxd/common/lxd/containers")
_TITLE = b"[lxc monitor] "
_NAME_LIMIT = 255


class Lxc:
    """Reads names from cgroup paths, and images from root's files."""

    name = "lxc"
    quick = True

    def recognises(self, parent: str, name: str) -> str:
        """Return the name in ``lxc.payload.NAME``, ``lxc.payload/NAME`` and ``lxc/NAME``."""
        if name.startswith(f"{_PAYLOAD}."):
            return name[len(_PAYLOAD) + 1 :]
        return name if parent in _PARENTS and not name.startswith(_NOT) else ""

    def lookup(self, container_id: str, path: str) -> Metadata | None:
        """Return the container, with its image if that can be read; see :class:`Runtime`."""
        *_, parent, name = ("", *path.split("/"))
        if self.recognises(parent, name) != container_id:
            return None
        image = ""
        # the name must stay one path component, and a user's cgroup is not root's container
        safe = container_id.isprintable() and len(container_id) <= _NAME_LIMIT and container_id not in {".", ".."}
        if safe and not path.startswith("/user.slice/"):
            image = next(filter(None, _images(container_id, path)), "")
        return Metadata(Container(container_id, bounded(container_id), image, self.name, state=RUNNING))

    def watches(self, container: Container, path: str) -> list[str]:
        """Return nothing: a container that runs can't be renamed (lxc-copy(1))."""
        return []

    def changed(self, container: Container, path: str) -> bool:
        """Whether it was renamed, which it can't be."""
        return False


def _images(name: str, path: str) -> Iterator[str]:
    """Yield the images that its files name, the most precise first; empty texts for none."""
    for base in host_bases():
        for directory in _RECORDS:
            yield _of_record(_text(DataRoot(base, directory), f"{directory}/{name}/backup.yaml"))
        for directory in _PATHS:
            yield _of_config(_text(DataRoot(base, directory), f"{directory}/{name}/config"))
    for root in _monitored(path):
        yield _of_record(_text(root, f"{root.path}/backup.yaml")) or _of_config(_text(root, f"{root.path}/config"))


def _monitored(path: str) -> Iterator[DataRoot]:
    """Yield the container's directory from the title of its monitor process."""
    mount = mount_point()
    head, _, name = path.rpartition("/")
    if mount is None or not name.startswith(f"{_PAYLOAD}."):
        return
    try:
        with open(f"{mount}{head}/{_MONITOR}{name[len(_PAYLOAD) :]}/cgroup.procs", encoding="ascii") as file:
            pid = file.readline().strip()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            title = file.read(8192).rstrip(b"\0")
    except (OSError, ValueError):
        return
    monitor = daemon_of(pid) if title.startswith(_TITLE) else None
    if monitor is not None and monitor.below == "/":
        directory, _, its_name = title[len(_TITLE) :].decode("utf-8", "replace").rpartition(" ")
        if directory.startswith("/"):
            yield monitor.data_root(f"{directory}/{its_name}")


def _text(root: DataRoot, path: str) -> str:
    try:
        # LXD's directories lead to its storage by links.
        blocking.check(root.base, path)
        return read(open_file(root.base, path), CONFIG_LIMIT)[0].decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _of_config(text: str) -> str:
    """Return ``debian/bookworm/amd64`` or ``busybox``: the template's parameters or name, or the root file system."""
    template, parameters, rootfs = "", [""], ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == "# Template used to create this container":
            template = value.strip().rpartition("/")[2].removeprefix("lxc-")
        elif key == "# Parameters passed to the template":
            parameters = value.split()
        elif line.partition("=")[0].strip() in {"lxc.rootfs.path", "lxc.rootfs"}:
            rootfs = line.partition("=")[2].strip()
    chosen = dict(pairwise(parameters))
    named = [
        chosen[short] if short in chosen else chosen.get(long, "")
        for short, long in (("-d", "--dist"), ("-r", "--release"), ("-a", "--arch"))
    ]
    if template and named[0]:
        return bounded("/".join(filter(None, named)))
    backend, colon, place = rootfs.partition(":")
    # overlay:LOWER:UPPER, dir:PATH, PATH
    return bounded(template or ((place.partition(":")[0] if backend.isalnum() else rootfs) if colon else rootfs))


def _of_record(text: str) -> str:
    """Return LXD's or Incus' description of an image, as ``lxc list -c Lb`` shows it."""
    for line in text.splitlines():
        key, colon, value = line.strip().partition(": ")
        if colon and key in {"image.description", "volatile.base_image"}:
            return bounded(value.strip().strip("\"'"))
    return ""


RUNTIME = Lxc
