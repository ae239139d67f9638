# SPDX-License-Identifier: BSD-2-Clause
"""One program on each hook, whoever wants it: stubs that tail-call handlers, which come and go by one store."""

from __future__ import annotations

from _thread import RLock

# Held while shared hooks change: objects are loaded in one thread, and swapped and closed in another.
hook_lock = RLock()
