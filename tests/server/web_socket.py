# SPDX-License-Identifier: BSD-2-Clause
"""A WebSocket that reads as fast as it is told to."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage


class WebSocket:
    """One connection; nothing is read before it is asked for."""

    def __init__(self, server: Path, path: str, buffer: int = 0) -> None:
        self.code: int | None = None  # with which the server closed it
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.connect(str(server))
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._socket.sendall(self._wire.send(Request(host="localhost", target=path)))
        self._text = ""
        self._messages = self._read()
        self._first = next(self._messages)
        assert isinstance(self._first, AcceptConnection), self._first

    def _read(self) -> Iterator[Any]:
        while True:
            for event in self._wire.events():
                if isinstance(event, Ping):
                    self._socket.sendall(self._wire.send(event.response()))
                yield event
            data = self._socket.recv(1 << 16)
            self._wire.receive_data(data or None)
            if not data:
                yield from self._wire.events()
                return

    def __iter__(self) -> Iterator[tuple[int, str, Any]]:
        for event in self._messages:
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    said, self._text = json.loads(self._text), ""
                    yield said["id"], said["event"], said["data"]
            elif isinstance(event, CloseConnection):
                self.code = event.code
                return

    def close(self) -> None:
        self._socket.close()
