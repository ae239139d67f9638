# SPDX-License-Identifier: BSD-2-Clause
"""What an OCI bundle's ``config.json`` tells of a container: the very words that runc or crun acts upon.

See https://github.com/opencontainers/runtime-spec (config.md, config-linux.md). Runtimes write the bundle before
they make the cgroup, so it is there before the container's first program runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eunomia.containers.runtime import TEXTS_LIMIT, bounded, texts, words
from eunomia.containers.tolerant_json import decoded
from eunomia.identity import Container, Mount, Texts
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.containers.json_shapes import OciHooks, OciLinux

# Profiles that runtimes load for containers of which nothing was asked.
_DEFAULT_PROFILES = (
    "docker-default", "cri-containerd.apparmor.d", "nerdctl-default", "containers-default-", "crio-default",
)  # fmt: skip

# Up to CAP_AUDIT_READ; the three that came later are younger than some kernels.
_ALL_CAPABILITIES = 38
_FULL = "CAP_SYS_ADMIN"


class Bundle(NamedTuple):
    """A bundle's facts, in the words of :class:`Container`; ``rootless``: it has a user namespace of its own."""

    annotations: Mapping[str, str]
    command: tuple[str, ...] = ()
    user: str = ""
    capabilities: tuple[str, ...] | None = None
    apparmor: str = ""
    seccomp: str = ""
    mounts: tuple[Mount, ...] = ()
    network: str = ""
    privileged: bool | None = None
    rootless: bool = False
    cgroup: str = ""

    def told(self, container: Container) -> Container:
        """Return a container with all that the bundle tells of it."""
        return container._replace(
            annotations=self.texts(),
            command=self.command,
            user=self.user,
            capabilities=self.capabilities,
            apparmor=self.apparmor,
            seccomp=self.seccomp,
            mounts=self.mounts,
            network=self.network,
            privileged=self.privileged,
        )

    def group(self, container_id: str) -> str:
        """Return the path of the container's own cgroup, below that in which its runtime works.

        runc takes a path, or ``SLICE:PREFIX:NAME`` for systemd; without either it is called after the container.
        """
        slice_, colon, unit = self.cgroup.partition(":")
        if not colon:
            return "/" + (self.cgroup.strip("/") or container_id)
        prefix, _, name = unit.partition(":")
        if not name.endswith(".slice"):
            name = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
        words_ = (slice_ or "system.slice").removesuffix(".slice").split("-")
        above = "".join(f"/{'-'.join(words_[: i + 1])}.slice" for i in range(len(words_)))
        return f"{above}/{name}"

    def texts(self) -> Texts:
        """Return the annotations as a container has them."""
        return texts(self.annotations)


def bundle(data: bytes) -> Bundle | None:
    """Return what ``config.json`` tells; ``None`` for what is no JSON object. Never raises.

    ``seccomp`` is ``unconfined`` without a filter and ``filter`` with one, whose name the bundle does not know.
    ``network`` is ``host``, ``none`` where nobody makes interfaces, and empty where the bundle does not tell.
    """
    if not data:
        return None
    from eunomia.containers.json_shapes import OciConfig, OciHooks, OciLinux, OciProcess

    config = decoded(data, OciConfig)
    if config is None:
        return None
    process = decoded(config.process, OciProcess) or OciProcess()
    linux = decoded(config.linux, OciLinux) or OciLinux()
    hooks = decoded(config.hooks, OciHooks) or OciHooks()
    annotations = decoded(config.annotations, object)
    namespaces = _namespaces(linux.namespaces)
    apparmor = _apparmor(bounded(process.apparmorProfile))
    seccomp = "filter" if bytes(linux.seccomp) not in {b"", b"null"} else "unconfined"
    capabilities = _capabilities(process.capabilities)
    return Bundle(
        annotations if isinstance(annotations, dict) else {},
        words(process.args),
        _user(process.user),
        capabilities,
        apparmor,
        seccomp,
        tuple(_mounts(decoded(config.mounts, object))),
        _network(namespaces, hooks),
        _privileged(capabilities, linux, namespaces, (apparmor, seccomp) == ("unconfined", "unconfined")),
        "user" in namespaces,
        bounded(linux.cgroupsPath),
    )


def _user(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    uid, gid = value.get("uid"), value.get("gid")
    return f"{uid}:{gid}" if isinstance(uid, int) and isinstance(gid, int) else ""


def _capabilities(value: object) -> tuple[str, ...] | None:
    if value is None:
        return ()  # runc keeps none where none are listed
    return words(value.get("bounding")) if isinstance(value, dict) else None


def _namespaces(value: object) -> dict[str, str]:
    """Return the kinds of namespaces and their paths, empty for new ones; a kind not there is the host's."""
    found: dict[str, str] = {}
    if isinstance(value, list):
        for namespace in value[:TEXTS_LIMIT]:
            if isinstance(namespace, dict):
                found[bounded(namespace.get("type"))] = bounded(namespace.get("path"))
    return found


def _network(namespaces: Mapping[str, str], hooks: OciHooks) -> str:
    if not namespaces:
        return ""
    path = namespaces.get("network")
    if path is None:
        return "host"
    return "" if path or hooks.prestart or hooks.createRuntime else "none"


def _apparmor(profile: str) -> str:
    return "default" if profile.startswith(_DEFAULT_PROFILES) else profile or "unconfined"


def _mounts(value: object) -> Iterator[Mount]:
    """Yield what leads out of the container; file systems of its own (proc, tmpfs ...) do not."""
    if not isinstance(value, list):
        return
    kept = 0
    for mount in value:
        if not isinstance(mount, dict):
            continue
        options = mount.get("options")
        options = options if isinstance(options, list) else []
        if mount.get("type") not in ("bind", "rbind") and "bind" not in options and "rbind" not in options:
            continue
        source, destination = bounded(mount.get("source")), bounded(mount.get("destination"))
        yield Mount(source, destination, "bind", "ro" not in options)
        kept += 1
        if kept == TEXTS_LIMIT // 4:
            return


def _privileged(
    capabilities: tuple[str, ...] | None, linux: OciLinux, namespaces: Mapping[str, str], unconfined: bool
) -> bool | None:
    """Whether nothing is held back; no bundle says what was asked for, so it is told only where it is plain."""
    if capabilities is None or not namespaces:
        return None
    if _FULL not in capabilities or "user" in namespaces:
        return False
    free = unconfined and not linux.maskedPaths and not linux.readonlyPaths
    return True if free and len(set(capabilities)) >= _ALL_CAPABILITIES and _all_devices(linux) else None


def _all_devices(linux: OciLinux) -> bool:
    """Whether the last rule for all devices allows them."""
    rules = linux.resources.get("devices") if isinstance(linux.resources, dict) else None
    allowed = False
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict) and rule.get("access") == "rwm" and rule.get("type", "a") in {"", "a"}:
            allowed = rule.get("allow") is True
    return allowed
