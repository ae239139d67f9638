# SPDX-License-Identifier: BSD-2-Clause
"""The loop between sources and outputs.

``engine.py`` is its interface, ``step.py`` one round, ``pace.py`` how long it sleeps. ``sources.py`` and
``stream.py`` are what runs, ``output.py`` where rows go, ``joins.py`` adds containers and processes, ``held.py``
holds rows that wait for a name. ``kernel_filter.py`` sets the filters in the kernel, ``commands.py`` takes calls
from other threads.
"""

from eunomia.engine.engine import Engine

__all__ = ["Engine"]
