# SPDX-License-Identifier: BSD-2-Clause
"""Reader of BoltDB files, the databases of containerd and Podman 4; it takes no lock.

A file is a row of pages of one size (``page.go``, ``db.go`` and ``bucket.go`` of go.etcd.io/bbolt; numbers are
in the machine's byte order). A page opens with its number (u64), its kind (u16), how many elements it has (u16)
and how many pages more it goes on for (u32). Elements of 16 bytes follow, and behind them keys and values:

- of a leaf: flags, offset of the key from the element, size of the key, size of the value (u32 each); the value
  follows its key; flag 1 says that the value is a bucket,
- of a branch: offset and size of the first key (u32 each) of the page with that number (u64).

A bucket's value is the number of its first page and a counter (u64 each); number 0 says that a leaf follows
inline. Pages 0 and 1 each say where the outermost bucket begins, as of transaction n and n + 1: they are written in
turn, and the one with the higher transaction and a valid checksum (FNV-1a, 64 bits) counts.

Writers copy what they change to free pages. Pages of transaction n become free in n + 1 and are overwritten in n + 2
at the earliest, so a read is consistent if n is still the newest transaction afterwards: :func:`ask` checks that.

Files may be hostile. They are read with pread(2), not mapped: truncating a mapped file would kill us with SIGBUS.
Any other format raises :class:`Broken`, and so does a file that exceeds the limits below.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from types import TracebackType

from eunomia.typing import NamedTuple, TypeVar

_MAGIC, _VERSION = 0xED0CDAED, 2
_HEADER = struct.Struct("=QHHI")  # page number, kind, elements, pages more
_META = struct.Struct("=IIIIQQQQQQ")  # behind the header: see _metas
_LEAF_ELEMENT = struct.Struct("=IIII")
_BRANCH_ELEMENT = struct.Struct("=IIQ")
_BUCKET = struct.Struct("=QQ")
_ELEMENT = 16  # bytes of the header, of an element, of a bucket's value
_BRANCH, _LEAF = 1, 2
_IS_BUCKET = 1
_PAGE_SIZES = tuple(1024 << i for i in range(7))  # to 64 KiB, the largest page of any machine

ROOM = 32 << 20  # bytes that are read from one file
DEPTH = 32  # pages from a bucket's first to a leaf; real files have three
VISITS = 1 << 17  # pages looked at, each time counted
TRIES = 20  # reads, each begun again because the file has changed

_T = TypeVar("_T")


class Broken(ValueError):
    """The file is not a BoltDB file, is corrupt, or exceeds a limit."""


class _Meta(NamedTuple):
    transaction: int
    page_size: int
    root: int  # the first page of the outermost bucket
    pages: int  # all page numbers are lower; at most what the file's size allows


class _Page:
    """A branch or a leaf: sorted keys with their values or pages."""

    __slots__ = ("count", "data", "leaf")

    def __init__(self, data: bytes) -> None:
        if len(data) < _ELEMENT:
            raise Broken("a page is cut short")
        _, kind, self.count, _ = _HEADER.unpack_from(data)
        if kind not in {_BRANCH, _LEAF}:
            raise Broken(f"a page of kind {kind:#x} instead of a branch or a leaf")
        if _ELEMENT * (1 + self.count) > len(data):
            raise Broken(f"a page claims {self.count} elements, more than fit into it")
        self.data, self.leaf = data, kind == _LEAF

    def key(self, index: int) -> bytes:
        at = _ELEMENT * (1 + index)
        if self.leaf:
            _, place, size, _ = _LEAF_ELEMENT.unpack_from(self.data, at)
        else:
            place, size, _ = _BRANCH_ELEMENT.unpack_from(self.data, at)
        return self._piece(at + place, size)

    def value(self, index: int) -> tuple[bytes, bool]:
        """Return a leaf's value, and whether it is a bucket."""
        at = _ELEMENT * (1 + index)
        flags, place, key_size, size = _LEAF_ELEMENT.unpack_from(self.data, at)
        return self._piece(at + place + key_size, size), bool(flags & _IS_BUCKET)

    def below(self, index: int) -> int:
        """Return the number of a branch's child page."""
        number: int = _BRANCH_ELEMENT.unpack_from(self.data, _ELEMENT * (1 + index))[2]
        return number

    def first_not_less(self, key: bytes) -> int:
        return bisect_left(range(self.count), key, key=self.key)

    def _piece(self, begin: int, size: int) -> bytes:
        if begin + size > len(self.data):
            raise Broken("a key or value goes beyond its page")
        return self.data[begin : begin + size]


class Bolt:
    """An open file as of its newest transaction; a context manager that closes the descriptor.

    Raises :class:`Broken`, here and wherever it is read, and :class:`OSError`.
    """

    def __init__(self, file: int | str, room: int = ROOM) -> None:
        """Take over a descriptor, or open a path; read ``room`` bytes at most."""
        self._descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK) if isinstance(file, str) else file
        try:
            self._limit = room
            self.restart()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Bolt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def restart(self) -> None:
        """Go to the newest transaction and drop all pages; earlier buckets become invalid."""
        self._room, self._visits = self._limit, VISITS
        self._pages: dict[int, _Page] = {}
        self._meta = _newest(self._descriptor)

    @property
    def transaction(self) -> int:
        """The transaction that is read."""
        return self._meta.transaction

    @property
    def stale(self) -> bool:
        """Whether there is a newer transaction, so that earlier reads may be inconsistent."""
        return _newest(self._descriptor).transaction != self._meta.transaction

    def bucket(self, *path: bytes) -> Bucket | None:
        """Return the bucket at a path of names; ``None`` if there is none."""
        found: Bucket | None = Bucket(self, self._meta.root)
        for name in path:
            if found is None:
                break
            found = found.bucket(name)
        return found

    def _page(self, number: int) -> _Page:
        self._visits -= 1
        if self._visits < 0:
            raise Broken("pages without an end")
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = _Page(self._read(number))
        return page

    def _read(self, number: int) -> bytes:
        size = self._meta.page_size
        data = self._take(size, number)
        if len(data) < _ELEMENT:
            raise Broken(f"page {number} is beyond the end of the file")
        own, _, _, more = _HEADER.unpack_from(data)
        if own != number:
            raise Broken(f"page {number} has the number {own} in its header")
        if more:
            data += self._take(more * size, number + 1)
        return data

    def _take(self, size: int, number: int) -> bytes:
        self._room -= size
        if self._room < 0:
            raise Broken(f"more than {self._limit} bytes to read")
        if not 2 <= number <= self._meta.pages - size // self._meta.page_size:
            raise Broken(f"there is no page {number}")
        return os.pread(self._descriptor, size, number * self._meta.page_size)


class Bucket:
    """Keys in the order of their bytes, each with a value or with a bucket."""

    __slots__ = ("_db", "_inline", "_number")

    def __init__(self, db: Bolt, number: int, inline: _Page | None = None) -> None:
        self._db, self._number, self._inline = db, number, inline

    def get(self, key: bytes) -> bytes | None:
        """Return a key's value; ``None`` if there is none, or if it is a bucket."""
        found = self._find(key)
        return None if found is None or found[1] else found[0]

    def bucket(self, key: bytes) -> Bucket | None:
        """Return the bucket with this name; ``None`` if there is none, or if it is a value."""
        found = self._find(key)
        return self._nested(found[0]) if found is not None and found[1] else None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and their values, without buckets."""
        for key, value, is_bucket in self._walk():
            if not is_bucket:
                yield key, value

    def buckets(self) -> Iterator[tuple[bytes, Bucket]]:
        """Yield the buckets inside with their names."""
        for key, value, is_bucket in self._walk():
            if is_bucket:
                yield key, self._nested(value)

    def _first(self) -> _Page:
        return self._inline or self._db._page(self._number)

    def _nested(self, value: bytes) -> Bucket:
        if len(value) < _BUCKET.size:
            raise Broken("a bucket is cut short")
        number, _ = _BUCKET.unpack_from(value)
        return Bucket(self._db, number) if number else Bucket(self._db, 0, _Page(value[_BUCKET.size :]))

    def _find(self, key: bytes) -> tuple[bytes, bool] | None:
        page = self._first()
        for _ in range(DEPTH):
            index = page.first_not_less(key)
            exact = index < page.count and page.key(index) == key
            if page.leaf:
                return page.value(index) if exact else None
            if not page.count:
                raise Broken("a branch without children")
            page = self._db._page(page.below(index if exact else max(index - 1, 0)))
        raise Broken("pages without an end")

    def _walk(self) -> Iterator[tuple[bytes, bytes, bool]]:
        todo = [(self._first(), 0)]
        while todo:
            page, index = todo.pop()
            if page.leaf:
                for i in range(page.count):
                    yield page.key(i), *page.value(i)
            elif index < page.count:
                if len(todo) >= DEPTH:
                    raise Broken("pages without an end")
                todo.append((page, index + 1))
                todo.append((self._db._page(page.below(index)), 0))


def ask(file: int | str, question: Callable[[Bolt], _T], room: int = ROOM) -> _T:
    """Return ``question(db)`` for a file that may be written to at the same time; closes the descriptor.

    The question is asked again if the file has changed meanwhile. Raises :class:`Broken`, also for a file that
    never stops changing, and :class:`OSError`.
    """
    with Bolt(file, room) as db:
        for _ in range(TRIES):
            try:
                answer = question(db)
            except Broken:
                if not db.stale:
                    raise
            else:
                if not db.stale:
                    return answer
            db.restart()
    raise Broken(f"changed {TRIES} times while it was read")


def _newest(descriptor: int) -> _Meta:
    """Return the valid meta page with the highest transaction."""
    first = _meta(descriptor, 0)
    # Without a valid first page the page size, and so the place of the second, is unknown.
    sizes = _PAGE_SIZES if first is None else (first.page_size,)
    known = [meta for meta in (first, *(_meta(descriptor, size) for size in sizes)) if meta is not None]
    if not known:
        raise Broken("not a BoltDB file, or a torn one")
    return max(known)


def _meta(descriptor: int, at: int) -> _Meta | None:
    data = os.pread(descriptor, _META.size, at + _HEADER.size)
    if len(data) < _META.size:
        return None
    length = os.fstat(descriptor).st_size
    magic, version, page_size, _, root, _, _, pages, transaction, checksum = _META.unpack(data)
    if (magic, version) != (_MAGIC, _VERSION) or checksum != _fnv(data[:-8]):
        return None
    if page_size not in _PAGE_SIZES or at not in {0, page_size}:
        return None
    # the checksum may be valid and the number too large: pread(2) takes offsets below 2^63
    return _Meta(transaction, page_size, root, min(pages, length // page_size))


def _fnv(data: bytes) -> int:
    """Return the FNV-1a hash of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
