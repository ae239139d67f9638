# SPDX-License-Identifier: BSD-2-Clause
"""The loop between sources and outputs.

``engine.py`` has what can be asked of it, ``step.py`` what one round does, ``pace.py`` how long it sleeps.
``sources.py`` and ``stream.py`` are what runs, ``output.py`` where rows go, ``joins.py`` what they are joined with,
``held.py`` those that wait for a name. ``kernel_filter.py`` says what passes in the kernel, ``commands.py`` takes what
other threads ask.
"""

from eunomia.engine.engine import Engine

__all__ = ["Engine"]
