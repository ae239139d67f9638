# SPDX-License-Identifier: BSD-2-Clause
"""Control actions in the audit log: what begins, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from eunomia.server.audit import AuditLog
from eunomia.server.auth import caller_of
from eunomia.server.problems import ApiError

_MOST = 4096  # characters of a request that are kept


async def recorded(
    audit: AuditLog, request: Request, action: str, call: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Answer a request, and have the log say who asked for what, before it begins, and how it ended.

    An action that cannot be recorded is not done.
    """
    caller = caller_of(request.scope)
    who = dict(caller.who) if caller is not None else {}
    target = request.path_params.get("id", "")
    details: dict[str, Any] = {}
    if not request.url.path.endswith("/objects"):  # an object's bytes
        details["request"] = (await request.body()).decode("utf-8", "backslashreplace")[:_MOST]
    try:
        begun = await asyncio.to_thread(audit.append, who, action, target, "begun", details)
    except OSError as error:
        raise ApiError(503, f"the audit log cannot be written, so nothing is done: {error.strerror}") from None

    async def end(outcome: str, **more: Any) -> None:
        await asyncio.to_thread(audit.append, who, action, target, outcome, {"begun": begun.sequence, **more})

    try:
        answer = await call(request)
    except ApiError as error:
        await end("failed", status=error.status, error=str(error))
        raise
    except BaseException as error:
        await end("failed", error=type(error).__name__)
        raise
    await end("done", status=answer.status_code)
    return answer
