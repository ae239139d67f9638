# SPDX-License-Identifier: BSD-2-Clause
"""Readers of a tracker's rows over HTTP: server-sent events and WebSocket.

A reader takes from the journal as fast as its connection does. What it is too slow for is counted, and it learns of
it at its place in the stream.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from eunomia.server.hub import Entry, Hub
from eunomia.server.journal import ROW, SCHEMA
from eunomia.server.journal import Entry as Lines
from eunomia.server.models import ReaderAccount
from eunomia.server.problems import ApiError

KEEP_ALIVE = 15.0  # seconds between two signs of life
MOST = 1024  # readers of a tracker
_SLACK = 1.0  # seconds beyond an interval in which tables are read

T = TypeVar("T")


class Message:
    """What a reader gets: its kind, the number of the row or of the row before, and a JSON text.

    Kinds are ``row``; ``schema``, the streams and their columns; ``lost``, rows that it was too slow for; ``pause``,
    rows were not kept while nobody read; ``reset``, there is no such row to go on after; ``end``.
    """

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

    def __init__(self, hub: Hub, entry: Entry, wants: Callable[[bytes], bool] | None, after: int | None) -> None:
        self.id = secrets.token_hex(4)
        self._hub, self._entry, self._wants = hub, entry, wants
        self._after = after
        self._more = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._told = False
        self._filtered = self._delivered = self._lost = 0
        self._had: int | None = None  # the number of the row that it has had last

    def account(self) -> ReaderAccount:
        """Return what became of the rows; any thread may ask."""
        filtered, delivered, lost = self._filtered, self._delivered, self._lost
        if self._had is not None:  # what it has lost, and will be told when it reads on
            lost += self._entry.journal.gone(self._had)
        return ReaderAccount(self.id, filtered + delivered + lost, filtered, delivered, lost)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._more.set)

    async def open(self) -> None:
        """Have rows come; raises :class:`ApiError`."""
        entry = self._entry
        if len(entry.readers) >= MOST:
            raise ApiError(503, f"{MOST} readers read {entry.id}, and no more can")
        entry.readers[self.id] = self.account
        try:
            await finished(self._hub.watch(entry))
        except BaseException:
            self.close()
            raise
        entry.journal.listen(self._tell)

    def close(self) -> None:
        """Have no more come; it may be called again."""
        self._entry.journal.forget(self._tell)
        if self._entry.readers.pop(self.id, None) is not None:
            self._hub.unwatch(self._entry)

    async def messages(self) -> AsyncIterator[list[Message]]:
        """Yield what comes, some messages at a time; an empty list is a sign of life.

        What was yielded counts as delivered when the next is asked for.
        """
        journal = self._entry.journal
        asked = self._after
        if asked is not None and asked > journal.last:  # a number of an earlier run of the server, or of nothing
            asked, said = 0, b'{"last_event_id":%d,"last":%d}' % (asked, journal.last)
            yield [Message("reset", 0, said)]
        place, after, schema = journal.start(asked)
        if schema is not None:
            yield [Message(SCHEMA, after, schema.data.rstrip())]
        while True:
            self._told = False
            self._more.clear()
            self._had = after
            entry, lost, schema = journal.read(place, after)
            if entry is None:
                if journal.ended:
                    return
                try:
                    await asyncio.wait_for(self._more.wait(), KEEP_ALIVE)
                except TimeoutError:
                    yield []
                continue
            found: list[Message] = []
            if lost:
                self._had = entry.before
                self._lost += lost
                found.append(Message("lost", entry.before, b'{"lost":%d}' % lost))
            if schema is not None:
                found.append(Message(SCHEMA, entry.before, schema.data.rstrip()))
            rows: list[Message] = []
            if entry.kind == ROW:
                rows = self._rows(entry, after)
            else:
                found.append(Message(entry.kind, entry.last, entry.data.rstrip()))
            place = entry.place
            self._had = after = max(after, entry.last)
            if found or rows:
                yield found + rows
                self._delivered += len(rows)
            await asyncio.sleep(0)  # a fast connection never waits by itself: let others have their turn

    def _rows(self, entry: Lines, after: int) -> list[Message]:
        """Return the rows behind row ``after`` that are wanted."""
        numbered = [(n, line) for n, line in enumerate(entry.data.splitlines(), entry.first) if n > after]
        wants = self._wants
        rows = [Message(ROW, n, line) for n, line in numbered if wants is None or wants(line)]
        self._filtered += len(numbered) - len(rows)
        return rows


async def snapshot(hub: Hub, entry: Entry, most: int) -> list[bytes]:
    """Return a tracker's latest rows as lines.

    If nobody has read it for a while there are none: they are kept from now on, and the first are waited for.
    """
    loop, more = asyncio.get_running_loop(), asyncio.Event()
    until = loop.time() + hub.interval + _SLACK

    def tell() -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(more.set)

    if entry.state == "running":
        await finished(hub.watch(entry))
        hub.unwatch(entry)
    entry.journal.listen(tell)
    try:
        while not (rows := entry.journal.latest(most)) and not entry.journal.ended:
            more.clear()
            await asyncio.wait_for(more.wait(), until - loop.time())
    except TimeoutError:
        return []
    finally:
        entry.journal.forget(tell)
    return rows


async def finished(future: Future[T]) -> T:
    """Wait for what another thread does; raises what it raises, and :class:`ApiError` if nobody does it any more."""
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        if future.cancelled():
            raise ApiError(503, "the server is stopping") from None
        raise


_FILTERS = frozenset({"stream", "pid", "uid", "comm", "container", "last_event_id"})


class _Row(msgspec.Struct):
    """What filters look at."""

    stream: Any = None
    pid: Any = None
    uid: Any = None
    comm: Any = None
    container: Any = None


_row = msgspec.json.Decoder(_Row)


def wanted(query: Iterable[tuple[str, str]]) -> Callable[[bytes], bool] | None:
    """Return a reader's filter of lines by its query: ``pid``, ``uid``, ``comm``, ``stream``, ``container``.

    Each has one value or several by comma. Raises :class:`ApiError` for others.
    """
    given: dict[str, list[str]] = {}
    for name, text in query:
        if name not in _FILTERS:
            raise ApiError(422, f"there is no filter {name!r}: there are {', '.join(sorted(_FILTERS))}", field=name)
        given.setdefault(name, []).extend(word for word in text.split(",") if word)
    given.pop("last_event_id", None)
    tests: list[Callable[[_Row], bool]] = []
    for name, words in given.items():
        if not words:
            raise ApiError(422, "it names nothing", field=name)
        if name == "container":
            tests.append(_in_container(words))
        elif name in {"pid", "uid"}:
            tests.append(_equal(name, frozenset(whole(word, name) for word in words)))
        else:
            tests.append(_equal(name, frozenset(words)))
    if not tests:
        return None

    def test(line: bytes) -> bool:
        row = _row.decode(line)
        return all(one(row) for one in tests)

    return test


def whole(text: str, field: str) -> int:
    """Return a number that stands in a query or a header; raises :class:`ApiError` if it is none."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ApiError(422, f"{text[:40]!r} is not a whole number", field=field)
    return int(text)


def _equal(name: str, values: frozenset[Any]) -> Callable[[_Row], bool]:
    def test(row: _Row) -> bool:
        value = getattr(row, name)
        return isinstance(value, str | int) and value in values

    return test


def _in_container(patterns: list[str]) -> Callable[[_Row], bool]:
    def test(row: _Row) -> bool:
        container = row.container
        if not isinstance(container, dict):
            return False
        name, id_ = str(container.get("name", "")), str(container.get("id", ""))
        return bool(id_) and any(fnmatchcase(name, p) or (len(p) >= 4 and id_.startswith(p)) for p in patterns)

    return test


def last_id(text: str | None) -> int | None:
    """Return the number after which a reader wants to go on; raises :class:`ApiError` if it is none."""
    return whole(text, "last_event_id") if text else None
