# SPDX-License-Identifier: BSD-2-Clause
"""The binding to libbpf for Python: its log, errno as exceptions, C strings."""

from __future__ import annotations

import os

from eunomia._native import ffi, lib
from eunomia.typing import Any

__all__ = ["error", "ffi", "lib", "log_start", "log_take", "text"]

lib.eu_know_sections()

# Buffers that C fills: not cleared first, so that untouched pages cost no memory.
buffer_of = ffi.new_allocator(should_clear_after_alloc=False)


def log_start() -> None:
    """Clear this thread's log of libbpf, and keep what it logs from now on."""
    lib.eu_log_start()


def log_take() -> str:
    """Return what libbpf has logged in this thread since :func:`log_start`, and clear it."""
    size = lib.eu_log_take(ffi.NULL, 0)
    out = ffi.new("char[]", size + 1)
    lib.eu_log_take(out, size)
    return bytes(ffi.buffer(out, size)).decode("utf-8", "backslashreplace")


def text(pointer: Any) -> str:
    """Return a C string, empty for NULL."""
    if pointer == ffi.NULL:
        return ""
    raw = ffi.string(pointer)
    assert isinstance(raw, bytes)
    return raw.decode("utf-8", "backslashreplace")


def error(number: int | None = None) -> OSError:
    """Return the last C error, or that of a negative return value, as an exception to raise."""
    number = abs(number) if number else ffi.errno
    return OSError(number, os.strerror(number))
