# SPDX-License-Identifier: BSD-2-Clause
"""Reads JSON that somebody else wrote: one kind of error for all that may be wrong with it."""

from __future__ import annotations

import msgspec

from eunomia.typing import TypeVar

T = TypeVar("T")


class Unreadable(ValueError):
    """It is not JSON, or not of the form that was expected; the message says what is wrong and where."""


def decode(data: bytes, kind: type[T]) -> T:
    """Return a value of a type; raises :class:`Unreadable`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Unreadable(str(error)) from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
