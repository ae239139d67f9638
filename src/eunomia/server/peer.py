# SPDX-License-Identifier: BSD-2-Clause
"""Who is at the other end of a connection, and uvicorn's HTTP with bounds for those who send nothing.

The kernel says who has connected to a Unix socket. uvicorn copies a connection's state into each request's, also into
a WebSocket's, so what is put there as the connection is made can be read as ``scope["state"]["peer"]``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Any, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_UCRED = struct.Struct("iII")  # struct ucred: pid, uid, gid


class Peer(NamedTuple):
    """The process that connected to a Unix socket, as it was then."""

    pid: int
    uid: int
    gid: int


def peer_of(transport: asyncio.BaseTransport) -> Peer | None:
    """Return who connected to a Unix socket; None on other sockets."""
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family != socket.AF_UNIX:
        return None
    return Peer(*_UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def origin(connection: Mapping[str, Any]) -> str:
    """Return the name of the user or the address from which a request comes, to count its requests by."""
    peer = connection.get("state", {}).get("peer")
    if peer is not None:
        return f"uid:{peer.uid}"
    address = (connection.get("client") or ("unknown", 0))[0]
    if ":" in address:  # whoever has one IPv6 address has the 2**64 addresses beside it
        whole = IPv6Address(address.partition("%")[0])
        return f"address:{whole.ipv4_mapped or IPv6Address(int(whole) >> 64 << 64)}"
    return f"address:{address}"


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 that knows its peer, and waits for the head of a request only so long.

    Give it to :class:`uvicorn.Config` as ``http``. uvicorn bounds the time between requests, but neither that before
    the first nor that of a head which comes byte by byte.
    """

    head_seconds = 20.0
    most_connections = 1024  # of one server; more are closed at once

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        try:
            peer = peer_of(transport)
        except OSError:
            transport.abort()
            return
        self.app_state = {**self.app_state, "peer": peer}
        self._bound_the_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        self._bound_the_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of a connection."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _bound_the_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the head is there
            self._stop_waiting()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()
