# SPDX-License-Identifier: BSD-2-Clause
"""What systemd hands to a service, and wants to hear from it: sockets that listen already, and a watchdog."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from eunomia.sd_notify import notify

_FIRST = 3  # SD_LISTEN_FDS_START


def sockets() -> list[socket.socket]:
    """Return the sockets of socket activation (sd_listen_fds(3)); none if this process was not activated."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    found = [socket.socket(fileno=fd) for fd in range(_FIRST, _FIRST + int(count))] if count.isdigit() else []
    for one in found:
        os.set_inheritable(one.fileno(), False)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):  # not for processes that this one starts
        os.environ.pop(name, None)
    return [one for one in found if one.type == socket.SOCK_STREAM]


def watchdog_seconds() -> float:
    """Return how often the watchdog wants to hear from this process; 0 for never (sd_watchdog_enabled(3))."""
    text = os.environ.get("WATCHDOG_USEC", "")
    if not text.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(text) / 1e6


async def keep_alive(works: Callable[[], object]) -> None:
    """Tell the watchdog, while ``works`` returns, that the process works; it is called in another thread."""
    seconds = watchdog_seconds()
    while seconds:
        await asyncio.to_thread(works)
        notify(b"WATCHDOG=1")
        await asyncio.sleep(seconds / 3)
