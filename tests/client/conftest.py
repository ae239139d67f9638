# SPDX-License-Identifier: BSD-2-Clause
"""A real server, and what stands between it and a client."""

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import needs
from tests.server.conftest import EUNOMIA, Server, server

__all__ = ["server"]


class Relay:
    """Passes connections on to a Unix socket; it can cut them all."""

    def __init__(self, listener: socket.socket, target: Path) -> None:
        self._listener, self._target = listener, target
        self._open: list[socket.socket] = []
        self.accepted = 0
        listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._target))
            self._open += [near, far]
            threading.Thread(target=self._pump, args=(near, far), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Drop every connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def relay(server, tmp_path: Path) -> Iterator[tuple[Relay, Path]]:
    """A relay to the server, and its socket."""
    path = tmp_path / "relay"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    made = Relay(listener, server.socket)
    yield made, path
    made.close()


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Return a new self-signed certificate for localhost, and its key."""
    openssl = needs.program("openssl", "openssl")
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


class Secured(NamedTuple):
    """A server on TCP with TLS, its certificate, and a token of the scope ``run``."""

    url: str
    certificate: Path
    token: str


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[Secured]:
    needs.root()
    directory = tmp_path / "secured"
    directory.mkdir()
    made, key = certificate(tmp_path, "mine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = Server(directory, "--listen", f"127.0.0.1:{port}", "--tls", f"{made},{key}")
    command = [EUNOMIA, "token", "create", "test", "--scope", "run", "--state", running.state, "-o", "json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    yield Secured(f"https://localhost:{port}", made, told["token"])
    assert running.stop() == 0, running.errors.read_text()
