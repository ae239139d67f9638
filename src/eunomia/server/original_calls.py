# SPDX-License-Identifier: BSD-2-Clause
"""Routes of the original's three calls: ``POST /start``, ``POST /stop``, ``GET /list``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from eunomia.server import original
from eunomia.server.audit import AuditLog
from eunomia.server.auth import require
from eunomia.server.hub import Hub
from eunomia.server.opening import known_kinds
from eunomia.server.problems import ApiError
from eunomia.server.recorded import recorded

Call = Callable[[Request], Awaitable[Response]]


def original_calls(hub: Hub, audit: AuditLog) -> list[tuple[str, str, Call]]:
    """Return method, path and handler of each."""
    numbers = original.Numbers()

    async def start(request: Request) -> Response:
        asked = original.start(await request.body(), await asyncio.to_thread(known_kinds))
        entry = await asyncio.to_thread(hub.begin, asked.request)
        return _answer(original.started(hub.shown(entry), asked, numbers))

    async def stop(request: Request) -> Response:
        id_ = numbers.id_of(original.stop(await request.body()))
        await asyncio.to_thread(hub.stop, id_)
        return _answer(original.stopped())

    async def listing(request: Request) -> Response:
        return _answer(original.listing([hub.shown(e) for e in list(hub.entries.values())], numbers))

    def safely(method: str, path: str, scope: str, call: Call) -> Call:
        async def called(request: Request) -> Response:
            try:
                require(request.scope, scope)
                if method == "GET":
                    return await call(request)
                return await recorded(audit, request, f"{method} {path}", call)
            except ApiError as error:
                return _answer(original.failed(error), error.status)

        return called

    calls = (("POST", "/start", "run", start), ("POST", "/stop", "run", stop), ("GET", "/list", "read", listing))
    return [(method, path, safely(method, path, scope, call)) for method, path, scope, call in calls]


def _answer(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
