# SPDX-License-Identifier: BSD-2-Clause
"""The application: the routes, errors as problems, and the pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
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
from eunomia.server.metrics import Answers
from eunomia.server.original_calls import original_calls
from eunomia.server.page import page
from eunomia.server.problems import ApiError
from eunomia.server.recorded import recorded
from eunomia.server.routes import ROUTES, Route, websocket

Call = Callable[[Request], Awaitable[Response]]

_PROBLEM = "application/problem+json"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def application(
    hub: Hub, audit: AuditLog, answers: Answers, accept: Callable[[str], None] = lambda digest: None
) -> Starlette:
    """Return the API to a hub. Who calls is found out around it, see :mod:`eunomia.server.service`.

    ``accept`` is called with the digest of an object that is sent, and raises :class:`ApiError` if it may not run here.
    """
    description = msgspec.json.encode(openapi.description())

    async def described(request: Request) -> Response:
        return Response(description, media_type="application/json")

    async def docs(request: Request) -> Response:
        return HTMLResponse(page(), headers={"content-security-policy": _POLICY})

    app = Starlette(
        routes=[
            *_paths((r.method, r.path, _safely(r, audit)) for r in ROUTES),
            *_paths(original_calls(hub, audit)),
            WebSocketRoute("/v1/trackers/{id}/ws", websocket),
            _only("/openapi.json", {"GET": described}),
            _only("/docs", {"GET": docs}),
        ],
        exception_handlers={HTTPException: _http, Exception: _failed},
    )
    app.state.hub, app.state.answers, app.state.accept = hub, answers, accept
    return app


def _paths(calls: Iterable[tuple[str, str, Call]]) -> list[Path]:
    """Return the paths, each with all of its methods."""
    found: dict[str, dict[str, Call]] = {}
    for method, path, call in calls:
        found.setdefault(path, {})[method] = call
    return [_only(path, by_method) for path, by_method in found.items()]


def _only(path: str, calls: Mapping[str, Call]) -> Path:
    """Return a path that has these methods alone: Starlette would add HEAD, of which a stream has no end."""

    async def called(request: Request) -> Response:
        return await calls[request.method](request)

    made = Path(path, called, methods=list(calls))
    made.methods = set(calls)
    return made


def _safely(route: Route, audit: AuditLog) -> Call:
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
    """Return what Starlette refuses as a problem."""
    answer = problem(ApiError(error.status_code, str(error.detail)))
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


def _failed(request: Request, error: Exception) -> Response:
    """Return a fault of ours as a problem; Starlette raises it again, for the log."""
    return problem(ApiError(500, f"the server failed: {type(error).__name__}"))
