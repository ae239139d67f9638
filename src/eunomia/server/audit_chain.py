# SPDX-License-Identifier: BSD-2-Clause
r"""The lines of the audit log, and how each is tied to the one before.

A line is one JSON object: the members in alphabetical order, without spaces, in ASCII; ``hash`` comes last. It is the
SHA-256 of the line without it, that is of ``{...}`` with all other members, and one of those is ``previous``, the hash
of the line before. So no Eunomia is needed to check a line::

    printf %s "$(sed -n 7p audit.jsonl)" | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

START = "0" * 64  # the hash before the first line
LONGEST = 64 << 10  # bytes of a line
RECOVERED = "audit.recovered"  # the action of the record that follows a torn line
_SHORT = 200  # characters that are left of a text that is too long for a line
_MEMBERS = {
    "action": str, "details": dict, "outcome": str, "previous": str, "sequence": int, "target": str, "time": str,
    "who": dict,
}  # fmt: skip
_HASH = re.compile(rb',"hash":"([0-9a-f]{64})"}')
_HASH_LENGTH = len(',"hash":""}') + 64
_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


class Head(NamedTuple):
    """The place of a record in the chain: its number and its hash."""

    sequence: int = 0
    hash: str = START

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


def parse_head(text: str) -> Head:
    """Return what ``SEQUENCE:HASH`` says. Raises :class:`ValueError`."""
    form = _HEAD.fullmatch(text.strip())
    if form is None:
        raise ValueError(f"{text[:40]!r} is not of the form SEQUENCE:HASH, as `eunomia audit head` prints it")
    return Head(int(form[1]), form[2])


class Record(NamedTuple):
    """One action. ``who`` has the token's id, or the uid and pid of a local process."""

    sequence: int
    time: str
    who: Mapping[str, Any]
    action: str
    target: str
    outcome: str
    details: Mapping[str, Any]
    previous: str
    hash: str

    @property
    def head(self) -> Head:
        """Its place in the chain."""
        return Head(self.sequence, self.hash)

    def members(self) -> dict[str, Any]:
        """Return it as the line has it, in the order in which people read it."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in self._asdict().items()}


def encode(
    before: Head, who: Mapping[str, Any], action: str, target: str, outcome: str, *, details: Mapping[str, Any]
) -> tuple[bytes, Head]:
    """Return the line after ``before``, without its newline, and its place. Raises :class:`ValueError`, TypeError."""
    members: dict[str, Any] = {
        "sequence": before.sequence + 1,
        "time": _now(),
        "who": _plain(who),
        "action": action,
        "target": target,
        "outcome": outcome,
        "details": _plain(details),
        "previous": before.hash,
    }
    body = _canonical(members)
    if len(body) + _HASH_LENGTH > LONGEST:
        body = _canonical(_shortened(members, body))
    digest = hashlib.sha256(body).hexdigest()
    return body[:-1] + b',"hash":"%s"}' % digest.encode(), Head(members["sequence"], digest)


def decode(line: bytes) -> Record | str:
    """Return the record in a line, or what is wrong with the line by itself."""
    if len(line) > LONGEST:
        return f"it is longer than any record ({LONGEST} bytes)"
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        return "it is not JSON"
    found = _HASH.fullmatch(line[-_HASH_LENGTH:])
    if not isinstance(members, dict) or found is None:
        return "it does not end with a hash"
    digest = members.pop("hash", None)
    if members.keys() != _MEMBERS.keys() or any(type(members[n]) is not kind for n, kind in _MEMBERS.items()):
        return "it does not have the members of a record"
    body = line[:-_HASH_LENGTH] + b"}"
    if digest != found[1].decode() or hashlib.sha256(body).hexdigest() != digest:
        return "its hash is not that of its content"
    try:
        if _canonical(members) == body:
            return Record(hash=digest, **members)
    except (ValueError, RecursionError):  # numbers that are none, depths that no record has
        pass
    return "it is not written as Eunomia writes records"


def stated_hash(line: bytes) -> str | None:
    """Return the hash that a line says it has, whatever its content is now."""
    found = _HASH.fullmatch(line[-_HASH_LENGTH:])
    return found[1].decode() if found else None


def _plain(given: Mapping[str, Any]) -> Any:
    """Return what JSON makes of a mapping: keys are texts, tuples are lists."""
    return json.loads(json.dumps(dict(given), allow_nan=False))


def _canonical(members: Mapping[str, Any]) -> bytes:
    text = json.dumps(members, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.replace("\x7f", "\\u007f").encode("ascii")  # the one control that JSON lets through


def _shortened(members: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Return a record that fits into a line; it says what was left out of it."""
    left_out = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    kept = {n: value[:_SHORT] if isinstance(value, str) else value for n, value in members.items()}
    who = {name[:_SHORT]: str(value)[:_SHORT] for name, value in [*members["who"].items()][:8]}
    return kept | {"who": who, "details": {"shortened": left_out}}


def _now() -> str:
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
