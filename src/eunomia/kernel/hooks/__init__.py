# SPDX-License-Identifier: BSD-2-Clause
"""One program on each hook: a stub that tail-calls handlers, which come and go by one store."""

from _thread import RLock

# Held while hooks change: objects are loaded in one thread and attached in another.
LOCK = RLock()
