# SPDX-License-Identifier: BSD-2-Clause
"""Finds lines of an audit log that were changed, removed, inserted or moved, and an end that was cut off.

What it cannot find: somebody who may write the log can write all of it again, with right hashes. So the number and
hash of the last record belong on another machine too: ``eunomia audit head`` prints them, ``verify --head`` compares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from eunomia.server.audit import current, kept_head_path, snapshot
from eunomia.server.audit_chain import LONGEST, RECOVERED, Head, Record, decode, stated_hash

_PIECE = 1 << 20


class Finding(NamedTuple):
    """What is wrong, or worth knowing, at a line; ``line`` 0 is the whole file."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


class Result(NamedTuple):
    """What a log holds: its records in their order, what is wrong, and what is no fault but worth knowing."""

    records: int
    head: Head
    findings: list[Finding]
    notes: list[Finding]


class _Line(NamedTuple):
    file: Path
    number: int
    start: int  # its place in the file, in bytes
    content: bytes  # not more than needed to see that it is too long


class _Bad(NamedTuple):
    """A line that is no record. One that ``is_changed`` was a record: it still ends with a hash."""

    line: _Line
    why: str
    is_changed: bool


class _Gap(NamedTuple):
    """A line with record ``found``, where ``first`` belongs."""

    line: _Line
    first: int
    found: int


class _Stray(NamedTuple):
    """A line with a record that belongs before it: ``behind`` has passed already."""

    line: _Line
    sequence: int
    behind: int


def verify(files: Sequence[tuple[Path, int]], after: Head = Head(), heads: Sequence[Head] = ()) -> Result:  # noqa: B008
    """Check the files of a log, given in their order with the sizes up to which they are read.

    ``after`` is the record before the first one; ``heads`` are numbers and hashes that were noted earlier.
    """
    chain = _Chain(after, heads)
    for at, (path, size) in enumerate(files):
        chain.begin_file(path)
        for line in lines(path, size):
            chain.take(line)
        chain.end_file(is_last=at == len(files) - 1)
    return chain.result()


def verify_directory(directory: Path, after: Head = Head(), heads: Sequence[Head] = ()) -> Result:  # noqa: B008
    """Check the log of a directory, also against the head that is kept beside it.

    Raises :class:`FileNotFoundError` if there is none.
    """
    found, kept = snapshot(directory)
    if not found and kept is None:
        raise FileNotFoundError(2, "there is no audit log", str(directory))
    result = verify(found or [(current(directory), 0)], after, [*heads, *([kept] if kept is not None else [])])
    if kept is None and result.records > 1:
        what = "it is missing or cannot be read, so a removed end cannot be told from none: compare with --head"
        result.findings.append(Finding(str(kept_head_path(directory)), 0, what))
    return result


class _Chain:
    """Goes along the lines."""

    def __init__(self, after: Head, heads: Sequence[Head]) -> None:
        self._last = after  # the last record that is in its place
        self._stated = after  # the same; behind lines that were changed, what the last of them says that it was
        self._heads = {head for head in heads if head.sequence > after.sequence}
        self._records = 0
        self._bad: list[_Bad] = []  # lines since the last record
        self._findings: list[Finding] = []
        self._notes: list[Finding] = []
        self._gaps: list[_Gap] = []
        self._strays: list[_Stray] = []
        self._at = _Line(Path(), 0, 0, b"")  # the last line
        self._files: dict[str, None] = {}

    def begin_file(self, path: Path) -> None:
        """Take the begin of a file."""
        self._at = _Line(path, 0, 0, b"")
        self._files.setdefault(str(path))

    def take(self, line: _Line) -> None:
        """Take the next line."""
        self._at = line._replace(content=b"")
        found = decode(line.content)
        if isinstance(found, Record):
            self._take_record(line, found)
            return
        stated = stated_hash(line.content)
        self._bad.append(_Bad(line._replace(content=b""), found, stated is not None))
        if stated is not None:
            self._stated = Head(self._stated.sequence + 1, stated)
            self._find(line, f"the line was changed: {found}")

    def end_file(self, *, is_last: bool) -> None:
        """Take the end of a file."""
        if is_last:
            self._forgive("the line is cut short: its writer was killed, or is writing; the next record will say so")
        else:
            self._blame()

    def result(self) -> Result:
        """Return what was found."""
        self._tell_places()
        for head in sorted(self._heads - {self._stated}):
            if head.sequence > self._last.sequence:
                missing = _records(self._last.sequence + 1, head.sequence)
                self._find(self._at, f"the end is cut off: {missing} should follow, whose hash was noted")
        order = {file: at for at, file in enumerate(self._files)}
        found = sorted(self._findings, key=lambda finding: (order.get(finding.file, 0), finding.line))
        return Result(self._records, self._last, found, self._notes)

    def _take_record(self, line: _Line, record: Record) -> None:
        if self._bad:
            follows = record.previous == self._last.hash and record.action == RECOVERED
            if follows and _is_told(self._bad[0].line, line, record):
                self._forgive(f"the line is cut short, as record {record.sequence} says: its writer was killed")
            else:
                self._blame()
        if record.previous == self._stated.hash:
            self._last = self._stated
        self._records += 1
        self._compare(line, record)
        expected = self._last.sequence + 1
        if record.sequence < expected:
            self._strays.append(_Stray(line, record.sequence, self._last.sequence))
            return
        if record.sequence > expected:
            self._gaps.append(_Gap(line, expected, record.sequence))
        elif record.previous != self._last.hash:
            self._find(
                line,
                f"record {record.sequence} does not continue the line before it: its previous hash is another than "
                f"that of record {self._last.sequence}; one of both was replaced",
            )
        self._last = self._stated = record.head

    def _compare(self, line: _Line, record: Record) -> None:
        """Compare with the heads that were noted."""
        for head in [h for h in self._heads if h.sequence == record.sequence]:
            self._heads.discard(head)
            if head.hash != record.hash:
                self._find(line, f"record {record.sequence} has another hash than was noted: {head.hash}")

    def _tell_places(self) -> None:
        """Tell records that are missing from ones that stand elsewhere."""
        elsewhere = {stray.sequence for stray in self._strays}
        jumped: set[int] = set()
        for gap in self._gaps:
            moved = {n for n in elsewhere if gap.first <= n < gap.found}
            jumped |= moved
            missing = gap.found - gap.first - len(moved)
            belongs = _records(gap.first, gap.found - 1)
            if not moved:
                what = f"removed before this line: {belongs}"
            elif not missing:
                what = f"reordered: record {gap.found} stands here, where {belongs} belongs"
            else:
                what = f"reordered and removed: record {gap.found} stands here; of {belongs}, {missing} are missing"
            self._find(gap.line, what)
        for stray in self._strays:
            how = "reordered" if stray.sequence in jumped else "inserted"
            again = "" if stray.sequence in jumped else ", for the second time: one of both is forged or a copy"
            self._find(stray.line, f"{how}: record {stray.sequence} stands behind record {stray.behind}{again}")

    def _find(self, line: _Line, what: str) -> None:
        self._findings.append(Finding(str(line.file), line.number, what))

    def _blame(self) -> None:
        """Take the lines that are no records for changed ones."""
        for bad in self._bad:
            if not bad.is_changed:  # that was said
                self._find(bad.line, f"the line is no record: {bad.why}")
        self._bad.clear()

    def _forgive(self, what: str) -> None:
        """Take the lines that are no records for ones that a killed writer left."""
        for bad in self._bad:
            if not bad.is_changed:
                self._notes.append(Finding(str(bad.line.file), bad.line.number, what))
        self._bad.clear()


def _records(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first} to {last}"


def _is_told(first: _Line, line: _Line, record: Record) -> bool:
    """Say whether a record tells of the bytes from ``first`` to the line before its own."""
    left = line.start - 1 - first.start
    if record.details.get("bytes") != left or first.file != line.file:
        return False
    digest = hashlib.sha256()
    with _open(first.file) as file:
        file.seek(first.start)
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                return False
            digest.update(piece)
            left -= len(piece)
    return bool(record.details.get("sha256") == digest.hexdigest())


def _open(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")


def lines(path: Path, size: int) -> Iterator[_Line]:
    """Yield the lines of a file's first ``size`` bytes, without their newlines."""
    if not size:
        return
    with _open(path) as file:
        number, start = 0, 0
        while start < size:
            number += 1
            content = file.readline(min(LONGEST + 2, size - start))
            if not content:
                return
            length = len(content)
            while not content.endswith(b"\n") and start + length < size:
                piece = file.readline(min(_PIECE, size - start - length))
                if not piece:
                    break
                length += len(piece)
                content = content if not piece.endswith(b"\n") else content + b"\n"
            yield _Line(path, number, start, content.removesuffix(b"\n"))
            start += length
