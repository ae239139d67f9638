# SPDX-License-Identifier: BSD-2-Clause
"""A real server, and what stands between it and a client."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.server.conftest import server

__all__ = ["server"]


class Relay:
    """Passes connections on to a Unix socket; it can cut them all, and refuse new ones. With TLS if it has a context."""

    def __init__(self, listener: socket.socket, target: Path, tls: ssl.SSLContext | None = None) -> None:
        self._listener, self._target, self._tls = listener, target, tls
        self._open: list[socket.socket] = []
        self.heard = b""
        self.accepted = 0
        listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                if self._tls is not None:
                    near = self._tls.wrap_socket(near, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            self.accepted += 1
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._target))
            self._open += [near, far]
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, hears: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if hears:
                    self.heard += data
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


@pytest.fixture
def over_tls(server, tmp_path: Path) -> Iterator[tuple[Relay, str, Path]]:
    """A relay that speaks TLS, its URL, and its certificate."""
    cert, key = certificate(tmp_path, "mine")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    made = Relay(listener, server.socket, context)
    yield made, f"https://localhost:{listener.getsockname()[1]}", cert
    made.close()
