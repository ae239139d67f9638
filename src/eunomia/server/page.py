# SPDX-License-Identifier: BSD-2-Clause
"""The description of the API as a page that needs no network."""

from __future__ import annotations

from html import escape

from eunomia.server.routes import ROUTES

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
code { font: 14px/1.4 ui-monospace, monospace }
td, th { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top }
tr { border-bottom: 1px solid #d0d7de } .m { font-weight: 600 } @media (prefers-color-scheme: dark) {
body { background: #0d1117; color: #e6edf3 } tr { border-color: #30363d } a { color: #79c0ff } }
"""


def page() -> str:
    """Return it as HTML."""
    rows = "".join(
        f"<tr><td class=m>{route.method}</td><td><code>{escape(route.path)}</code></td><td>{escape(route.summary)}</td>"
        f"<td>{_named(route.takes)}</td><td>{_named(route.gives)}</td><td>{escape(route.scope or '-')}</td></tr>"
        for route in ROUTES
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Eunomia API</title>"
        f"<style>{_STYLE}</style><h1>Eunomia API</h1>"
        "<p>The whole description, for tools: <a href=/openapi.json>openapi.json</a> (OpenAPI 3.1). "
        "Errors are problems (RFC 9457) that name the field that was wrong. "
        "Rows also come by WebSocket: <code>/v1/trackers/{id}/ws</code>.</p>"
        "<table><tr><th>Method<th>Path<th>What<th>Takes<th>Gives<th>Scope</tr>" + rows + "</table></html>"
    )


def _named(struct: object) -> str:
    if struct is None:
        return "-"
    return "bytes" if struct is bytes else escape(getattr(struct, "__name__", str(struct)))
