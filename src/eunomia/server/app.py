# SPDX-License-Identifier: BSD-2-Clause
"""The application: the routes, errors as problems, and the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route as Path  # the API's own are Route
from starlette.routing import WebSocketRoute

from eunomia.server import openapi
from eunomia.server.audit import AuditLog
from eunomia.server.auth import require
from eunomia.server.hub import Hub
from eunomia.server.original_calls import original_calls
from eunomia.server.page import page
from eunomia.server.problems import ApiError
from eunomia.server.recorded import recorded
from eunomia.server.routes import ROUTES, Route, websocket

_PROBLEM = "application/problem+json"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def application(hub: Hub, audit: AuditLog) -> Starlette:
    """Return the API to a hub. Who calls is found out around it, see :mod:`eunomia.server.service`."""
    description = msgspec.json.encode(openapi.description())

    async def described(request: Request) -> Response:
        return Response(description, media_type="application/json")

    async def docs(request: Request) -> Response:
        return HTMLResponse(page(), headers={"content-security-policy": _POLICY})

    app = Starlette(
        routes=[
            *(Path(r.path, _safely(r, audit), methods=[r.method]) for r in ROUTES),
            *(Path(path, call, methods=[method]) for method, path, call in original_calls(hub, audit)),
            WebSocketRoute("/v1/trackers/{id}/ws", websocket),
            Path("/openapi.json", described),
            Path("/docs", docs),
        ],
        exception_handlers={HTTPException: _http},
    )
    app.state.hub = hub
    return app


def _safely(route: Route, audit: AuditLog) -> Callable[[Request], Awaitable[Response]]:
    async def called(request: Request) -> Response:
        try:
            require(request.scope, route.scope)
            if route.method == "GET":
                return await route.call(request)
            return await recorded(audit, request, f"{route.method} {route.path}", route.call)
        except ApiError as error:
            return problem(error)

    return called


def problem(error: ApiError) -> Response:
    """Return an error as an answer."""
    return Response(msgspec.json.encode(error.problem()), error.status, media_type=_PROBLEM)


def _http(request: Request, error: Any) -> Response:
    answer = problem(ApiError(error.status_code, str(error.detail)))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer
