# SPDX-License-Identifier: BSD-2-Clause
"""Messages to the service manager that started this process: sd_notify(3)."""

from __future__ import annotations

import os


def notify(message: bytes) -> None:
    """Send a message to ``$NOTIFY_SOCKET``, unless no service manager asked for it, or it has gone."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in {"/", "@"}:
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(message, path.replace("@", "\0", 1) if path[0] == "@" else path)
        except (OSError, ValueError):
            return
