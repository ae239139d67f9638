# SPDX-License-Identifier: BSD-2-Clause
"""Readers of a tracker's rows over HTTP: server-sent events and WebSocket.

A reader takes from the journal as fast as its connection does. What it is too slow for is counted, and it learns of
it at its place in the stream.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from eunomia.server.hub import Entry, Hub
from eunomia.server.journal import ROW
from eunomia.server.models import ReaderAccount
from eunomia.server.problems import ApiError

KEEP_ALIVE = 15.0  # seconds between two signs of life
MOST = 1024  # readers of a tracker
_AT_ONCE = 512  # lines

Row = dict[str, Any]


class Message:
    """What a reader gets: its kind (row, schema, lost, end), its number, and a JSON text."""

    __slots__ = ("data", "id", "kind")

    def __init__(self, kind: str, number: int, data: bytes) -> None:
        self.kind, self.id, self.data = kind, number, data

    def event(self) -> bytes:
        """Return it as a server-sent event."""
        name = b"" if self.kind == ROW else b"event: %b\n" % self.kind.encode()
        return b"id: %d\n%bdata: %b\n\n" % (self.id, name, self.data)

    def frame(self) -> str:
        """Return it as a text frame of WebSocket."""
        return f'{{"id":{self.id},"event":"{self.kind}","data":{self.data.decode()}}}'


class Reader:
    """One reader, with its filter and account."""

    def __init__(self, hub: Hub, entry: Entry, wants: Callable[[Row], bool] | None, after: int | None) -> None:
        self.id = secrets.token_hex(4)
        self._hub, self._entry, self._wants = hub, entry, wants
        self._after = after
        self._more = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._told = False
        self._passed = self._filtered = self._delivered = self._lost = 0

    def account(self) -> ReaderAccount:
        """Return what became of the rows; any thread may ask."""
        return ReaderAccount(self.id, self._passed, self._filtered, self._delivered, self._lost)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._more.set)
            except RuntimeError:  # the loop has ended
                return

    async def open(self) -> None:
        """Have rows come."""
        entry = self._entry
        if len(entry.readers) >= MOST:
            raise ApiError(503, f"{MOST} readers read {entry.id}, and no more can")
        entry.readers[self.id] = self.account
        if self._after is None or self._after > entry.journal.last:
            self._after = entry.journal.last
        entry.journal.listen(self._tell)
        await asyncio.to_thread(self._hub.watch, entry)

    async def close(self) -> None:
        """Have no more come."""
        self._entry.journal.forget(self._tell)
        self._entry.readers.pop(self.id, None)
        await asyncio.to_thread(self._hub.unwatch, self._entry)

    async def messages(self) -> AsyncIterator[list[Message]]:
        """Yield what comes, some messages at a time; an empty list is a sign of life."""
        journal = self._entry.journal
        after = self._after or 0
        while True:
            self._told = False
            self._more.clear()
            entries, lost = journal.read(after, _AT_ONCE)
            if not entries:
                if journal.ended:
                    return
                try:
                    await asyncio.wait_for(self._more.wait(), KEEP_ALIVE)
                except TimeoutError:
                    yield []
                continue
            found: list[Message] = []
            if lost:
                self._lost += lost
                self._passed += lost
                found.append(Message("lost", entries[0].first - 1, b'{"lost":%d}' % lost))
            for one in entries:
                for number, line in enumerate(one.data.splitlines(), one.first):
                    if number > after:
                        self._take(found, one.kind, number, line)
            after = entries[-1].last
            if found:
                yield found

    def _take(self, found: list[Message], kind: str, number: int, line: bytes) -> None:
        if kind == ROW:
            self._passed += 1
            if self._wants is not None and not self._wants(msgspec.json.decode(line)):
                self._filtered += 1
                return
            self._delivered += 1
        found.append(Message(kind, number, line))


_FILTERS = frozenset({"stream", "pid", "uid", "comm", "container", "last_event_id"})


def wanted(query: Mapping[str, str]) -> Callable[[Row], bool] | None:
    """Return a reader's filter by its query: ``pid``, ``uid``, ``comm``, ``stream``, ``container``, several by comma.

    Raises :class:`ApiError` for others.
    """
    tests: list[Callable[[Row], bool]] = []
    for name, text in query.items():
        if name not in _FILTERS:
            raise ApiError(422, f"there is no filter {name!r}: there are {', '.join(sorted(_FILTERS))}", field=name)
        words = [word for word in text.split(",") if word]
        if name in {"pid", "uid"}:
            if not words or not all(word.isdigit() for word in words):
                raise ApiError(422, f"{text!r} is no number", field=name)
            tests.append(_equal(name, frozenset(map(int, words))))
        elif name in {"comm", "stream"}:
            tests.append(_equal(name, frozenset(words)))
        elif name == "container":
            tests.append(_in_container(words))
    if not tests:
        return None
    return lambda row: all(test(row) for test in tests)


def _equal(name: str, values: frozenset[Any]) -> Callable[[Row], bool]:
    return lambda row: row.get(name) in values


def _in_container(patterns: list[str]) -> Callable[[Row], bool]:
    def test(row: Row) -> bool:
        container = row.get("container") or {}
        name, id_ = str(container.get("name", "")), str(container.get("id", ""))
        return bool(id_) and any(fnmatchcase(name, p) or (len(p) >= 4 and id_.startswith(p)) for p in patterns)

    return test


def last_id(text: str | None) -> int | None:
    """Return the number after which a reader wants to go on; raises :class:`ApiError` if it is none."""
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ApiError(422, f"Last-Event-ID {text!r} is no number", field="last_event_id")
    return int(text)
