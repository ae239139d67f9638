# SPDX-License-Identifier: BSD-2-Clause
"""The OpenAPI 3.1 description, made from the routes and the structs that they take and give."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from eunomia import __version__
from eunomia.server.models import Problem
from eunomia.server.routes import NOBODY, ROUTES, Route

_PARAMETERS = {
    "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"},
    "rows": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100},
    "last_event_id": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "pid": {"type": "string", "pattern": "^[0-9]+(,[0-9]+)*$"},
    "uid": {"type": "string", "pattern": "^[0-9]+(,[0-9]+)*$"},
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
    types = {t for route in ROUTES for t in (route.takes, route.gives) if t is not None and t is not bytes}
    ordered = [*sorted(types, key=lambda t: str(t.__name__)), Problem]
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
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
        "parameters": [
            *({"name": n, "in": "path", "required": True, "schema": _PARAMETERS[n]} for n in _in_path(route.path)),
            *(
                {"name": n, "in": "query", "description": _SAYS[n], "schema": _PARAMETERS.get(n, {"type": "string"})}
                for n in route.query
            ),
        ],
        "responses": {str(route.status): _success(route), "default": _problem()},
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


def _success(route: Route) -> dict[str, Any]:
    if route.gives is None:
        return {
            "description": "Rows as server-sent events.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    said = (route.gives.__doc__ or "").partition("\n")[0]
    return {"description": said, "content": {"application/json": {"schema": _ref(route.gives)}}}


def _problem() -> dict[str, Any]:
    return {"description": "An error.", "content": {"application/problem+json": {"schema": _ref(Problem)}}}


def _ref(struct: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _in_path(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _name(route: Route) -> str:
    words = re.sub(r"[^a-z]+", "_", route.path.removeprefix("/v1").replace("{id}", "one")).strip("_")
    return f"{route.method.lower()}_{words}"
