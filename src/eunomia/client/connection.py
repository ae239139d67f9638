# SPDX-License-Identifier: BSD-2-Clause
"""Connections to a server: HTTP over a Unix socket, TCP or TLS."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

SOCKET = "/run/eunomia/eunomia.sock"
_PORTS = {"http": 80, "https": 443}


class NoServer(OSError):
    """The server cannot be reached; the text says why, and what to do."""


class Place(NamedTuple):
    """Where a server is: the path of a Unix socket, or a host and a port, with TLS for ``https``."""

    path: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        if self.path:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def place(path: str = "", url: str = "", ca: str = "") -> Place:
    """Return where a server is: ``url`` is ``unix:/path``, ``http://...`` or ``https://...``.

    ``ca`` is a file with the certificates that may sign the server's; without it, those of the system. Raises
    :class:`ValueError`.
    """
    if path and url:
        raise ValueError("name a socket or a URL, not both")
    if url.startswith("unix:"):
        path = url.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise ValueError(f"{url}: name the socket's whole path, as in unix:{SOCKET}")
        url = ""
    if not url:
        return Place(path or SOCKET)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url}: a server's URL begins with https://, http:// or unix:/")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{url}: a server's URL is a host and a port alone, as in https://{parts.hostname}:7443")
    tls = None
    if parts.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=ca or None)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"{ca}: it has no certificates: {error}") from None
    elif ca:
        raise ValueError(f"{url}: certificates are for https://")
    return Place("", parts.hostname, port or _PORTS[parts.scheme], tls)


def connection(to: Place, timeout: float) -> http.client.HTTPConnection:
    """Return a connection that is not open yet."""
    if to.path:
        return _Unix(to.path, timeout)
    if to.tls is None:
        return http.client.HTTPConnection(to.host, to.port, timeout=timeout)
    return http.client.HTTPSConnection(to.host, to.port, timeout=timeout, context=to.tls)


def unreachable(to: Place, error: Exception) -> NoServer:
    """Return the error for a server that could not be reached."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoServer(f"{to}: its certificate is not trusted: {error.verify_message}")
    if to.path and isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return NoServer(f"no server listens on {to}: start it with: sudo eunomia server")
    if to.path and isinstance(error, PermissionError):
        return NoServer(f"{to} is its owner's alone: use sudo, or --host with a token")
    if isinstance(error, TimeoutError):
        return NoServer(f"{to}: no answer in time")
    return NoServer(f"{to}: {getattr(error, 'strerror', None) or error or type(error).__name__}")
