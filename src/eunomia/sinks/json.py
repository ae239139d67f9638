# SPDX-License-Identifier: BSD-2-Clause
"""JSON: one object per line."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.columns.column import VIRTUAL
from eunomia.columns.joined import ACTOR, OWNER, Joined, is_of, joined, members, nouns
from eunomia.process_identity import LOST, UNKNOWN
from eunomia.sinks import ByteSink
from eunomia.sinks.columns import Shared, beside, checked, has, own_columns
from eunomia.sinks.escape import escape_json
from eunomia.sinks.json_lines import Made, Part, lines_of, memory, part_of, write
from eunomia.sinks.json_values import encoded
from eunomia.sinks.merge import Key, Piece, interleave, pieces, tally
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eunomia.batch import Batch
    from eunomia.identity import Identity
    from eunomia.process_identity import Process
    from eunomia.sinks import StreamInfo
    from eunomia.sinks.writer import Writer
    from eunomia.stream_schema import Schema

_IDENTITY = "identity"
_KEYS = (*nouns(OWNER), _IDENTITY)  # keys of the owner in every row, in this order
_ACTOR = nouns(ACTOR)[0]

_Chosen = dict[str, tuple[Joined, ...]]  # the members of each object


class _SharedPart(Part):
    """Keys that all rows of an identity, or of a process, share."""

    def __init__(self, shared: Shared[bytes]) -> None:
        self._shared = shared

    def make(self, batch: Batch) -> Made:
        """Return the keys with their values."""
        made, index = self._shared.of(batch)
        return Made.coded(b"".join([b"%b\n" % one for one in made]), index)


class _Plan:
    """How one stream's rows are made."""

    __slots__ = ("columns", "parts", "schema")

    def __init__(self, schema: Schema, columns: Sequence[str], parts: list[Part]) -> None:
        self.schema = schema
        self.columns = columns
        self.parts = parts


class JsonSink(ByteSink):
    """Writes ``time``, ``tracker``, ``stream``, the fields, ``container``, ``pod`` and ``identity``.

    With ``columns`` only those, in their order; names like ``container.name`` choose an object's members.
    """

    def __init__(
        self,
        writer: Writer,
        streams: Sequence[StreamInfo],
        columns: Sequence[str] | None = None,
        added: Sequence[str] = (),
    ) -> None:
        self._writer = writer
        self._text = memory()
        self._members: _Chosen = {noun: members(noun) for noun in nouns(OWNER)}
        self._acting: dict[str, Joined] = {}
        self._added = self._add(added, streams)
        self._whole = {s.key for s in streams if s.whole and columns is None}
        self._chosen: list[str] | None = None
        if columns is not None:
            self._chosen = self._choose(checked(columns, streams), streams)
        self._shared: dict[tuple[Any, ...], Shared[bytes]] = {}
        self._plans: dict[Key, _Plan] = {s.key: self._plan(s.key, s.schema) for s in streams}
        self.wants = frozenset(name for plan in self._plans.values() for name in plan.columns)

    def _choose(self, columns: list[str], streams: Sequence[StreamInfo]) -> list[str]:
        """Return keys of the object; columns that are members are added to their object."""
        fields = {name for s in streams for name in s.schema.fields}
        keys: dict[str, None] = {}
        asked: dict[str, list[Joined]] = {}
        for name in columns:
            noun = name.partition(".")[0]
            named = () if name in fields else members(name) or tuple(filter(None, [joined(name)]))
            if name not in fields and is_of(ACTOR, name):
                keys[_ACTOR] = None
                self._acting |= {column.name: column for column in named}
                continue
            if name in fields or noun not in self._members:
                keys[name] = None
                continue
            keys[noun] = None
            asked.setdefault(noun, []).extend(named)
        self._members |= {noun: tuple({c.name: c for c in named}.values()) for noun, named in asked.items()}
        return list(keys)

    def _add(self, columns: Sequence[str], streams: Sequence[StreamInfo]) -> list[str]:
        """Return keys to add to the usual ones; columns that are members are added to their object."""
        usual = [column.name for noun in nouns(OWNER) for column in members(noun)]
        keys = self._choose([*usual, *beside(columns)], streams)
        return [key for key in keys if key not in _KEYS]

    def _plan(self, key: Key, schema: Schema) -> _Plan:
        if self._chosen is not None:
            names = [name for name in self._chosen if has(schema, name)]
        else:
            usual = [*VIRTUAL, *own_columns(schema), *_KEYS]
            names = [*usual, *(n for n in self._added if has(schema, n) and n not in usual)]
        whole = key in self._whole
        parts: list[Part] = []
        ours: list[str] = []  # adjacent keys of the owner
        for name in [*names, ""]:
            if name in _KEYS and name not in schema.fields:
                ours.append(name)
                continue
            if ours:
                parts.append(_SharedPart(self._of_owner(tuple(ours), whole)))
                ours = []
            if name == _ACTOR and name not in schema.fields:
                parts.append(_SharedPart(self._sharing(ACTOR, (), self._act)))
            elif name:
                parts.append(part_of(schema.column(name)))
        return _Plan(schema, names, parts)

    def _sharing(self, of: str, key: tuple[Any, ...], make: Any) -> Shared[bytes]:
        """Return a cache, the same for all streams that show the same."""
        return self._shared.setdefault((of, *key), Shared(make, of))

    def _of_owner(self, keys: tuple[str, ...], whole: bool) -> Shared[bytes]:
        objects = {noun: members(f"{noun}.*") for noun in nouns(OWNER)} if whole else self._members
        return self._sharing(OWNER, (keys, whole), lambda identity: self._own(identity, keys, objects))

    def _act(self, process: Process) -> bytes:
        if process.state in {LOST, UNKNOWN}:
            return _member(_ACTOR, {"state": process.state})
        return _member(_ACTOR, {column.member: column.take(process) for column in self._acting.values()})

    @staticmethod
    def _own(identity: Identity, keys: Sequence[str], objects: _Chosen) -> bytes:
        made = []
        for key in keys:
            if key == _IDENTITY:
                made.append(_member(key, identity.state))
            elif getattr(identity, key) is not None:
                made.append(_member(key, {column.member: column.take(identity) for column in objects[key]}))
        return b"".join(made)

    def write(self, batches: Sequence[Batch]) -> None:
        """Write a tick's rows, in the order of their times."""
        for group in pieces(batches):
            counts = tally(group)
            if len(group) == 1:
                lines, _ = self._rows(group[0])
                self._writer.write(lines, counts)
                continue
            rows, order = interleave(group, [lines_of(*self._rows(piece)) for piece in group])
            self._writer.write(b"".join(rows), counts, order)

    def _rows(self, piece: Piece) -> tuple[bytes, Any]:
        """Return rows as lines, and the end of each."""
        batch = piece.batch
        plan = self._plans.get(piece.key)
        if plan is None or plan.schema is not batch.schema:  # a replaced source may have another struct
            plan = self._plans[piece.key] = self._plan(piece.key, batch.schema)
        return write(plan.parts, batch, self._text)

    def flush(self) -> None:
        """Write waiting rows."""
        self._writer.flush()

    def close(self) -> None:
        """Write waiting rows, for a bounded time, and close."""
        self._writer.close()


def _member(key: str, value: Any) -> bytes:
    """Return a key and its value, with a comma after them."""
    return escape_json(encoded(key) + b":" + encoded(value) + b",")
