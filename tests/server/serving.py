# SPDX-License-Identifier: BSD-2-Clause
"""A small application behind the middlewares, served by uvicorn on a Unix socket and on TCP."""

import asyncio
import http.client
import json
import socket
import threading
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, RejectConnection, RejectData
from wsproto.events import Request as Handshake

from eunomia.server.auth import caller_of
from eunomia.server.peer import PeerProtocol


class Answer(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


def said(connection) -> dict[str, Any]:
    caller = caller_of(connection.scope)
    return {
        "caller": caller and caller.id,
        "scopes": sorted(caller.scopes) if caller else [],
        "who": caller and dict(caller.who),
    }


async def _whoami(request: Request) -> JSONResponse:
    return JSONResponse(said(request))


async def _size(request: Request) -> JSONResponse:
    return JSONResponse({"size": len(await request.body())})


async def _stream(request: Request) -> StreamingResponse:
    async def forever():
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    return StreamingResponse(forever())


async def _websocket(ws) -> None:
    await ws.accept()
    await ws.send_json(said(ws))
    while True:
        await ws.send_text((await ws.receive_text())[::-1])


def app() -> Starlette:
    return Starlette(
        routes=[
            Route("/whoami", _whoami),
            Route("/healthz", _whoami),
            Route("/size", _size, methods=["POST"]),
            Route("/v1/objects", _size, methods=["POST"]),
            Route("/stream", _stream),
            WebSocketRoute("/ws", _websocket),
        ]
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


class Served:
    """An application that is served in a thread. ``at`` is the Unix socket's path, or the host and port."""

    def __init__(self, application, at: Path | str, http=PeerProtocol, **options: Any) -> None:
        if isinstance(at, Path):
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(at))
            at.chmod(0o666)
        else:
            listening = socket.create_server((at, 0), family=socket.AF_INET6 if ":" in at else socket.AF_INET)
        listening.listen()
        self.at = at if isinstance(at, Path) else listening.getsockname()[:2]
        config = uvicorn.Config(
            application, http=http, ws="wsproto", lifespan="off", log_config=None, loop="asyncio", **options
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=lambda: self._server.run([listening]))
        self._thread.start()
        self._server.is_ready.wait()

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    def connect(self) -> socket.socket:
        if isinstance(self.at, Path):
            made = socket.socket(socket.AF_UNIX)
            made.connect(str(self.at))
        else:
            made = socket.create_connection(self.at)
        made.settimeout(60)
        return made

    def begin(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Return an answer whose body has not been read."""
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = self.connect()
        connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Answer:
        given = {k.replace("_", "-"): v for k, v in headers.items()} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        answer = self.begin(method, path, body, given)
        return Answer(answer.status, json.loads(answer.read()), {k.lower(): v for k, v in answer.getheaders()})

    def websocket(self, token: str = "", talk: tuple[Any, ...] = ()) -> Any:
        """Return what the server said: the status and problem of a refusal, its messages, or why it closed.

        ``talk`` is what is said in turn with the server; a function in it is called in place of that.
        """
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        with self.connect() as wire:
            client = WSConnection(ConnectionType.CLIENT)
            wire.sendall(client.send(Handshake(host="localhost", target="/ws", extra_headers=headers)))
            got, refused, status = [], b"", 0
            left = [*talk]
            while True:
                data = wire.recv(65536)
                client.receive_data(data or None)
                for event in client.events():
                    match event:
                        case AcceptConnection():
                            pass
                        case Message():
                            got.append(event.data)
                            if not left:
                                return got
                            if callable(left[0]):
                                left.pop(0)()
                            else:
                                wire.sendall(client.send(Message(data=left.pop(0))))
                        case RejectConnection():
                            status = event.status_code
                        case RejectData():
                            refused += event.data
                            if event.body_finished:
                                return status, json.loads(refused)
                        case CloseConnection():
                            return event.code
