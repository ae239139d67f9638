# SPDX-License-Identifier: BSD-2-Clause
"""Break an input in the ways that find faults: numbers at their limits, pieces lost, doubled, moved, nested."""

from __future__ import annotations

from random import Random

LIMITS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)
WORDS = (
    b"\0", b"\xff\xfe", b"{", b"[" * 5000, b'{"a":' * 3000, b"null", b"-1", b"1e999", b"9" * 5000, b"\x1b[2J", b"\n", b"\\",
    b"[", b"]", b"=", b",", b".", b'"', b"/", b"../..", b"true", b"10.0.0.0/8", "\u202e\udcff".encode("utf-8", "surrogatepass"),
)  # fmt: skip
LARGEST = 1 << 20


def mutated(data: bytes, random: Random) -> bytes:
    """Return the input with a few things wrong."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(out) + 1)
        kind = random.randrange(7)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << random.randrange(8)
        elif kind in {1, 2}:
            width = random.choice((1, 2, 4, 8))
            number = random.choice(LIMITS) & (1 << 8 * width) - 1
            at -= at % width if kind == 1 else 0
            out[at : at + width] = number.to_bytes(width, "little")
        elif kind == 3:
            del out[at : at + random.randrange(1, 64)]
        elif kind == 4:
            out[at:at] = random.choice(WORDS)
        elif kind == 5:
            begin = random.randrange(len(out) + 1)
            out[at:at] = out[begin : begin + random.randrange(1, 256)]
        else:
            del out[at if random.randrange(4) else len(out) :]
    return bytes(out[:LARGEST])
