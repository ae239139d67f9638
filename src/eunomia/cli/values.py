# SPDX-License-Identifier: BSD-2-Clause
"""The options that say how values of objects are shown, shared by ``run`` and ``info``."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.cli.errors import UsageError
from eunomia.cli.words import pairs, words
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from eunomia.source import Source

_FORM = "MAP.COLUMN=sum|max|min|one"
_SCALE = "STREAM.COLUMN=log2|linear"


def add(group: Any) -> None:
    """Declare the options."""
    group.add_argument(
        "--per-cpu", action="append", default=[], metavar="MAP,...", help="a row for each CPU of these per-CPU maps"
    )
    group.add_argument(
        "--cpus", action="append", default=[], metavar="MAP.COLUMN=RULE",
        help="how the CPUs' values of a column are merged: sum, max, min, or one CPU's",
    )  # fmt: skip
    group.add_argument(
        "--histogram", action="append", default=[], metavar="STREAM.COLUMN=SCALE",
        help="draw an array as a histogram: log2, or linear by index",
    )  # fmt: skip


def choose(args: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Apply the options to the objects. Raises :class:`UsageError`."""
    _choose_cpus(args, sources)
    scales = pairs(args.histogram, "--histogram", _SCALE)
    left = set(scales)
    for source in sources:
        mine = {n: scale for n, scale in scales.items() if any(n.startswith(f"{s}.") for s in source.spec.streams)}
        if source.found is None:
            source.spec.choose_scales(mine)
            left -= set(mine)
    if left:
        known = ", ".join(n for source in sources for n in source.spec.streams) or "none"
        raise UsageError(f"--histogram: there is no stream for {min(left)!r}, as in {_SCALE}: there are {known}")


def _choose_cpus(args: argparse.Namespace, sources: Sequence[Source]) -> None:
    rows, chosen = words(args.per_cpu), pairs(args.cpus, "--cpus", _FORM)
    for name in chosen:
        if "." not in name:
            raise UsageError(f"--cpus: {name!r} is not of the form {_FORM}")
    used: set[str] = set()
    for source in sources:
        maps = {s.map.name for s in source.spec.streams.values() if s.cpus is not None}
        mine = {n: rule for n, rule in chosen.items() if any(n.startswith(f"{m}.") for m in maps)}
        split = [n for n in rows if n in maps]
        both = [n for n in split if any(c.startswith(f"{n}.") for c in mine)]
        if both:
            raise UsageError(f"--per-cpu {both[0]}: each CPU has its own row, so --cpus does not apply")
        if source.found is None:
            source.spec.choose_cpus(mine, split)
            used |= {*mine, *split}
    for option, names in (("--per-cpu", rows), ("--cpus", chosen)):
        for name in names:
            if name not in used:
                known = sorted(
                    {s.map.name for o in sources for s in o.spec.streams.values() if s.cpus is not None or s.cpu_rows}
                )
                raise UsageError(
                    f"{option}: no per-CPU map is shown for {name!r}: there are {', '.join(known) or 'none'}"
                )
