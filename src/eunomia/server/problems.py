# SPDX-License-Identifier: BSD-2-Clause
"""Errors as the API reports them (RFC 9457)."""

from __future__ import annotations

import http

import msgspec

from eunomia.server.models import Problem


class ApiError(Exception):
    """An error to report to the client. ``field`` is the path of the field that was wrong, as ``filters.uids[0]``."""

    def __init__(self, status: int, detail: str, *, field: str = "", kind: str = "about:blank") -> None:
        super().__init__(detail)
        self.status, self.detail, self.field, self.kind = status, detail, field, kind

    def problem(self) -> Problem:
        """Return it as the body of an answer."""
        return Problem(self.kind, http.HTTPStatus(self.status).phrase, self.status, self.detail, self.field)


def invalid(error: msgspec.ValidationError) -> ApiError:
    """Return the error for a request that does not fit its struct: the path stands in msgspec's sentence."""
    sentence, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").removeprefix("$").removeprefix(".")
    if not field and "`" in sentence:  # Object contains unknown field `x`
        field = sentence.split("`")[1]
    return ApiError(422, sentence, field=field)
