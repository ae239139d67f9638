# SPDX-License-Identifier: BSD-2-Clause
"""JSON: one object a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from eunomia.actor import LOST, UNKNOWN, is_acting
from eunomia.batch import VIRTUAL
from eunomia.joined import MEMBERS, look
from eunomia.meaning import valid
from eunomia.sinks import ByteSink
from eunomia.sinks.columns import WHOLE, Looks, beside, checked, has, own_columns
from eunomia.sinks.escape import escape_json
from eunomia.sinks.merge import Key, Piece, interleave, pieces, tally

if TYPE_CHECKING:
    from eunomia.actor import Process
    from eunomia.batch import Batch, Schema
    from eunomia.identity import Identity
    from eunomia.sinks import StreamInfo
    from eunomia.sinks.writer import Writer

_WHO = ("container", "pod", "identity")
_ACTOR = "process"


_Member = tuple[str, Callable[[Any], Any]]


def _members(names: Iterable[str]) -> tuple[_Member, ...]:
    """Return the keys of an object and what makes their values; a map's own key is one of the object's."""
    return tuple((name.partition(".")[2], look(name)) for name in dict.fromkeys(names))


def _valid_row(row: Any) -> Any:
    """Return a row whose texts JSON can hold."""
    for name in row.__struct_fields__:
        setattr(row, name, valid(getattr(row, name)))
    return row


class _Plan:
    """How one stream's rows are made: the columns in order, and the struct that holds one row."""

    __slots__ = ("columns", "row", "schema")

    def __init__(self, schema: Schema, columns: Sequence[str]) -> None:
        self.schema = schema
        self.columns = columns
        names = [f"c{i}" for i in range(len(columns))]  # a field's own name may be a word of Python's
        self.row = msgspec.defstruct("Row", names, rename=dict(zip(names, columns, strict=True)), gc=False)


class JsonSink(ByteSink):
    """Writes ``time``, ``tracker``, ``stream``, the fields, ``container``, ``pod`` and ``identity``.

    With ``columns`` only those, in their order; ``container.name`` and its like choose an object's members.
    """

    def __init__(
        self,
        writer: Writer,
        streams: Sequence[StreamInfo],
        columns: Sequence[str] | None = None,
        added: Sequence[str] = (),
    ) -> None:
        self._writer = writer
        self._encode = msgspec.json.Encoder().encode_lines
        self._members = {noun: _members(WHOLE[noun]) for noun in MEMBERS}
        self._acting: tuple[str, ...] = ()
        self._acts = Looks(self._act, "actor")
        self._added = self._add(added, streams)
        self._looks: Looks[Identity] = Looks(lambda identity: self._look(identity, self._members))
        all_members = {noun: _members(WHOLE[f"{noun}.*"]) for noun in MEMBERS}
        self._whole_looks: Looks[Identity] = Looks(lambda identity: self._look(identity, all_members))
        self._whole = {s.key for s in streams if s.whole and columns is None}
        self._chosen: list[str] | None = None
        if columns is not None:
            self._chosen = self._choose(checked(columns, streams), streams)
        self._plans: dict[Key, _Plan] = {s.key: self._plan(s.schema) for s in streams}
        self.wants = frozenset(name for plan in self._plans.values() for name in plan.columns)

    def _choose(self, columns: list[str], streams: Sequence[StreamInfo]) -> list[str]:
        """Return keys of the object; members that were asked for by name become their object's."""
        fields = {name for s in streams for name in s.schema.fields}
        keys: dict[str, None] = {}
        members: dict[str, list[str]] = {}
        for name in columns:
            noun = name.partition(".")[0]
            if is_acting(name) and name not in fields:
                keys[_ACTOR] = None
                self._acting = tuple(dict.fromkeys((*self._acting, *WHOLE.get(name, (name,)))))
                continue
            if name in fields or noun not in MEMBERS:
                keys[name] = None
                continue
            keys[noun] = None
            members.setdefault(noun, []).extend(WHOLE.get(name, (name,)))
        self._members |= {noun: _members(names) for noun, names in members.items()}
        return list(keys)

    def _add(self, columns: Sequence[str], streams: Sequence[StreamInfo]) -> list[str]:
        """Return keys of the object that come to the usual ones; members come to those of their object."""
        usual = {noun: WHOLE[noun] for noun in MEMBERS}
        keys = self._choose([*(n for names in usual.values() for n in names), *beside(columns)], streams)
        return [key for key in keys if key not in _WHO]

    def _plan(self, schema: Schema) -> _Plan:
        if self._chosen is not None:
            return _Plan(schema, [name for name in self._chosen if has(schema, name)])
        usual = [*VIRTUAL, *own_columns(schema), *_WHO]
        return _Plan(schema, [*usual, *(n for n in self._added if has(schema, n) and n not in usual)])

    def _act(self, process: Process) -> tuple[Any, ...]:
        if process.state in {LOST, UNKNOWN}:
            return (msgspec.Raw(msgspec.json.encode({"state": process.state})),)
        members = {name.partition(".")[2]: valid(process.value(name)) for name in self._acting}
        return (msgspec.Raw(msgspec.json.encode(members)),)

    @staticmethod
    def _look(identity: Identity, members: Mapping[str, Sequence[_Member]]) -> tuple[Any, ...]:
        objects = [
            msgspec.Raw(msgspec.json.encode({key: valid(one(identity)) for key, one in members[noun]}))
            if getattr(identity, noun) is not None
            else msgspec.UNSET
            for noun in ("container", "pod")
        ]
        return (*objects, identity.state)

    def write(self, batches: Sequence[Batch]) -> None:
        """Write a tick's rows, in the order of their times."""
        for group in pieces(batches):
            counts = tally(group)
            rows, order = interleave(group, [self._rows(piece) for piece in group])
            group.clear()
            try:
                lines = self._encode(rows)
            except UnicodeEncodeError:  # bytes that are not UTF-8
                lines = self._encode(list(map(_valid_row, rows)))
            rows = ()  # freed before the next piece is made, which then finds the caches warm
            self._writer.write(escape_json(lines), counts, order)

    def _rows(self, piece: Piece) -> list[Any]:
        batch = piece.batch
        plan = self._plans.get(piece.key)
        if plan is None or plan.schema is not batch.schema:  # an update may have changed the struct
            plan = self._plans[piece.key] = self._plan(batch.schema)
        looks = self._whole_looks if piece.key in self._whole else self._looks
        who = dict(zip(_WHO, looks.columns(batch), strict=True))
        columns: list[Iterable[Any]] = []
        for name in plan.columns:
            if name == "time":
                columns.append(piece.times)
            elif name in batch.schema.fields:
                columns.append(batch.values(name))
            elif name in who:
                columns.append(who[name])
            elif name == _ACTOR:
                columns += self._acts.columns(batch)
            else:
                columns.append(repeat(getattr(batch, name), batch.count))
        if not columns:
            return [plan.row() for _ in range(batch.count)]
        return list(map(plan.row, *columns))

    def flush(self) -> None:
        """Pass on what waits."""
        self._writer.flush()

    def close(self) -> None:
        """Pass on what waits, for a bounded time, and let go."""
        self._writer.close()
