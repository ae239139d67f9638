# SPDX-License-Identifier: BSD-2-Clause
"""The shapes of ASGI, and how a request is refused before the application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

from eunomia.server.problems import ApiError

Connection: TypeAlias = MutableMapping[str, Any]  # what ASGI calls a scope
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Connection, Receive, Send], Awaitable[None]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

LINGER = 2.0  # seconds
_LINGER_BYTES = 32 << 20


async def refuse(
    connection: Connection,
    receive: Receive,
    send: Send,
    error: ApiError,
    headers: Headers = (),
    *,
    linger: float = LINGER,
) -> None:
    """Answer with a problem (RFC 9457) and close the connection; a WebSocket is refused in the same way.

    The rest of a body is taken for ``linger`` seconds: a client whose connection is closed while it still sends may
    not see the answer.
    """
    body = msgspec.json.encode(error.problem())
    start = {
        "type": "http.response.start",
        "status": error.status,
        "headers": [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *headers,
        ],
    }
    if connection["type"] == "http":
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await _linger(receive, linger)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif "websocket.http.response" in connection.get("extensions", {}):
        await send({**start, "type": "websocket.http.response.start"})
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": error.detail[:100]})


async def _linger(receive: Receive, seconds: float) -> None:
    left = _LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return


def header(connection: Connection, name: bytes) -> list[bytes]:
    """Return the values of a header."""
    return [value for key, value in connection["headers"] if key.lower() == name]
