# SPDX-License-Identifier: BSD-2-Clause
"""A tracker's rows as they come, by server-sent events; a connection that drops is opened again."""

from __future__ import annotations

import http.client
import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import msgspec

from eunomia.client.connection import Place, connection, unreachable

ROW, SCHEMA, LOST, PAUSE, END = "row", "schema", "lost", "pause", "end"
RESTART = "restart"

_SILENCE = 60.0  # seconds without a sign of life, which the server gives every 15
_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0)  # seconds before each try to connect again; the last one for all that follow
_AT_ONCE = 256 << 10  # bytes
_LONGEST = 64 << 20  # bytes of one event


class Event(NamedTuple):
    """Something that came: its number, its kind, and its JSON text.

    Kinds are ``row``, ``schema`` (the streams with their columns, before the first row and when they change), ``lost``
    (so many rows, as this reader was too slow), ``pause`` (rows are missing, as nobody read for a while), ``restart``
    (the server was started again: rows are missing, and numbers begin again), ``reset`` (``after`` was no number of a
    row that there is: it begins with the oldest), and ``end``.
    """

    id: int
    kind: str
    text: bytes

    @property
    def data(self) -> Any:
        """What it says."""
        return msgspec.json.decode(self.text)


class Events:
    """An iterator of events. :meth:`close` ends it, also from a signal handler or another thread."""

    def __init__(
        self,
        to: Place,
        headers: Mapping[str, str],
        path: str,
        after: int | None = None,
        patience: float = 60.0,
    ) -> None:
        """Take where to ask, and how long to try again after a connection has dropped."""
        self._place, self._headers, self._patience = to, dict(headers), patience
        self._path = path
        self._journal = ""
        self._closed = False
        self._connection: http.client.HTTPConnection | None = None
        self._wakes, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.last_id = after  # of the latest event
        self.drops = 0  # connections that were lost

    def __del__(self) -> None:
        os.close(self._wakes)
        os.close(self._wake)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End it: no more events come."""
        self._closed = True
        with suppress(OSError):
            os.write(self._wake, b"1")
        self._shut()

    def _shut(self) -> None:
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[Event]:
        for some in self.batches():
            yield from some

    def batches(self) -> Iterator[list[Event]]:
        """Yield what comes, as many events at a time as have come together.

        Raises :class:`ApiProblem` for what the server refuses, and :class:`NoServer` if it cannot be reached.
        """
        since: float | None = None  # it cannot be reached
        tries = 0
        while not self._closed:
            dropped: Exception
            try:
                for some in self._connected():
                    since, tries = None, 0
                    if some:
                        yield some
                        if some[-1].kind == END:
                            return
                dropped = ConnectionResetError("the connection was closed")
            except (OSError, http.client.HTTPException) as error:
                dropped = error
            if self._closed:
                return
            if self._journal == "":  # it never was connected
                raise unreachable(self._place, dropped) from None
            if since is None:
                self.drops += 1
                since = monotonic()
            elif monotonic() - since > self._patience:
                raise unreachable(self._place, dropped) from None
            self._pause(_WAITS[min(tries, len(_WAITS) - 1)])
            tries += 1

    def _pause(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._wakes, select.POLLIN)
        poll.poll(seconds * 1000)

    def _connected(self) -> Iterator[list[Event]]:
        to = self._connection = connection(self._place, _SILENCE)
        try:
            to.connect()
            if self._closed:
                return
            asked = {} if self.last_id is None else {"last-event-id": str(self.last_id)}
            to.request("GET", self._path, headers={**self._headers, **asked})
            answer = to.getresponse()
            if answer.status >= 500 and self._journal:
                return  # it starts, maybe
            if answer.status != 200:
                from eunomia.client.client import problem

                raise problem(answer.status, answer.read(_LONGEST))
            journal = answer.headers.get("eunomia-journal", "?")
            if self._journal not in {"", journal}:
                self._journal, self.last_id = journal, 0
                yield [Event(0, RESTART, b"{}")]
                return  # and from its beginning
            self._journal = journal
            yield []
            yield from self._read(answer)
        finally:
            to.close()

    def _read(self, answer: http.client.HTTPResponse) -> Iterator[list[Event]]:
        rest = b""
        while True:
            piece = answer.read1(_AT_ONCE)
            if not piece:
                return
            *whole, rest = (rest + piece).split(b"\n\n")
            if len(rest) > _LONGEST:
                raise http.client.HTTPException("an event is too long")
            found = [event for text in whole if (event := _event(text)) is not None]
            if found:
                self.last_id = found[-1].id
                yield found


def _event(text: bytes) -> Event | None:
    """Return an event by its lines; None for comments and the like."""
    number, kind, data = 0, ROW, b""
    for line in text.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name == b"data":
            data = value
        elif name == b"id":
            number = int(value)
        elif name == b"event":
            kind = value.decode()
    return Event(number, kind, data) if data else None
