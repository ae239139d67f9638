# SPDX-License-Identifier: BSD-2-Clause
"""Events that a perf_event program can sample, by perf(1)'s names."""

from __future__ import annotations

from eunomia.typing import NamedTuple

_SOFTWARE = {
    "cpu-clock": 0, "task-clock": 1, "page-faults": 2, "faults": 2, "context-switches": 3, "cs": 3,
    "cpu-migrations": 4, "migrations": 4, "minor-faults": 5, "major-faults": 6, "alignment-faults": 7,
    "emulation-faults": 8, "cgroup-switches": 11,
}  # fmt: skip
_HARDWARE = {
    "cycles": 0, "cpu-cycles": 0, "instructions": 1, "cache-references": 2, "cache-misses": 3, "branches": 4,
    "branch-instructions": 4, "branch-misses": 5, "bus-cycles": 6, "stalled-cycles-frontend": 7,
    "stalled-cycles-backend": 8, "ref-cycles": 9,
}  # fmt: skip
_CACHES = {"l1-dcache": 0, "l1-icache": 1, "llc": 2, "dtlb": 3, "itlb": 4, "branch": 5, "node": 6}
_OPERATIONS = {"load": 0, "store": 1, "prefetch": 2}
_TYPES = {"hardware": 0, "software": 1, "cache": 3, "raw": 4}  # enum perf_type_id, include/uapi/linux/perf_event.h
_CLOCKS = frozenset({"cpu-clock", "task-clock"})

SAMPLES = 49  # a second: a prime number, so that it does not coincide with timers
SYNTAX = "cpu-clock:49hz, page-faults:1, hardware:cache-misses:100000, cache:LLC-load-misses or raw:0x1c2:1000"


class PerfEvent(NamedTuple):
    """What to sample: at each ``rate``-th event, or ``rate`` times a second if ``frequent``."""

    name: str
    type: int
    config: int
    rate: int
    frequent: bool

    def __str__(self) -> str:
        return f"{self.name}, {self.rate} times a second" if self.frequent else f"{self.name}, every {self.rate}"


CLOCK = PerfEvent("cpu-clock", _TYPES["software"], 0, SAMPLES, True)


def parse(word: str) -> PerfEvent:
    """Return the event that ``[KIND:]NAME[:RATE]`` or a number of samples per second names.

    A rate is ``49hz``, or a number of events. Raises :class:`ValueError`.
    """
    kind, name, rate = _split(word)
    if name.isascii() and name.isdecimal() and not kind and not rate:
        kind, name, rate = "software", "cpu-clock", f"{name}hz"
    type_, config = _find(kind, name.lower() if kind != "raw" else name)
    if not rate:
        clock = name in _CLOCKS
        number, frequent = (SAMPLES, True) if clock else (1 if type_ == _TYPES["software"] else 100_000, False)
    else:
        import re

        match = re.fullmatch(r"([0-9]{1,18})(hz)?", rate.lower())
        number, frequent = (int(match[1]), bool(match[2])) if match else (0, False)
        if not number or (frequent and number > 100_000):
            raise ValueError(f"{shown(rate)} is not a rate: write 49hz (at most 100000hz), or a number of events")
    return PerfEvent(f"{kind}:{name}" if kind == "raw" else name, type_, config, number, frequent)


def _split(word: str) -> tuple[str, str, str]:
    parts = word.split(":")
    kind = parts.pop(0) if len(parts) > 1 and parts[0] in _TYPES else ""
    if not 1 <= len(parts) <= 2 or not parts[0]:
        raise ValueError(f"{shown(word)} is not a perf event: write one as {SYNTAX}")
    return kind, parts[0], parts[1] if len(parts) > 1 else ""


def _find(kind: str, name: str) -> tuple[int, int]:
    if kind == "raw":
        try:
            config = int(name, 0) if name.isascii() and len(name) < 40 else -1
        except ValueError:
            config = -1
        if not 0 <= config < 1 << 64:
            raise ValueError(f"{shown(name)} is not a raw event's number, such as 0x1c2")
        return _TYPES["raw"], config
    for family, names in (("software", _SOFTWARE), ("hardware", _HARDWARE)):
        if kind in {"", family} and name in names:
            return _TYPES[family], names[name]
    import re

    match = re.fullmatch(r"(.+?)-(load|store|prefetch)(?:e?s|(?:e?s)?-(misses))", name)
    if kind in {"", "cache"} and match and match[1] in _CACHES:
        return _TYPES["cache"], _CACHES[match[1]] | _OPERATIONS[match[2]] << 8 | bool(match[3]) << 16
    from difflib import get_close_matches

    close = get_close_matches(name[:40], [*_SOFTWARE, *_HARDWARE], 1)
    hint = f"did you mean {close[0]}?" if close else f"write one as {SYNTAX}"
    raise ValueError(f"there is no perf event {shown(name)}: {hint}")


def shown(word: str) -> str:
    """Return a word in quotes for an error, shortened if it is long."""
    return f"'{word}'" if len(word) <= 40 else f"'{word[:40]}...'"
