# SPDX-License-Identifier: BSD-2-Clause
"""Servers by name, from a file of the user's.

    default = "shop"

    [contexts.shop]
    url = "https://shop-1.example:7443"
    token_file = "~/.config/eunomia/shop.token"
    ca = "/etc/ssl/shop.pem"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

_VARIABLE = "EUNOMIA_TOKEN"
_KNOWN = {"default", "contexts"}


class BadContext(ValueError):
    """A context that is not there, or a file of contexts that is wrong."""


class Context(NamedTuple):
    """A server: its URL, the file of the token for it, and that of the certificates that may sign its own."""

    url: str = ""
    token_file: str = ""
    ca: str = ""


def file() -> Path:
    """Return where the contexts are."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "eunomia" / "config.toml"


def names() -> list[str]:
    """Return the names of the contexts; raises :class:`BadContext`."""
    return list(_read()[1])


def find(word: str = "") -> Context:
    """Return the server that a word names: a context, or a URL; without a word the default, or the local socket.

    Raises :class:`BadContext`.
    """
    if word.startswith("unix:") or "://" in word:
        return Context(word)
    default, contexts = _read()
    name = word or default
    if not name:
        return Context()
    if name not in contexts:
        there = f"there are {', '.join(contexts)}" if contexts else "there are none"
        hint = "" if default == name else "; a URL begins with https:// or unix:/"
        raise BadContext(f"there is no context '{name}' in {file()}: {there}{hint}")
    return contexts[name]


def token(context: Context, path: str = "") -> str:
    """Return the token for a server: from a file, else the environment, else the context's file; empty for none.

    Raises :class:`BadContext`.
    """
    if not path and os.environ.get(_VARIABLE):
        return os.environ[_VARIABLE].strip()
    path = path or context.token_file
    if not path:
        return ""
    try:
        found = Path(path).expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadContext(f"token file {path}: {getattr(error, 'strerror', None) or 'it has no token'}") from None
    if not found:
        raise BadContext(f"token file {path}: it is empty")
    return found


def _read() -> tuple[str, dict[str, Context]]:
    path = file()
    try:
        told = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return "", {}
    except (OSError, ValueError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise BadContext(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if unknown := told.keys() - _KNOWN:
        raise BadContext(f"{path}: there is no key '{min(unknown)}': there are {', '.join(sorted(_KNOWN))}")
    default, contexts = told.get("default", ""), told.get("contexts", {})
    if not isinstance(default, str) or not isinstance(contexts, dict):
        raise BadContext(f"{path}: default is a name, and contexts are tables, as in [contexts.shop]")
    return default, {name: _context(path, name, one) for name, one in contexts.items()}


def _context(path: Path, name: str, told: Mapping[str, Any] | Any) -> Context:
    if not isinstance(told, dict):
        raise BadContext(f"{path}: contexts.{name} is not a table")
    for key, value in told.items():
        if key not in Context._fields:
            raise BadContext(f"{path}: contexts.{name}.{key}: there are {', '.join(Context._fields)}")
        if not isinstance(value, str):
            raise BadContext(f"{path}: contexts.{name}.{key}: it is a text")
    if not told.get("url"):
        raise BadContext(f"{path}: contexts.{name} has no url")
    return Context(**told)
