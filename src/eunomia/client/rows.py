# SPDX-License-Identifier: BSD-2-Clause
"""Rows that arrive as JSON become batches again, so that the sinks show them as they show those of a run here.

A batch has the rows' times as its records; its other columns are the values that have arrived.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from eunomia.batch import Batch
from eunomia.columns import column as columns
from eunomia.columns.column import Coded
from eunomia.columns.joined import ACTOR, OWNER, joined, members, nouns, usual
from eunomia.columns.meanings import MEANINGS
from eunomia.identity import UNKNOWN, Container, Identity, Mount, Pod
from eunomia.process_identity import Process
from eunomia.server.models import Column, Stream
from eunomia.sinks import StreamInfo
from eunomia.stream_schema import Field, Scale, Schema

Row = dict[str, Any]

_REMEMBERED = 4096  # identities, and processes


def info(tracker: str, stream: Stream) -> StreamInfo:
    """Return a stream as sinks need it described."""
    fields = [_field(column) for column in stream.columns]
    if not any(field.meaning == "time" for field in fields):
        fields = [Field("time", 0, 8, "Q", "time"), *(field for field in fields if field.name != "time")]
    schema = Schema(stream.name, 8, fields)
    return StreamInfo(tracker, stream.name, schema, tuple(stream.default_columns), stream.whole)


def _shown(value: Any) -> Any:
    return value


def _field(column: Column) -> Field:
    meaning = column.meaning if column.meaning in MEANINGS else "struct"  # one that only a newer server knows
    scale = column.histogram
    if meaning == "time":
        return Field(column.name, 0, 8, "Q", meaning, column.type, column.doc, hidden=column.hidden)
    return Field(
        column.name, 0, column.size, "s",
        "array" if meaning == "tail" else meaning,
        column.type, column.doc,
        tag="?" if column.tagged else "",
        hidden=column.hidden,
        none=0 if column.nullable else None,
        show=_shown,  # what arrives is what is shown
        scale=None if scale is None else Scale(scale.kind, scale.unit, scale.step, scale.more),
    )  # fmt: skip


class _Received(Batch):
    """Rows of one stream; ``given`` are the values of its columns."""

    __slots__ = ("given",)

    given: dict[str, Sequence[Any]]

    def render(self, field: Field) -> Sequence[Any]:
        """Return a field's values."""
        time = self.schema.time
        if time is not None and field.name == time.name:
            return self.times()
        return self.given[field.name]

    def _coded(self, field: Field, most: int) -> Coded | None:
        made = columns.coded(self.render(field))
        return made if len(made.values) <= most or most == self.count else None

    def part(self, start: int, end: int) -> Batch:
        """Return the rows from ``start`` to before ``end``."""
        size = self.schema.size
        picked = _Received(self.schema, self.data[start * size : end * size], tracker=self.tracker, stream=self.stream)
        picked.given = {name: values[start:end] for name, values in self.given.items()}
        picked.owners, picked.actors = self.owners, self.actors
        picked.owner = None if self.owner is None else self.owner[start:end]
        picked.actor = None if self.actor is None else self.actor[start:end]
        return picked


class _Process(Process):
    """A process as a row shows it."""

    __slots__ = ("told",)

    def __init__(self, told: Row) -> None:
        super().__init__(0, 0, 0)
        self.told = told
        self.user = told.get("user", "")
        self.session = told.get("session", 0)

    @property
    def state(self) -> str:  # type: ignore[override]
        """How far it is known."""
        return str(self.told.get("state", UNKNOWN))

    @property
    def exec_id(self) -> str:
        """The text that identifies it."""
        return str(self.told.get("exec_id", ""))

    @property
    def parent_exec_id(self) -> str:
        """The exec id of its parent."""
        return str(self.told.get("parent_exec_id", ""))

    @property
    def comm(self) -> str:
        """The command's name."""
        return str(self.told.get("comm", ""))

    @property
    def exe(self) -> str:
        """The program's file."""
        return str(self.told.get("exe", ""))

    @property
    def argv(self) -> list[str]:
        """The arguments."""
        return list(self.told.get("argv", ()))

    @property
    def tty(self) -> str:
        """The controlling terminal."""
        return str(self.told.get("tty", ""))

    def ancestors(self, limit: int = 16) -> Iterable[Process]:  # type: ignore[override]
        """Return the processes above it."""
        return [_Process(above) for above in self.told.get("ancestors", ())[:limit]]

    def brief(self) -> dict[str, object]:
        """Return the values that are shown of an ancestor."""
        return dict(self.told)


class Rows:
    """Makes batches of one tracker's rows, by its streams."""

    def __init__(self, tracker: str) -> None:
        self._tracker = tracker
        self._infos: dict[str, StreamInfo] = {}
        self._owners: dict[str, Identity] = {}
        self._actors: dict[str, Process] = {}
        self._seconds: dict[str, int] = {}

    def describe(self, streams: Iterable[Stream]) -> list[StreamInfo]:
        """Take the streams as they are from now on, and return them."""
        self._infos = {stream.name: info(self._tracker, stream) for stream in streams}
        return list(self._infos.values())

    def batches(self, rows: Iterable[Row]) -> list[Batch]:
        """Return batches of rows, one for each stream; raises :class:`ValueError` for rows of no known stream."""
        by_stream: dict[str, list[Row]] = {}
        for row in rows:
            by_stream.setdefault(row.get("stream", ""), []).append(row)
        return [self._batch(name, some) for name, some in by_stream.items()]

    def _batch(self, name: str, rows: list[Row]) -> Batch:
        known = self._infos.get(name)
        if known is None:
            raise ValueError(f"a row came of stream {name!r}, which was not described")
        times = b"".join([self._time(row.get("time", "")).to_bytes(8, sys.byteorder) for row in rows])
        batch = _Received(known.schema, times, tracker=self._tracker, stream=name)
        batch.given = {field: [row.get(field) for row in rows] for field in known.schema.fields}
        batch.owners, batch.owner = _places([self._of(self._owners, row, _OWNER_KEYS, _identity) for row in rows])
        batch.actors, batch.actor = _places([self._of(self._actors, row, _ACTOR_KEYS, _actor) for row in rows])
        return batch

    def _time(self, text: str) -> int:
        """Return nanoseconds since the epoch."""
        whole, _, rest = text.rstrip("Z").partition(".")
        known = self._seconds.get(whole)
        if known is None:
            if len(self._seconds) >= _REMEMBERED:
                self._seconds.clear()
            known = self._seconds[whole] = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
        return known * 10**9 + int(rest.ljust(9, "0")[:9] or 0)

    @staticmethod
    def _of(known: dict[str, Any], row: Row, keys: Sequence[str], make: Callable[[Row], Any]) -> Any:
        """Return what rows with the same values share."""
        key = repr([row.get(name) for name in keys])
        found = known.get(key)
        if found is None:
            if len(known) >= _REMEMBERED:
                known.clear()
            found = known[key] = make(row)
        return found


_OWNER_KEYS = (*nouns(OWNER), "identity")
_ACTOR_KEYS = nouns(ACTOR)


def _places(things: Sequence[Any]) -> tuple[list[Any], Sequence[int] | None]:
    """Return the distinct ones, and which of them each row has."""
    at: dict[int, int] = {}
    distinct: list[Any] = []
    index = []
    for thing in things:
        place = at.setdefault(id(thing), len(distinct))
        if place == len(distinct):
            distinct.append(thing)
        index.append(place)
    return distinct, index if len(distinct) > 1 else None


def _actor(row: Row) -> Process:
    return _Process(row.get(_ACTOR_KEYS[0]) or {"state": UNKNOWN})


def _identity(row: Row) -> Identity:
    told = row.get("container")
    parents = tuple((told or {}).get("parents", ()))
    return Identity(row.get("identity", UNKNOWN), _made(Container, told), _made(Pod, row.get("pod")), parents)


def _made(kind: Any, told: Row | None) -> Any:
    """Return a container or pod of what a row says of it."""
    if told is None:
        return None
    required = {name: "" for name in kind._fields if name not in kind._field_defaults}
    given: Row = {}
    for name, shown in told.items():
        whole, is_key, key = name.partition(".")
        if is_key:  # labels.app, where one label was asked for
            given.setdefault(whole, {})[key] = shown
        else:
            given[name] = shown
    return kind(**required | {name: _value(name, given[name]) for name in kind._fields if name in given})


def _value(name: str, shown: Any) -> Any:
    if name == "mounts":
        return tuple(Mount(**one) for one in shown)
    if isinstance(shown, dict):
        return tuple(sorted(shown.items()))
    if isinstance(shown, list):
        return tuple(shown)
    if name in {"created", "started"}:
        return Rows("")._time(shown) if shown else 0
    return (shown or 0) if name == "pid" else shown


def has(added: Iterable[str], whole: bool) -> frozenset[str]:
    """Return the columns of containers, pods and processes that rows have; ``added`` are those beside the usual."""
    names = {name for noun in nouns(OWNER) for name in _all(noun)} if whole else set(usual())
    for name in added:
        names |= _all(name) or {name}
    return frozenset(names)


def _all(name: str) -> set[str]:
    return {column.name for column in members(name if name.endswith(".*") else f"{name}.*")}


def missing(names: Iterable[str], there: frozenset[str]) -> list[str]:
    """Return those of the names, each of one column or of several, that rows do not have."""
    found = []
    for name in names:
        own = {column.name for column in members(name)} or ({name} if joined(name) is not None else set())
        if not all(one in there or one.rpartition(".")[0] in there for one in own):
            found.append(name)
    return found


def decoded(texts: Iterable[bytes]) -> list[Row]:
    """Return rows of their JSON texts."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    return [decode(text) for text in texts]
