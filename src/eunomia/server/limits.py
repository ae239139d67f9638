# SPDX-License-Identifier: BSD-2-Clause
"""ASGI middleware that bounds what a caller can ask for: bytes of a body, requests per second, requests at a time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from eunomia.server.asgi import LINGER, Application, Connection, Message, Receive, Send, header, refuse
from eunomia.server.peer import origin
from eunomia.server.problems import ApiError
from eunomia.server.rate import Buckets
from eunomia.source import LARGEST


class Bounds(NamedTuple):
    """What one caller may ask for. A caller is a token, or a user of the Unix socket, or an address."""

    body: int = 1 << 20  # bytes
    bodies: Mapping[str, int] = MappingProxyType({"/v1/objects": LARGEST})  # of requests to these paths
    body_seconds: float = 60.0  # in which the whole body must be there
    rate: float = 50.0  # requests per second, for longer than ...
    burst: float = 200.0  # ... so many requests
    requests: int = 1024  # at a time, of all callers; a stream is one request as long as it is read
    requests_each: int = 512  # of one caller


class Limits:
    """Refuses what exceeds the bounds, as problems: 413, 408, 429 and 503.

    It belongs inside of :class:`~eunomia.server.auth.Authentication`, which says who the caller is.
    """

    def __init__(self, app: Application, bounds: Bounds = Bounds()) -> None:  # noqa: B008
        self._app = app
        self._bounds = bounds
        self._buckets = Buckets(bounds.rate, bounds.burst)
        self._running: Counter[str] = Counter()

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if connection["type"] not in {"http", "websocket"}:
            await self._app(connection, receive, send)
            return
        caller = getattr(connection.get("state", {}).get("caller"), "id", None) or origin(connection)
        wait = self._buckets.take(caller)
        if wait:
            error = ApiError(429, f"more than {self._bounds.rate:g} requests per second: try again in {wait:.1f} s")
            await refuse(connection, receive, send, error, _retry_after(wait))
            return
        if self._running.total() >= self._bounds.requests or self._running[caller] >= self._bounds.requests_each:
            error = ApiError(503, "too many requests are being answered: close a stream, or try again later")
            await refuse(connection, receive, send, error, _retry_after(1))
            return
        self._running[caller] += 1
        try:
            if connection["type"] == "http":
                await self._http(connection, receive, send)
            else:
                await self._websocket(caller, connection, receive, send)
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]

    async def _http(self, connection: Connection, receive: Receive, send: Send) -> None:
        most = self._bounds.bodies.get(connection["path"], self._bounds.body)
        told = header(connection, b"content-length")
        if told and (not told[0].isdigit() or len(told[0]) > 18 or int(told[0]) > most):
            await refuse(connection, receive, send, _too_large(most))
            return
        body = _Body(most, self._bounds.body_seconds, connection, receive, send)
        try:
            await self._app(connection, body.receive, body.send)
        except Exception:
            if not body.is_refused:  # else the application complains that its client is gone
                raise

    async def _websocket(self, caller: str, connection: Connection, receive: Receive, send: Send) -> None:
        async def slowly() -> Message:
            message = await receive()
            while message["type"] == "websocket.receive" and (wait := self._buckets.take(caller)):
                await asyncio.sleep(wait)  # meanwhile uvicorn reads no more from the socket
            return message

        await self._app(connection, slowly, send)


class _Body:
    """Passes a request's body on as it comes, up to the bounds. Then it answers itself, and the request is over."""

    def __init__(self, most: int, seconds: float, connection: Connection, receive: Receive, send: Send) -> None:
        self._most, self._seconds = most, seconds
        self._connection, self._receive, self._send = connection, receive, send
        self._until = asyncio.get_running_loop().time() + seconds
        self._size = 0
        self._is_whole = False
        self._has_answer = False
        self.is_refused = False

    async def receive(self) -> Message:
        if self.is_refused:
            return {"type": "http.disconnect"}
        if self._is_whole:  # the next message says that the client is gone, which may take hours
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return await self._refuse(ApiError(408, f"the body was not there within {self._seconds:g} s"), linger=0)
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._size > self._most:
            return await self._refuse(_too_large(self._most))
        return message

    async def send(self, message: Message) -> None:
        if not self.is_refused:
            self._has_answer = True
            await self._send(message)

    async def _refuse(self, error: ApiError, linger: float = LINGER) -> Message:
        self.is_refused = True
        if not self._has_answer:  # else uvicorn closes the connection, as the answer stays unfinished
            await refuse(self._connection, self._receive, self._send, error, linger=linger)
        return {"type": "http.disconnect"}


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the body has more than {most} bytes")


def _retry_after(seconds: float) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", str(max(1, math.ceil(seconds))).encode())]
