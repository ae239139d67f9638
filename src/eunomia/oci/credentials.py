# SPDX-License-Identifier: BSD-2-Clause
"""Who one is to a registry: from the environment, or from the files that docker and podman write on login."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any  # msgspec knows the real one only

from eunomia.oci.errors import DistributionError
from eunomia.oci.untrusted_json import decode
from eunomia.typing import NamedTuple

_HELPER = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SECONDS = 30  # that a credential helper may take
_MOST = 1 << 20
_HUB = "https://index.docker.io/v1/"  # under which docker.io is in the file


class Credentials(NamedTuple):
    """A name and password; or, if ``refresh`` is set, a token with which others are asked for."""

    user: str = ""
    password: str = ""
    refresh: str = ""

    def __repr__(self) -> str:  # never in a message
        return "Credentials(...)"


def find(registry: str, environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return the credentials for a registry; None to ask as nobody. Raises :class:`DistributionError`.

    ``EUNOMIA_REGISTRY_USERNAME`` and ``EUNOMIA_REGISTRY_PASSWORD`` are for the registry in ``EUNOMIA_REGISTRY``, or
    for any if that is not set.
    """
    user, password = environ.get("EUNOMIA_REGISTRY_USERNAME"), environ.get("EUNOMIA_REGISTRY_PASSWORD")
    if user and password and environ.get("EUNOMIA_REGISTRY", registry) == registry:
        return Credentials(user, password)
    for path in _files(environ):
        found = _in_file(path, registry)
        if found is not None:
            return found
    return None


def _files(environ: Mapping[str, str]) -> list[str]:
    """Return the files to look in, the first first."""
    home = environ.get("HOME") or os.path.expanduser("~")
    docker = os.path.join(environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")
    podman = environ.get("REGISTRY_AUTH_FILE")
    run = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return [*([podman] if podman else []), docker, os.path.join(run, "containers/auth.json")]


def _in_file(path: str, registry: str) -> Credentials | None:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST)
    except OSError:
        return None
    try:
        known = decode(data, dict[str, Any])
        keys = _keys(registry)
        helpers = known.get("credHelpers") or {}
        entries = known.get("auths") or {}
        helper = next((helpers[key] for key in keys if key in helpers), known.get("credsStore") or "")
        if helper:
            found = _from_helper(str(helper), next((key for key in keys if key in helpers), keys[0]))
            if found is not None:
                return found
        for key in keys:
            if entries.get(key):
                return _of_entry(entries[key])
    except (ValueError, AttributeError, TypeError, KeyError):
        raise DistributionError(f"{path}: it is not a file that `docker login` wrote") from None
    return None


def _keys(registry: str) -> list[str]:
    if registry == "docker.io":
        return [_HUB, "docker.io", "index.docker.io", "registry-1.docker.io"]
    return [registry, f"https://{registry}", f"http://{registry}", f"https://{registry}/v2/"]


def _of_entry(entry: Mapping[str, Any]) -> Credentials | None:
    if token := entry.get("identitytoken"):
        return Credentials(refresh=str(token))
    if entry.get("auth"):
        user, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not colon:
            raise ValueError
        return Credentials(user, password.rstrip("\0"))
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]))
    return None


def _from_helper(helper: str, registry: str) -> Credentials | None:
    """Ask a program as docker does; None if it knows nothing."""
    if not _HELPER.fullmatch(helper):
        raise ValueError
    command = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [command, "get"], input=registry.encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise DistributionError(f"{command}, which docker's config.json names, is not installed") from None
    except subprocess.TimeoutExpired:
        raise DistributionError(f"{command} does not answer") from None
    if done.returncode:
        return None
    told = decode(done.stdout, dict[str, Any])
    user, secret = str(told["Username"]), str(told["Secret"])
    return Credentials(refresh=secret) if user == "<token>" else Credentials(user, secret)
