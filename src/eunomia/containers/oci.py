# SPDX-License-Identifier: BSD-2-Clause
"""Reader of OCI bundles' ``config.json``, the configuration that runc or crun applies to a container.

See https://github.com/opencontainers/runtime-spec (config.md, config-linux.md). Runtimes write the bundle before
they make the cgroup, so it exists before the container's first program runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eunomia.containers.runtime import TEXTS_LIMIT, bounded, texts, words
from eunomia.containers.tolerant_json import decoded
from eunomia.identity import Container, Mount, Texts
from eunomia.typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eunomia.containers.json_shapes import OciHooks, OciLinux

# AppArmor profiles that runtimes apply by default.
_DEFAULT_PROFILES = (
    "docker-default", "cri-containerd.apparmor.d", "nerdctl-default", "containers-default-", "crio-default",
)  # fmt: skip

# Up to CAP_AUDIT_READ; some kernels lack the three that came later.
_ALL_CAPABILITIES = 38
_FULL = "CAP_SYS_ADMIN"


class Bundle(NamedTuple):
    """A bundle's values, named as in :class:`Container`; ``rootless``: it has a user namespace of its own."""

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

    def described(self, container: Container) -> Container:
        """Return a container with the bundle's values."""
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

    def cgroup_path(self, container_id: str) -> str:
        """Return the path of the container's own cgroup, below the runtime's cgroup.

        runc takes a path, or ``SLICE:PREFIX:NAME`` for systemd; without either, the name is the container's id.
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
        """Return the annotations as stored in a container."""
        return texts(self.annotations)


def bundle(data: bytes) -> Bundle | None:
    """Return the values of a ``config.json``; ``None`` if it is no JSON object. Never raises.

    ``seccomp`` is ``unconfined`` without a filter and ``filter`` with one: bundles do not have its name.
    ``network`` is ``host``, ``none`` if no interfaces are made, and empty if the bundle does not say.
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
        return ()  # runc drops all if none are listed
    return words(value.get("bounding")) if isinstance(value, dict) else None


def _namespaces(value: object) -> dict[str, str]:
    """Return paths by kind of namespace, empty for new ones; a missing kind is shared with the host."""
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
    """Yield bind mounts; other file systems (proc, tmpfs ...) are the container's own."""
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
    """Whether a container has all privileges; None if that is unclear, as bundles do not say what was requested."""
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
