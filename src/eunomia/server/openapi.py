# SPDX-License-Identifier: BSD-2-Clause
"""The OpenAPI 3.1 description, made from the routes and the structs that they take and give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from eunomia import __version__
from eunomia.server.models import Problem
from eunomia.server.routes import NOBODY, ROUTES, Route

_PARAMETERS = {
    "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"},
    "rows": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100},
    "last_event_id": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "pid": {"type": "string", "pattern": "^[0-9]{1,18}(,[0-9]{1,18})*$"},
    "uid": {"type": "string", "pattern": "^[0-9]{1,18}(,[0-9]{1,18})*$"},
}
_SAYS = {
    "last_event_id": "Go on after the row of this number.",
    "rows": "How many rows at most.",
    "pid": "Only these processes, several by comma.",
    "uid": "Only these user ids, several by comma.",
    "comm": "Only these command names, several by comma.",
    "stream": "Only these streams, several by comma.",
    "container": "Only these containers: names, patterns, or the start of an id.",
}


def description() -> dict[str, Any]:
    """Return the description."""
    types = {t for route in ROUTES for t in (route.takes, route.gives) if t not in (None, bytes, str)}
    ordered = [*sorted(types, key=lambda t: str(t.__name__)), Problem]
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    for method, path, operation in _others():
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Eunomia",
            "version": __version__,
            "description": "Start, change and stop trackers of a machine, and read what they show.",
            "license": {"name": "BSD-2-Clause", "identifier": "BSD-2-Clause"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "parameters": _parameters(route.path, route.query),
        "responses": {str(route.status): _success(route), **_problems(route)},
    }
    if route.scope == NOBODY:
        found["security"] = []
    else:
        found["description"] = f"Needs the scope `{route.scope}`."
    if route.takes is bytes:
        found["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    elif route.takes is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(route.takes)}}}
    return found


def _parameters(path: str, query: Sequence[str]) -> list[dict[str, Any]]:
    text = {"type": "string", "pattern": "[^,]"}
    return [
        *({"name": n, "in": "path", "required": True, "schema": _PARAMETERS[n]} for n in _in_path(path)),
        *({"name": n, "in": "query", "description": _SAYS[n], "schema": _PARAMETERS.get(n, text)} for n in query),
    ]


def _success(route: Route) -> dict[str, Any]:
    if route.gives is None:
        return {
            "description": "Rows as server-sent events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    if route.gives is str:
        return {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    said = (route.gives.__doc__ or "").partition("\n")[0]
    return {"description": said, "content": {"application/json": {"schema": _ref(route.gives)}}}


def _problems(route: Route) -> dict[str, Any]:
    """Return the errors that a route answers with."""
    statuses = {429, 503}
    if route.scope != NOBODY:
        statuses |= {401, 403}
    if _in_path(route.path):
        statuses.add(404)
    if route.query:
        statuses.add(422)
    if route.method != "GET":
        statuses |= {408, 409, 413, 500}
    if route.takes is not None:
        statuses |= {400, 404, 422}
    return {str(status): _problem(HTTPStatus(status).phrase) for status in sorted(statuses)}


def _problem(says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/problem+json": {"schema": _ref(Problem)}}}


def _others() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield what is served beside the routes."""
    any_json = {"application/json": {"schema": {"type": "object"}}}
    same = {"400", "401", "403", "404", "408", "409", "413", "422", "429", "500", "503"}

    def described(name: str, summary: str, status: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
        answers = {status: {"description": summary, **({"content": content} if content else {})}}
        return {"operationId": name, "summary": summary, "responses": answers, **more}

    def original(name: str, summary: str, **more: Any) -> dict[str, Any]:
        found = described(name, f"{summary}, as the original did.", "200", any_json, **more)
        for status in sorted(same):  # a problem where the original's code is not reached
            said = _problem(HTTPStatus(int(status)).phrase)
            found["responses"][status] = {**said, "content": {**any_json, **said["content"]}}
        return found

    body = {"required": True, "content": any_json}
    yield "post", "/start", original("original_start", "Start a tracker", requestBody=body)
    yield "post", "/stop", original("original_stop", "Stop a tracker", requestBody=body)
    yield "get", "/list", original("original_list", "List trackers")
    refused = {str(s): _problem(HTTPStatus(s).phrase) for s in (401, 403, 429, 503)}
    page = described("docs", "Show this description as a page.", "200", {"text/html": {"schema": {"type": "string"}}})
    this = described("description", "Show this description.", "200", any_json)
    socket = described(
        "get_trackers_one_ws", "Stream the rows by WebSocket.", "101", {},
        description="Needs the scope `read`. Each text frame is an object with id, event and data.",
        parameters=_parameters("/v1/trackers/{id}/ws", ("stream", "pid", "uid", "comm", "container", "last_event_id")),
    )  # fmt: skip
    socket["responses"] |= {"400": {"description": "The request is no WebSocket's."}, "404": _problem("Not Found")}
    for path, operation in (("/docs", page), ("/openapi.json", this), ("/v1/trackers/{id}/ws", socket)):
        operation["responses"] |= refused
        yield "get", path, operation


def _ref(struct: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _in_path(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _name(route: Route) -> str:
    words = re.sub(r"[^a-z]+", "_", route.path.removeprefix("/v1").replace("{id}", "one")).strip("_")
    return f"{route.method.lower()}_{words}"
