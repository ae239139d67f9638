# SPDX-License-Identifier: BSD-2-Clause
"""Report that a run has attached everything, as systemd's services do: ``READY=1`` to ``$NOTIFY_SOCKET``."""

from __future__ import annotations

import os


def notify() -> None:
    """Send the message of sd_notify(3), unless no service manager asked for it, or it has gone."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in {"/", "@"}:
        return
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(b"READY=1", path.replace("@", "\0", 1) if path[0] == "@" else path)
        except (OSError, ValueError):
            return
