# SPDX-License-Identifier: BSD-2-Clause
"""Report that everything is attached, as systemd's services do: ``READY=1`` to ``$NOTIFY_SOCKET``."""

from __future__ import annotations

from eunomia.sd_notify import notify as send


def notify() -> None:
    """Send it, if a service manager wants to hear it."""
    send(b"READY=1")
