# SPDX-License-Identifier: BSD-2-Clause
"""How registries are asked and what of them may run: /etc/eunomia/oci.toml, and what the caller says."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Sequence
from glob import glob
from typing import Annotated

import msgspec

from eunomia.oci import cache, policy
from eunomia.oci.errors import DistributionError
from eunomia.typing import NamedTuple

FILE = "/etc/eunomia/oci.toml"
KEYS = "/etc/eunomia/keys/*.pub"
_MOST = 1 << 20


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """What the file may have."""

    require_signed: bool = True
    keys: tuple[str, ...] = (KEYS,)
    allow: tuple[str, ...] = ()
    match_identity: bool = False
    plain_http: tuple[str, ...] = ()
    ca_file: str = ""
    cache_size: Annotated[int, msgspec.Meta(ge=0)] = cache.BOUND


class Settings(NamedTuple):
    """How registries are asked, and what may run.

    ``plain_http`` are the registries that are asked without TLS, ``seconds`` how long a pull or push may take.
    """

    policy: policy.Policy
    plain_http: tuple[str, ...] = ()
    ca_file: str = ""
    cache: cache.Cache | None = None
    seconds: float = 300


def read(
    keys: Sequence[str] = (),
    *,
    insecure_unsigned: bool = False,
    plain_http: Sequence[str] = (),
    ca_file: str = "",
    file: str = FILE,
) -> Settings:
    """Return the settings; those that are given come before the file's. Raises :class:`DistributionError`.

    ``keys`` are used instead of the file's, so that a signature of any other key is not accepted.
    """
    known = _read_file(file)
    required = known.require_signed and not insecure_unsigned
    paths = list(keys) or [path for pattern in known.keys for path in _trusted(pattern)]
    loaded = []
    if paths and (required or keys):
        from eunomia.oci.keys import read_public

        loaded = [read_public(path) for path in paths]
    return Settings(
        policy.Policy(required, tuple(loaded), known.allow, known.match_identity),
        (*known.plain_http, *plain_http),
        ca_file or known.ca_file,
        cache.Cache(where, known.cache_size) if (where := cache.place()) else None,
    )


def _trusted(pattern: str) -> list[str]:
    """Return the files of keys; raises an error for one that anybody may write."""
    paths = sorted(glob(pattern))
    for path in {*paths, *map(os.path.dirname, paths)}:  # a folder too: others could add a key
        _check_owner(path)
    return paths


def _check_owner(path: str) -> None:
    try:
        about = os.stat(path)
    except OSError as error:
        raise DistributionError(f"{path}: {error.strerror}") from None
    if about.st_uid not in {0, os.geteuid()} or about.st_mode & stat.S_IWOTH:
        raise DistributionError(f"{path}: others may write it, so it says nothing on what is trusted")


def _read_file(path: str) -> _File:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST)
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise DistributionError(f"{path}: {error.strerror}") from None
    _check_owner(path)
    try:
        return msgspec.convert(tomllib.loads(data.decode()), _File)
    except (ValueError, RecursionError) as error:  # of tomllib, of msgspec, of decode()
        raise DistributionError(f"{path}: {error}") from None
