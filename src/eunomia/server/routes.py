# SPDX-License-Identifier: BSD-2-Clause
"""The routes of the API, each with what it takes and answers: the application and its description are made of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from eunomia import __version__
from eunomia.server import hub as hubs
from eunomia.server import inventory, metrics
from eunomia.server.auth import require
from eunomia.server.hub import Hub
from eunomia.server.metrics import Answers
from eunomia.server.models import (
    Containers,
    Health,
    History,
    Kinds,
    Ledger,
    Logs,
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
from eunomia.server.objects import digest_of
from eunomia.server.opening import described
from eunomia.server.problems import ApiError, invalid
from eunomia.server.subscribe import Reader, last_id, snapshot, wanted, whole
from eunomia.source import LARGEST

OPEN = frozenset({"/healthz", "/readyz"})  # answered to everybody who can connect
READ, RUN, LOAD, ADMIN, NOBODY = "read", "run", "load", "admin", ""


class Route(NamedTuple):
    """``takes`` and ``gives`` are structs of :mod:`eunomia.server.models`; ``scope`` is what a caller must have."""

    method: str
    path: str
    call: Callable[[Request], Awaitable[Response]]
    scope: str
    summary: str
    takes: Any = None
    gives: Any = None
    status: int = 200
    query: tuple[str, ...] = ()


def answer(body: object, status: int = 200) -> Response:
    """Return a struct as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


async def body_of(request: Request, struct: Any) -> Any:
    """Return the request's body; raises :class:`ApiError` if it is not what it should be."""
    data = await request.body()
    try:
        return msgspec.json.decode(data or b"{}", type=struct)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except msgspec.DecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None


def hub_of(request: Request | WebSocket) -> Hub:
    """Return the hub that a request is for."""
    hub: Hub = request.app.state.hub
    return hub


async def _kinds(request: Request) -> Response:
    return answer(Kinds(await asyncio.to_thread(hubs.kinds_known)))


async def _list(request: Request) -> Response:
    hub = hub_of(request)
    return answer(Trackers([hub.shown(entry) for entry in list(hub.entries.values())]))


async def _start(request: Request) -> Response:
    hub = hub_of(request)
    wish: TrackerRequest = await body_of(request, TrackerRequest)
    if wish.object:
        require(request.scope, LOAD)
    if wish.outputs:  # which the server writes, with its own rights
        require(request.scope, ADMIN)
    entry = await asyncio.to_thread(hub.begin, wish)
    made = answer(hub.shown(entry), 201)
    made.headers["location"] = f"/v1/trackers/{entry.id}"
    return made


async def _get(request: Request) -> Response:
    hub = hub_of(request)
    return answer(hub.shown(hub.get(request.path_params["id"])))


async def _stop(request: Request) -> Response:
    hub = hub_of(request)
    return answer(hub.shown(await asyncio.to_thread(hub.stop, request.path_params["id"])))


async def _patch(request: Request) -> Response:
    hub = hub_of(request)
    patch = await body_of(request, TrackerPatch)
    if patch.outputs:
        require(request.scope, ADMIN)
    return answer(hub.shown(await asyncio.to_thread(hub.patch, request.path_params["id"], patch)))


async def _update(request: Request) -> Response:
    hub = hub_of(request)
    wish = await body_of(request, UpdateRequest)
    replacing = await asyncio.to_thread(hub.replace, request.path_params["id"], wish)
    await asyncio.wait([asyncio.wrap_future(replacing.trial)])  # a minute at most, in which no thread waits
    return answer(hub.shown(await asyncio.to_thread(hub.settle, replacing)))


async def _rollback(request: Request) -> Response:
    hub = hub_of(request)
    wish = await body_of(request, RollbackRequest)
    entry = await asyncio.to_thread(hub.rollback, request.path_params["id"], wish.generation)
    return answer(hub.shown(entry))


async def _history(request: Request) -> Response:
    return answer(History(hub_of(request).get(request.path_params["id"]).history))


async def _logs(request: Request) -> Response:
    return answer(Logs(list(hub_of(request).get(request.path_params["id"]).log)))


async def _ledger(request: Request) -> Response:
    hub = hub_of(request)
    id_ = request.path_params.get("id", "")
    if id_:
        hub.get(id_)
    return answer(await asyncio.to_thread(hub.ledger, id_))


async def _snapshot(request: Request) -> Response:
    hub = hub_of(request)
    entry = hub.get(request.path_params["id"])
    most = whole(request.query_params.get("rows", "100"), "rows")
    if not 1 <= most <= 10_000:
        raise ApiError(422, "rows is from 1 to 10000", field="rows")
    rows = await snapshot(hub, entry, most)
    return answer(Snapshot(cast("list[dict[str, Any]]", [msgspec.Raw(line) for line in rows])))


async def _events(request: Request) -> Response:
    hub = hub_of(request)
    entry = hub.get(request.path_params["id"])
    query = request.query_params
    after = last_id(request.headers.get("last-event-id") or query.get("last_event_id"))
    reader = Reader(hub, entry, wanted(query.multi_items()), after)
    await reader.open()
    return _Events(reader, entry.journal.name)


class _Events(StreamingResponse):
    """Server-sent events for a reader, which ends with it, also where the client has gone before the first."""

    def __init__(self, reader: Reader, journal: str) -> None:
        self._reader = reader
        headers = {"cache-control": "no-store", "eunomia-journal": journal, "eunomia-reader": reader.id}
        super().__init__(self._events(), media_type="text/event-stream", headers=headers)

    async def _events(self) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async for messages in self._reader.messages():
            yield b"".join(message.event() for message in messages) or b": alive\n\n"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reader.close()


async def websocket(socket: WebSocket) -> None:
    """Send a tracker's rows by WebSocket."""
    hub = hub_of(socket)
    await socket.accept()
    query = socket.query_params
    try:
        require(socket.scope, READ)
        entry = hub.get(socket.path_params["id"])
        after = last_id(socket.headers.get("last-event-id") or query.get("last_event_id"))
        reader = Reader(hub, entry, wanted(query.multi_items()), after)
        await reader.open()
    except ApiError as error:
        await socket.close(4000 + error.status - 400, str(error).encode()[:120].decode(errors="ignore"))
        return
    gone = asyncio.create_task(_until_gone(socket))
    sending = asyncio.create_task(_send(socket, reader))
    try:
        await asyncio.wait([gone, sending], return_when=asyncio.FIRST_COMPLETED)
    finally:
        reader.close()
        for task in (gone, sending):
            task.cancel()
        await asyncio.gather(gone, sending, return_exceptions=True)


async def _until_gone(socket: WebSocket) -> None:
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError, RuntimeError):
        return


async def _send(socket: WebSocket, reader: Reader) -> None:
    async for messages in reader.messages():
        for message in messages:
            await socket.send_text(message.frame())
    await socket.close()


async def _upload(request: Request) -> Response:
    hub = hub_of(request)
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > LARGEST:
            raise ApiError(413, f"it has more than {LARGEST >> 20} MiB, which no BPF object has")
    return answer(await asyncio.to_thread(_keep, hub, bytes(data), request.app.state.accept), 201)


def _keep(hub: Hub, data: bytes, accept: Callable[[str], None]) -> Uploaded:
    accept(digest_of(data))
    found = described(data, "object")
    used = frozenset(g.object for e in list(hub.entries.values()) for g in e.history[-hubs.KEPT :])
    digest = hub.objects.put(data, used)
    programs, streams = [p.name for p in found.programs], [s.name for s in found.streams]
    return Uploaded(digest, len(data), programs, streams, list(found.settings), [m.name for m in found.maps])


async def _containers(request: Request) -> Response:
    return answer(await asyncio.to_thread(inventory.containers, hub_of(request)))


async def _processes(request: Request) -> Response:
    return answer(await asyncio.to_thread(inventory.processes, hub_of(request)))


async def _metrics(request: Request) -> Response:
    hub = hub_of(request)
    ledger = await asyncio.to_thread(hub.ledger)
    answers: Answers = request.app.state.answers
    shown = [hub.shown(entry) for entry in list(hub.entries.values())]
    return Response(metrics.text(shown, ledger, answers.by_status), media_type=metrics.TYPE)


async def _live(request: Request) -> Response:
    return answer(Health("ok", __version__))


async def _ready(request: Request) -> Response:
    error = hub_of(request).error
    if error is not None:
        raise ApiError(503, f"the engine has ended: {error}")
    return answer(Health("ready", __version__))


_ID = "/v1/trackers/{id}"
_READERS = ("stream", "pid", "uid", "comm", "container", "last_event_id")

ROUTES = (
    Route("GET", "/v1/kinds", _kinds, READ, "List the trackers that can be started by name.", gives=Kinds),
    Route(
        "GET",
        "/v1/trackers",
        _list,
        READ,
        "List the trackers that run, and the latest that have ended.",
        gives=Trackers,
    ),
    Route(
        "POST",
        "/v1/trackers",
        _start,
        RUN,
        "Start a tracker; it is attached when the answer comes.",
        TrackerRequest,
        Tracker,
        201,
    ),
    Route("GET", _ID, _get, READ, "Show a tracker.", gives=Tracker),
    Route(
        "PATCH", _ID, _patch, RUN, "Change filters, settings, outputs or duration of a tracker.", TrackerPatch, Tracker
    ),
    Route("DELETE", _ID, _stop, RUN, "Stop a tracker: its remaining rows are passed on.", gives=Tracker),
    Route(
        "PUT", f"{_ID}/object", _update, LOAD, "Replace the object of a tracker while it runs.", UpdateRequest, Tracker
    ),
    Route("POST", f"{_ID}/rollback", _rollback, RUN, "Go back to an earlier object.", RollbackRequest, Tracker),
    Route("GET", f"{_ID}/history", _history, READ, "List the objects that a tracker has run.", gives=History),
    Route("GET", f"{_ID}/logs", _logs, READ, "List what happened to a tracker.", gives=Logs),
    Route("GET", f"{_ID}/ledger", _ledger, READ, "Show the accounts of a tracker.", gives=Ledger),
    Route(
        "GET",
        f"{_ID}/snapshot",
        _snapshot,
        READ,
        "Show the latest rows. If nobody reads the stream, it waits for the first, for one interval of tables.",
        gives=Snapshot,
        query=("rows",),
    ),
    Route("GET", f"{_ID}/events", _events, READ, "Stream the rows as server-sent events.", query=_READERS),
    Route("GET", "/v1/ledger", _ledger, READ, "Show all accounts.", gives=Ledger),
    Route(
        "POST", "/v1/objects", _upload, LOAD, "Upload a BPF object (application/octet-stream).", bytes, Uploaded, 201
    ),
    Route("GET", "/v1/containers", _containers, READ, "List the containers that run.", gives=Containers),
    Route("GET", "/v1/processes", _processes, READ, "List the processes that run, as a tree.", gives=Processes),
    Route("GET", "/metrics", _metrics, READ, "Show the server's own state to Prometheus.", gives=str),
    Route("GET", "/healthz", _live, NOBODY, "Say that the server lives.", gives=Health),
    Route("GET", "/readyz", _ready, NOBODY, "Say whether the engine works.", gives=Health),
)
