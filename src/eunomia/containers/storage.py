# SPDX-License-Identifier: BSD-2-Clause
"""Stores of containers/storage, which Podman, CRI-O and Buildah use: root's and users'.

A store has a root, which lasts, and a run root, which a reboot clears; both have ``<driver>-containers/<id>/userdata``
(containers-storage.conf(5)). A user's store is untrusted: files in it are read only if the user owns them, because
links could lead to other files, and they count only for cgroups in the user's slice.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from eunomia.containers import blocking
from eunomia.containers.daemons import DataRoot, host_bases
from eunomia.containers.runtime import bounded
from eunomia.containers.tolerant_json import decoded
from eunomia.resolve_in_root import open_file, read
from eunomia.typing import Any, NamedTuple

DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
ROOT, RUN_ROOT = "/var/lib/containers/storage", "/run/containers/storage"
_CONFIGS = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_CONFIG_LIMIT = 1 << 20
LIST_LIMIT = 16 << 20  # bytes; some 700 of a container, 2,000 of an image
_DIGESTS = 1024  # images whose digests are remembered for a store
_STORES = 64  # stores whose images are remembered
_SLICE = "/user.slice/user-"


class Listed(NamedTuple):
    """A container in one of a store's lists."""

    name: str
    image: str
    image_id: str  # of 64 digits


class Store(NamedTuple):
    """A store: ``root`` is its directory and the cgroups that it is trusted for, ``uid`` its owner."""

    root: DataRoot
    run: str = ""
    uid: int = 0

    def open(self, path: str) -> int:
        """Open one of its files; raises :class:`OSError`, and :class:`ValueError` for a NUL in the path."""
        return _open(self.root.base, path, self.uid) if self.uid else self.root.open(path)

    def bundle(self, container_id: str) -> bytes | None:
        """Return a container's OCI ``config.json``; ``None`` if none can be read."""
        for top in (self.root.path, self.run):
            for driver in DRIVERS if top else ():
                try:
                    file = self.open(f"{top}/{driver}-containers/{container_id}/userdata/config.json")
                    return read(file, LIST_LIMIT)[0]
                except (OSError, ValueError):
                    continue
        return None

    def listed(self, container_id: str) -> Listed | None:
        """Return a container's entry in the store's lists; ``None`` if there is none.

        Containers of CRI-O and of ``podman run --rm`` are in a separate list, in the root or the run root.
        """
        from eunomia.containers.json_shapes import StoredContainer, StoredMetadata

        for driver in DRIVERS:
            for top, name in (
                (self.root.path, "containers.json"),
                (self.root.path, "volatile-containers.json"),
                (self.run, "volatile-containers.json"),
            ):
                path = f"{top}/{driver}-containers/{name}"
                for entry in self._list(path, list[StoredContainer]) if top else ():
                    if entry.id == container_id:
                        about = decoded(bounded(entry.metadata).encode(), StoredMetadata) or StoredMetadata()
                        names = entry.names if isinstance(entry.names, list) else []
                        shown = bounded(names[0]) if names else bounded(about.name)
                        return Listed(shown, bounded(about.image_name), bounded(entry.image))
        return None

    def directories(self, container_id: str) -> list[str]:
        """Return the possible directories of a container, as the store's owner sees them."""
        tops = filter(None, (self.run, self.root.path))
        return [f"{top}/{driver}-containers/{container_id}/userdata" for top in tops for driver in DRIVERS]

    def userdata(self, container_id: str, name: str) -> tuple[bytes, int] | None:
        """Return a file beside a bundle and when it was written, the run root's first; ``None`` if missing."""
        for directory in self.directories(container_id):
            try:
                return read(self.open(f"{directory}/{name}"), LIST_LIMIT)
            except (OSError, ValueError):
                continue
        return None

    def images(self) -> Iterator[tuple[str, str]]:
        """Yield images' ids and their manifests' digests."""
        from eunomia.containers.json_shapes import StoredImage

        for driver in DRIVERS:
            for entry in self._list(f"{self.root.path}/{driver}-images/images.json", list[StoredImage]):
                yield bounded(entry.id), bounded(entry.digest)

    def _list(self, path: str, kind: type[list[Any]]) -> list[Any]:
        try:
            data, _ = read(self.open(path), LIST_LIMIT)
        except (OSError, ValueError):
            return []
        return decoded(data, kind) or []


class Images:
    """Digests of images' manifests, read again when an unknown image is asked for."""

    def __init__(self) -> None:
        self._known: dict[Store, dict[str, str]] = {}

    def digest(self, store: Store, image_id: str) -> str:
        """Return ``sha256:...``; empty if the store does not have the image."""
        known = self._known.get(store)
        if known is None or image_id not in known:
            if len(self._known) >= _STORES:
                self._known.clear()
            known = self._known[store] = {}
            for image, digest in store.images():
                if len(known) < _DIGESTS:
                    known[image] = digest
            known.setdefault(image_id, "")
        return known[image_id]


def roots_stores() -> Iterator[Store]:
    """Yield root's own stores: the configured one and the default."""
    for base in host_bases():
        configured = _settings(base, _CONFIGS)
        yield Store(
            DataRoot(base, bounded(configured.get("graphroot")) or ROOT),
            bounded(configured.get("runroot")) or RUN_ROOT,
        )
        yield Store(DataRoot(base, ROOT), RUN_ROOT)


def users_stores(path: str) -> Iterator[Store]:
    """Yield the stores of the user whose slice (``/user.slice/user-UID.slice/...``) a cgroup is in."""
    number, dot, _ = path.removeprefix(_SLICE).partition(".slice/")
    if not path.startswith(_SLICE) or not dot or not (number.isascii() and number.isdigit()) or int(number) == 0:
        return
    uid, below = int(number), f"{_SLICE}{number}.slice"
    for base in host_bases():
        user, home = _account(base, uid)
        if not home.startswith("/"):
            continue
        variables = (("$HOME", home), ("$USER", user), ("$UID", number))
        own = _settings(base, (f"{home}/.config/containers/storage.conf",), uid)
        common = _settings(base, _CONFIGS)
        run = bounded(own.get("runroot")) or f"/run/user/{uid}/containers"
        for root in dict.fromkeys(
            (
                bounded(own.get("graphroot")),
                bounded(common.get("rootless_storage_path")),
                f"{home}/.local/share/containers/storage",
            )
        ):
            if root:
                yield Store(DataRoot(base, _expanded(root, variables), below), _expanded(run, variables), uid)


def _open(base: str, path: str, uid: int) -> int:
    """Open a file that the user must own; root (uid 0) may open any."""
    blocking.check(base, path)
    descriptor = open_file(base, path)
    if uid and os.fstat(descriptor).st_uid != uid:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "not a file of the store's owner", path)
    return descriptor


def _expanded(path: str, variables: tuple[tuple[str, str], ...]) -> str:
    for variable, value in variables:
        path = path.replace(variable, value)
    return path


def _account(base: str, uid: int) -> tuple[str, str]:
    """Return a user's name and home from /etc/passwd; other user databases may need the network."""
    try:
        data, _ = read(open_file(base, "/etc/passwd"), LIST_LIMIT)
    except OSError:
        return "", ""
    for line in data.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2] == str(uid):
            return fields[0], fields[5].rstrip("/")
    return "", ""


def _settings(base: str, paths: tuple[str, ...], uid: int = 0) -> dict[str, object]:
    """Return the section ``[storage]`` of the first file that exists."""
    for path in paths:
        try:
            data, _ = read(_open(base, path, uid), _CONFIG_LIMIT)
        except (OSError, ValueError):
            continue
        import tomllib

        try:
            settings = tomllib.loads(data.decode("utf-8", "replace")).get("storage")
        except (tomllib.TOMLDecodeError, RecursionError, ValueError):
            return {}
        return settings if isinstance(settings, dict) else {}
    return {}
