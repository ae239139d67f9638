# SPDX-License-Identifier: BSD-2-Clause
"""A tracker's object, keys made by openssl, and a registry for a whole module."""

import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.cli.conftest import GOOD, compiled, eunomia  # noqa: F401
from tests.oci import registries


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path, monkeypatch):
    """A cache and a home of its own for each test, and no credentials."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "EUNOMIA_REGISTRY_USERNAME", "EUNOMIA_REGISTRY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry without TLS and login."""
    with registries.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The object of a small tracker, mine.bpf.o."""
    needs.program("clang", "clang")
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.bpf.c").write_text(GOOD)
    from eunomia.oci import compiler

    compiler.compile_probe(
        compiler.compiler(), str(folder / "mine.bpf.c"), str(folder / "mine.bpf.o"), warn=lambda said: None
    )
    return folder / "mine.bpf.o"


class Keys:
    """A pair of keys made by openssl: ``private`` and ``public`` are files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pub"
        openssl = needs.program("openssl", "openssl")
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run([openssl, "genpkey", *curve, "-out", self.private], check=True, capture_output=True)
        subprocess.run([openssl, "pkey", "-in", self.private, "-pubout", "-out", self.public], check=True)


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"), "mine")


@pytest.fixture(scope="session")
def others_keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"), "other")
