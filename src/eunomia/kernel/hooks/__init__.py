# SPDX-License-Identifier: BSD-2-Clause
"""One program on each hook, whoever wants it: stubs that tail-call handlers, which come and go by one store."""

from _thread import RLock

# Held while hooks change: objects are loaded in one thread and attached in another.
LOCK = RLock()
