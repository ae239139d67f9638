# SPDX-License-Identifier: BSD-2-Clause
"""Container runtimes: each module here has a class named ``RUNTIME``, found by listing the directory."""

from __future__ import annotations

import os
from importlib import import_module

from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.containers.runtime import Runtime


def every() -> list[Runtime]:
    """Return an instance of each runtime, sorted by name; those whose modules set ``LAST`` come last."""
    with os.scandir(os.path.dirname(__file__)) as entries:
        names = sorted(e.name.removesuffix(".py") for e in entries if e.name.endswith(".py"))
    modules = [import_module(f"{__name__}.{name}") for name in names if name != "__init__"]
    return [module.RUNTIME() for module in sorted(modules, key=lambda m: getattr(m, "LAST", False))]
