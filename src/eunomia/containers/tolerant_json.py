# SPDX-License-Identifier: BSD-2-Clause
"""Decoder of untrusted JSON that never raises."""

from __future__ import annotations

from collections.abc import Iterator

from eunomia.typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import msgspec

_T = TypeVar("_T")


def decoded(data: bytes | msgspec.Raw, kind: type[_T]) -> _T | None:
    """Return decoded JSON of type ``kind``; None for anything else. Bytes that are not UTF-8 are replaced."""
    if not data:
        return None
    import msgspec

    for attempt in _readings(data):
        try:
            return msgspec.json.decode(attempt, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
            continue
    return None


def _readings(data: bytes | msgspec.Raw) -> Iterator[bytes | msgspec.Raw]:
    yield data
    yield bytes(data).decode("utf-8", "replace").encode()


def object_of(data: bytes) -> dict[str, object]:
    """Return a JSON object; empty for anything else."""
    return decoded(data, dict[str, object]) or {}
