# SPDX-License-Identifier: BSD-2-Clause
"""A registry that breaks the protocol on purpose, which a real one cannot be made to do."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from eunomia.oci.reference import digest_of


class HostileRegistry(http.server.ThreadingHTTPServer):
    """Serves manifests by tag and blobs by digest, unless ``answers`` has something else for a path.

    ``answers`` maps a path, or the beginning of one, to a function that gets the request's handler. ``asked`` are the
    requests: their paths, and the headers that they had.
    """

    daemon_threads = True

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls:  # a certificate and its key
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.contents: dict[str, bytes] = {}
        self.answers: dict[str, Callable[[Any], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def store(self, repository: str, tag: str, manifest: bytes, *blobs: bytes) -> None:
        self.contents[f"/v2/{repository}/manifests/{tag}"] = manifest
        self.contents[f"/v2/{repository}/manifests/{digest_of(manifest)}"] = manifest
        for blob in blobs:
            self.contents[f"/v2/{repository}/blobs/{digest_of(blob)}"] = blob

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what is tested."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HostileRegistry

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        for path, answer in self.server.answers.items():
            if self.path.startswith(path):
                with suppress(OSError):
                    answer(self)
                return
        found = self.server.contents.get(self.path, b"{}" if self.path == "/v2/" else None)
        body(found if found is not None else b'{"errors": []}', 404 if found is None else 200)(self)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    do_PUT = do_HEAD = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None: ...


def body(data: bytes, status: int = 200, **headers: str) -> Callable[[Any], None]:
    """Return what answers with these bytes."""

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"content_length": str(len(data)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(data)

    return answer


def redirect(target: str, status: int = 307) -> Callable[[Any], None]:
    """Return what sends the client elsewhere."""
    return body(b"", status, location=target)
