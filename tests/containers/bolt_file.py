# SPDX-License-Identifier: BSD-2-Clause
"""Writer of BoltDB files, for contents that real programs don't make on demand."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Union

Tree = Mapping[bytes, Union[bytes, "Tree"]]
_BRANCH, _LEAF, _META, _FREE = 1, 2, 4, 16


def fnv(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return value


class Writer:
    """Lays pages one behind the other; ``fanout`` keys a page, buckets inline up to ``inline`` bytes."""

    def __init__(self, page_size: int = 4096, fanout: int = 50, inline: int = 1024) -> None:
        self.page_size, self.fanout, self.inline = page_size, fanout, inline
        self.pages = bytearray(3 * page_size)
        self.pages[2 * page_size : 2 * page_size + 16] = struct.pack("=QHHI", 2, _FREE, 0, 0)

    def file(self, tree: Tree, transaction: int = 7) -> bytes:
        """Return a whole file with this tree as of ``transaction``; the one before it was empty."""
        before, now = self._bucket({}), self._bucket(tree)
        for number, root in ((transaction - 1, before), (transaction, now)):
            self.meta(number, root)
        return bytes(self.pages)

    def meta(self, transaction: int, root: int) -> None:
        """Write the meta page of a transaction."""
        body = struct.pack("=IIIIQQQQQ", 0xED0CDAED, 2, self.page_size, 0, root, 0, 2, self._next, transaction)
        page = struct.pack("=QHHI", transaction % 2, _META, 0, 0) + body + struct.pack("=Q", fnv(body))
        at = transaction % 2 * self.page_size
        self.pages[at : at + len(page)] = page

    def commit(self, tree: Tree, transaction: int) -> bytes:
        """Add a later transaction behind all that is there."""
        self.meta(transaction, self._bucket(tree))
        return bytes(self.pages)

    @property
    def _next(self) -> int:
        return len(self.pages) // self.page_size

    def _page(self, body: bytes, kind: int, count: int) -> int:
        number, size = self._next, 16 + len(body)
        more = -(-size // self.page_size) - 1
        page = struct.pack("=QHHI", number, kind, count, more) + body
        self.pages += page.ljust((more + 1) * self.page_size, b"\0")
        return number

    def _bucket(self, tree: Tree) -> int:
        """Write a bucket's pages; return the first one's number."""
        elements = []
        for key, value in sorted(tree.items()):
            if isinstance(value, bytes):
                elements.append((0, key, value))
                continue
            flat = [(0, k, v) for k, v in sorted(value.items()) if isinstance(v, bytes)]
            body = leaf(flat)
            if len(flat) == len(value) and len(body) <= self.inline:
                header = struct.pack("=QHHI", 0, _LEAF, len(flat), 0)
                elements.append((1, key, struct.pack("=QQ", 0, 0) + header + body))
            else:
                elements.append((1, key, struct.pack("=QQ", self._bucket(value), 0)))
        parts = [elements[i : i + self.fanout] for i in range(0, len(elements), self.fanout)] or [[]]
        level = [(part[0][1] if part else b"", self._page(leaf(part), _LEAF, len(part))) for part in parts]
        while len(level) > 1:
            groups = [level[i : i + self.fanout] for i in range(0, len(level), self.fanout)]
            level = [(group[0][0], self._page(branch(group), _BRANCH, len(group))) for group in groups]
        return level[0][1]


def leaf(elements: list[tuple[int, bytes, bytes]]) -> bytes:
    heads, data = b"", b""
    for i, (flags, key, value) in enumerate(elements):
        place = 16 * (len(elements) - i) + len(data)
        heads += struct.pack("=IIII", flags, place, len(key), len(value))
        data += key + value
    return heads + data


def branch(elements: list[tuple[bytes, int]]) -> bytes:
    heads, data = b"", b""
    for i, (key, number) in enumerate(elements):
        heads += struct.pack("=IIQ", 16 * (len(elements) - i) + len(data), len(key), number)
        data += key
    return heads + data
