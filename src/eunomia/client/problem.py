# SPDX-License-Identifier: BSD-2-Clause
"""The error that a server answers with."""

from __future__ import annotations


class ApiProblem(Exception):
    """A request that the server refused. ``field`` is the path of the field that was wrong, as ``filters.uids[0]``."""

    def __init__(self, status: int, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status, self.detail, self.field = status, detail, field

    @property
    def is_usage(self) -> bool:
        """Whether the request itself was wrong."""
        return self.status in {400, 413, 422}
