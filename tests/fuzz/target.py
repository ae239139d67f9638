# SPDX-License-Identifier: BSD-2-Clause
"""What a target of the fuzzers is, and where targets put the files that are read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

FOLDER = Path(tempfile.mkdtemp(prefix="eunomia-fuzz-"))
ID = "ab" * 32


class Target(NamedTuple):
    """``heavy`` is by how much fewer inputs it takes than others do, for each takes longer."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    declared: tuple[type[Exception], ...] = ()
    heavy: int = 1
    mend: Callable[[bytes, Random], bytes] | None = None


def put(path: str, data: bytes) -> str:
    """Write a file below the folder, and return its path."""
    file = FOLDER / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return str(file)
