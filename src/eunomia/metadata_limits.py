# SPDX-License-Identifier: BSD-2-Clause
"""Limits of untrusted metadata, from runtimes' files and sockets and the Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eunomia.identity import Texts

TEXT_LIMIT = 4096  # characters of one text from metadata that are kept
TEXTS_LIMIT = 256  # entries of one set of labels or annotations that are kept
TEXTS_ROOM = 16384  # and characters of all of them
LEFT_OUT = "..."  # the last key, whose value says how many are left out


def bounded(value: object) -> str:
    """Return a text, cut to :data:`TEXT_LIMIT` characters; empty for any other value."""
    if not isinstance(value, str):
        return ""
    text = value[:TEXT_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def texts(value: object) -> Texts:
    """Return labels or annotations, sorted and limited; empty for any other value.

    Entries beyond the limits are left out, and counted under the key :data:`LEFT_OUT`.
    """
    if not isinstance(value, Mapping) or not value:
        return ()
    kept: list[tuple[str, str]] = []
    room = TEXTS_ROOM
    for key, one in sorted((bounded(k), bounded(v)) for k, v in value.items()):
        room -= len(key) + len(one)
        if room < 0 or len(kept) == TEXTS_LIMIT:
            kept.append((LEFT_OUT, f"{len(value) - len(kept)} more"))
            break
        kept.append((key, one))
    return tuple(kept)


def words(value: object, limit: int = TEXTS_LIMIT) -> tuple[str, ...]:
    """Return the texts of a list, at most ``limit`` of them and :data:`TEXTS_ROOM` characters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return ()
    kept: list[str] = []
    room = TEXTS_ROOM
    for word in value:
        room -= len(text := bounded(word))
        if len(kept) == limit or room < 0:
            break
        kept.append(text)
    return tuple(kept)
