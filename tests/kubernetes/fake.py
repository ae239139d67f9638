# SPDX-License-Identifier: BSD-2-Clause
"""A fake Kubernetes API server: no real one answers 410, cuts a watch inside an event or refuses at will.

It speaks as much of list and watch as the API's documentation promises to a reader, over real HTTP. What a real
one answers is tested in real/.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

PODS = "/api/v1/pods"
SERVICES = "/api/v1/services"
NODE = "node-1"


class Request(NamedTuple):
    at: float
    path: str
    query: dict[str, str]
    token: str = ""

    @property
    def is_watch(self) -> bool:
        return "watch" in self.query


class FakeApi:
    """Collections with a history; what it does wrong is set by attributes, between requests."""

    def __init__(self) -> None:
        self.version = 100
        self.forgotten = 0  # versions up to this one give 410
        self.collections: dict[str, dict[str, dict[str, Any]]] = {PODS: {}, SERVICES: {}}
        self.history: dict[str, list[tuple[int, str, dict[str, Any]]]] = {PODS: [], SERVICES: []}
        self.objects: dict[str, dict[str, Any]] = {f"/api/v1/nodes/{NODE}": {"metadata": {"name": NODE}}}
        self.cache_lacks: set[str] = set()  # paths of objects that are there, and not yet in the server's cache
        self.refuse: dict[str, int] = {}  # path -> status of every answer
        self.refuse_watches = 0  # status of every answer to a watch
        self.refuse_pages = 0  # status of every answer to a list's later pages
        self.ignores_limit = False  # of lists from the cache, which real servers give all at once
        self.retry_after = ""
        self.cut_at: int | None = None  # a watch of pods ends after so many bytes, once
        self.hangs = False  # a watch that is asked for is not answered
        self.closes = False  # every watch ends as soon as it has begun
        self.raw: list[bytes] = []  # sent as they are by the watch that is open, or the next
        self.after_page: Any = None  # called once when the first page of a list was made
        self.snapshots: dict[str, tuple[str, list[Any]]] = {}
        self.requests: list[Request] = []
        self.watching = 0
        self.changed = threading.Condition()
        self.stopping = False
        self.host = ""

    # What tests do to it

    def apply(self, path: str, uid: str, **content: Any) -> None:
        """Make or change an object."""
        with self.changed:
            self.version += 1
            known = uid in self.collections[path]
            made = {**content, "metadata": {**content.get("metadata", {}), "uid": uid, "resourceVersion": str(self.version)}}
            self.collections[path][uid] = made
            self.history[path].append((self.version, "MODIFIED" if known else "ADDED", made))
            self.changed.notify_all()

    def delete(self, path: str, uid: str) -> None:
        with self.changed:
            self.version += 1
            last = self.collections[path].pop(uid)
            last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
            self.history[path].append((self.version, "DELETED", last))
            self.changed.notify_all()

    def send(self, kind: str, content: dict[str, Any]) -> None:
        """Have watches say something out of turn."""
        self.send_raw(json.dumps({"type": kind, "object": content}).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        with self.changed:
            self.raw.append(data)
            self.changed.notify_all()

    def bookmark(self) -> None:
        self.send("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(self.version)}})

    def forget(self) -> None:
        """Compact: every version before now is forgotten, as etcd does after five minutes."""
        self.forgotten = self.version

    def hang_up(self) -> None:
        """Cut the watch of pods that is open."""
        with self.changed:
            self.cut_at = 0
            self.changed.notify_all()

    def asked(self, path: str = PODS, watch: bool | None = None) -> list[Request]:
        return [r for r in list(self.requests) if r.path == path and watch in {None, r.is_watch}]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeApi

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        api = self.api
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        api.requests.append(Request(time.monotonic(), url.path, query, self.headers.get("Authorization", "")))
        if status := api.refuse.get(url.path, 0):
            self._refuse(status, "refused by the test")
        elif url.path in api.cache_lacks and query.get("resourceVersion") == "0":
            self._refuse(404, f"{url.path} not found")
        elif url.path in api.objects:
            self._answer(200, api.objects[url.path])
        elif url.path not in api.collections:
            self._refuse(404, f"{url.path} not found")
        elif "watch" in query:
            self._watch(url.path, query)
        else:
            self._list(url.path, query)

    def _answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429 and self.api.retry_after:
            self.send_header("Retry-After", self.api.retry_after)
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"kind": "Status", "status": "Failure", "message": message, "code": status})

    def _list(self, path: str, query: dict[str, str]) -> None:
        api = self.api
        token, _, begin = query.get("continue", ":0").partition(":")
        start = int(begin)
        if start and api.refuse_pages:
            self._refuse(api.refuse_pages, "the provided continue parameter is too old")
            return
        least = int(query.get("resourceVersion", "0"))
        if least and query.get("resourceVersionMatch") != "NotOlderThan":
            self._refuse(400, "an exact version was asked for")
            return
        with api.changed:  # all pages are of one moment
            version, items = api.snapshots.get(token) or (str(api.version), list(api.collections[path].values()))
            token = token or str(len(api.requests))
            api.snapshots[token] = version, items
        by_pages = "limit" in query and not (api.ignores_limit and query.get("resourceVersion") == "0")
        end = start + int(query["limit"]) if by_pages else len(items)
        rest = f"{token}:{end}" if end < len(items) else ""
        content = {"metadata": {"resourceVersion": version, "continue": rest}, "items": items[start:end]}
        if path == PODS and api.after_page is not None and not start:
            act, api.after_page = api.after_page, None
            act()
        self._answer(200, content)

    def _watch(self, path: str, query: dict[str, str]) -> None:
        api = self.api
        if api.refuse_watches:
            self._refuse(api.refuse_watches, "refused by the test")
            return
        while api.hangs and not api.stopping:
            time.sleep(0.02)
        at = int(query["resourceVersion"])
        if at < api.forgotten:
            self._refuse(410, f"too old resource version: {at}")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        api.watching += 1
        try:
            while not api.stopping:
                with api.changed:
                    data = b"".join(
                        json.dumps({"type": kind, "object": content}).encode() + b"\n"
                        for version, kind, content in api.history[path]
                        if version > at
                    )
                    at = max(at, api.version)
                    if path == PODS:
                        data += b"".join(api.raw)
                        api.raw.clear()
                    if api.closes:
                        break
                    if path == PODS and api.cut_at is not None and sent + len(data) >= api.cut_at:
                        data, api.cut_at, cut = data[: max(0, api.cut_at - sent)], None, True
                    else:
                        cut = False
                        if not data:
                            if self._left():
                                return
                            api.changed.wait(0.1)
                            continue
                for begin in range(0, len(data), 1 << 20):
                    chunk = data[begin : begin + (1 << 20)]
                    self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                sent += len(data)
                if cut:
                    self.close_connection = True
                    return  # without the last chunk: the connection broke
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            api.watching -= 1


    def _left(self) -> bool:
        """Whether the client has hung up."""
        try:
            left = not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        self.close_connection = self.close_connection or left
        return left


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None: ...  # a client that goes away is what is tested


@contextmanager
def fake_api(tls: ssl.SSLContext | None = None) -> Iterator[FakeApi]:
    """Serve on a port of its own for a while."""
    api = FakeApi()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    api.host = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        with api.changed:
            api.stopping = True
            api.changed.notify_all()
        server.shutdown()
        server.server_close()
        thread.join()
