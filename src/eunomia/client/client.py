# SPDX-License-Identifier: BSD-2-Clause
"""The client: a method for each call of the API."""

from __future__ import annotations

import builtins
import http.client
import os
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from eunomia.client.connection import NoServer, Place, connection, place, unreachable
from eunomia.client.events import Events
from eunomia.client.problem import ApiProblem
from eunomia.server.models import (
    Containers,
    Generation,
    Health,
    History,
    Kind,
    Kinds,
    Ledger,
    LogLine,
    Logs,
    Problem,
    Processes,
    RollbackRequest,
    Snapshot,
    Tracker,
    TrackerPatch,
    TrackerRequest,
    Trackers,
    UpdateRequest,
    Uploaded,
)

_TIMEOUT = 300.0  # seconds; the kernel may verify a large object for long
_LARGEST = 256 << 20  # bytes of an answer

T = TypeVar("T")


class Client:
    """Calls a server. Any thread may use it.

    Methods raise :class:`ApiProblem` for what the server refuses, and :class:`NoServer` where there is none.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] = "",
        *,
        url: str = "",
        token: str = "",
        ca: str = "",
        timeout: float = _TIMEOUT,
    ) -> None:
        """Take where the server is: the path of its Unix socket, or a URL; without both, the usual socket.

        ``ca`` is a file with the certificates that may sign the server's. Raises :class:`ValueError`.
        """
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError("a token has letters, digits and signs of ASCII alone")
        self._place = place(os.fspath(socket), url, ca)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout

    @property
    def place(self) -> Place:
        """Where the server is."""
        return self._place

    # What runs

    def kinds(self) -> builtins.list[Kind]:
        """Return the trackers that can be started by name."""
        return self._call("GET", "/v1/kinds", Kinds).kinds

    def list(self) -> builtins.list[Tracker]:
        """Return the trackers that run, and the latest that have ended."""
        return self._call("GET", "/v1/trackers", Trackers).trackers

    def get(self, id_: str) -> Tracker:
        """Return a tracker."""
        return self._call("GET", _path(id_), Tracker)

    def history(self, id_: str) -> builtins.list[Generation]:
        """Return the objects that a tracker has run, the first one first."""
        return self._call("GET", _path(id_, "history"), History).generations

    def logs(self, id_: str) -> builtins.list[LogLine]:
        """Return what happened to a tracker, the latest last."""
        return self._call("GET", _path(id_, "logs"), Logs).lines

    # Changes

    def start(self, request: TrackerRequest) -> Tracker:
        """Start a tracker; it is attached when this returns."""
        return self._call("POST", "/v1/trackers", Tracker, request)

    def stop(self, id_: str) -> Tracker:
        """Stop a tracker: its remaining rows are passed on."""
        return self._call("DELETE", _path(id_), Tracker)

    def patch(self, id_: str, patch: TrackerPatch) -> Tracker:
        """Change filters, settings, outputs or duration of a tracker."""
        return self._call("PATCH", _path(id_), Tracker, patch)

    def update(self, id_: str, request: UpdateRequest) -> Tracker:
        """Replace the object of a tracker while it runs."""
        return self._call("PUT", _path(id_, "object"), Tracker, request)

    def rollback(self, id_: str, generation: int = 0) -> Tracker:
        """Have a tracker run the object of an earlier generation; 0 is the one before."""
        return self._call("POST", _path(id_, "rollback"), Tracker, RollbackRequest(generation))

    def upload(self, data: bytes) -> Uploaded:
        """Upload a BPF object; its digest names it in requests."""
        return self._call("POST", "/v1/objects", Uploaded, data)

    # Rows and accounts

    def events(
        self,
        id_: str,
        *,
        after: int | None = None,
        filters: Mapping[str, str] | None = None,
        patience: float = 60.0,
    ) -> Events:
        """Return a tracker's rows as they come, from the one behind number ``after`` on.

        ``filters`` are the query's: ``stream``, ``pid``, ``uid``, ``comm``, ``container``, several values by comma. A
        connection that drops is opened again and goes on where it was, for ``patience`` seconds.
        """
        query = f"?{urlencode(filters)}" if filters else ""
        return Events(self._place, self._headers, f"{_path(id_, 'events')}{query}", after, patience)

    def snapshot(self, id_: str, rows: int = 100) -> builtins.list[dict[str, Any]]:
        """Return a tracker's latest rows, oldest first; there are some while somebody reads its events."""
        return self._call("GET", f"{_path(id_, 'snapshot')}?rows={rows}", Snapshot).rows

    def ledger(self, id_: str = "") -> Ledger:
        """Return the accounts of a tracker, or of all."""
        return self._call("GET", _path(id_, "ledger") if id_ else "/v1/ledger", Ledger)

    # The machine

    def containers(self) -> builtins.list[dict[str, Any]]:
        """Return the containers that run."""
        return self._call("GET", "/v1/containers", Containers).containers

    def processes(self) -> builtins.list[dict[str, Any]]:
        """Return the processes that run, each before its children."""
        return self._call("GET", "/v1/processes", Processes).processes

    def ready(self) -> Health:
        """Return the server's version, if it works."""
        return self._call("GET", "/readyz", Health)

    def _call(self, method: str, path: str, gives: type[T], body: msgspec.Struct | bytes | None = None) -> T:
        data = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        headers = self._headers if data is None else {**self._headers, "content-type": kind}
        status, answer = self._ask(method, path, data, headers)
        if status >= 400:
            raise problem(status, answer)
        try:
            return msgspec.json.decode(answer, type=gives)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoServer(f"{self._place}: the answer is not one of a server of this version: {error}") from None

    def _ask(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        to = connection(self._place, self._timeout)
        try:
            to.request(method, path, data, headers)
            answer = to.getresponse()
            return answer.status, answer.read(_LARGEST)
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._place, error) from None
        finally:
            to.close()


def _path(id_: str, below: str = "") -> str:
    return f"/v1/trackers/{quote(id_, safe='')}" + (f"/{below}" if below else "")


def problem(status: int, answer: bytes) -> ApiProblem:
    """Return the error that an answer tells."""
    try:
        told = msgspec.json.decode(answer, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ApiProblem(status, http.client.responses.get(status, f"status {status}"))
    return ApiProblem(status, told.detail or told.title, told.field)
