# SPDX-License-Identifier: BSD-2-Clause
"""Finds programs and libraries by name: ``libc``, ``bash``, ``/opt/app/bin/server``."""

from __future__ import annotations

import os
import struct

_CACHE = "/etc/ld.so.cache"
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER, _ENTRY = 48, 24
_FOLDERS = ("/usr/lib64", "/lib64", "/usr/lib", "/lib", "/usr/local/lib")


def find(name: str) -> str | None:
    """Return the path of a program or a shared library; None where there is no such file.

    A name with a slash is a path. Others are looked up in the cache of the dynamic loader, and then in PATH.
    """
    if "/" in name:
        return name if os.path.isfile(name) else None
    if library := _library(name):
        return library
    import shutil  # 5 ms, which few runs need

    return shutil.which(name)


def is_elf(path: str) -> bool:
    """Return whether a file is a program or a library; true also if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return True


def _library(name: str) -> str | None:
    stem = name if name.startswith("lib") else f"lib{name}"
    exact = ".so" in stem
    found = {
        soname: path
        for soname, path in _known_libraries()
        if (soname == stem if exact else soname.partition(".so")[0] == stem) and os.path.isfile(path)
    }
    return found[min(found)] if found else None


def _known_libraries() -> list[tuple[str, str]]:
    try:
        with open(_CACHE, "rb") as file:
            known = _parse(file.read())
    except OSError:
        known = []
    if known:
        return known
    for folder in _FOLDERS:  # no glibc here
        if os.path.isdir(folder):
            known += [(file, os.path.join(folder, file)) for file in sorted(os.listdir(folder)) if ".so" in file]
    return known


def _parse(data: bytes) -> list[tuple[str, str]]:
    """Return what a cache lists for this machine; libraries of other architectures are in other folders."""
    start = data.find(_MAGIC)  # an older format may precede it
    if start < 0 or len(data) < start + _HEADER:
        return []
    data = data[start:]
    (count,) = struct.unpack_from("=I", data, len(_MAGIC))
    count = min(count, (len(data) - _HEADER) // _ENTRY)
    found = []
    for i in range(count):
        flags, key, value = struct.unpack_from("=iII", data, _HEADER + i * _ENTRY)
        if flags & 0xFF == 3 and flags & 0xFF00:  # a 64-bit ELF library
            found.append((_text(data, key), _text(data, value)))
    return found


def _text(data: bytes, at: int) -> str:
    return os.fsdecode(data[at : data.find(b"\0", at)])
