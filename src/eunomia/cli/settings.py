# SPDX-License-Identifier: BSD-2-Clause
"""``--set`` and ``--map-size``: assigns each value to the objects that it is for."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.cli.errors import UsageError, say
from eunomia.cli.words import number, pairs, shown
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eunomia.source import Source


def by_source(sources: Sequence[Source], given: Sequence[str]) -> dict[str, dict[str, object]]:
    """Assign settings: ``NAME=VALUE`` to each source that has it, ``SOURCE.NAME=VALUE`` to that one.

    A first word that is a source's name means that source, if it has a setting of the rest.
    """
    from eunomia.kernel import entries

    result: dict[str, dict[str, object]] = {s.name: {} for s in sources}
    for word in given:
        parts = entries.split(word)
        if parts is None:
            raise UsageError(f"--set: {shown(word)} is not of the form NAME=VALUE")
        path, value = parts
        for source, rest in _holders(sources, path, value):
            result[source.name].pop(rest, None)  # a repeated setting comes last
            result[source.name][rest] = value
    return result


def _holders(sources: Sequence[Source], path: str, value: str) -> list[tuple[Source, str]]:
    """Return the sources that have a setting, with its path there."""
    named = [(s, path[len(s.name) + 1 :]) for s in sources if path.startswith(f"{s.name}.")]
    holders = [(s, rest) for s, rest in named if _has(s, rest, value)]
    holders = holders or [(s, path) for s in sources if _has(s, path, value)]
    if holders:
        return holders
    known = [what for s in (s for s, _ in named or [(s, "") for s in sources]) for what in _known(s)]
    there = f"there are {', '.join(dict.fromkeys(known))}" if known else "there are none"
    raise UsageError(f"--set: no setting {shown(path)}: {there}")


def _has(source: Source, path: str, value: str) -> bool:
    """Return whether a source has a variable or map of that name; it reports errors in the rest itself."""
    from eunomia.kernel import entries, settings

    setting = settings.locate(source.spec.settings, path)
    if setting is not None:
        return not setting.reserved
    return "[" in path and entries.table_of(source.spec.tables, path) is not None


def _known(source: Source) -> list[str]:
    from eunomia.kernel.settings import listed

    found = [f"{s.name} ({s.ctype})" for s in listed(source.spec.settings, {})]
    return found + [f"{name}[KEY] ({table.types})" for name, table in source.spec.tables.items()]


def map_sizes(sources: Sequence[Source], given: Sequence[str]) -> dict[str, dict[str, int]]:
    """Assign the sizes of maps like settings; raises :class:`UsageError`."""
    result: dict[str, dict[str, int]] = {s.name: {} for s in sources}
    for path, word in pairs(given, "--map-size", "MAP=ENTRIES").items():
        entries = number(word, "--map-size", 1)
        owner, _, name = path.rpartition(".")
        holders = [s for s in sources if owner in {"", s.name} and name in s.spec.maps]
        if not holders:
            known = [m.name for s in sources for m in s.spec.maps.values() if not m.internal]
            raise UsageError(f"--map-size: there is no map {shown(path)}: there are {', '.join(known) or 'none'}")
        for source in holders:
            result[source.name][name] = entries
    return result


def say_sizes(source: Source, given: Sequence[str] = ()) -> None:
    """Report the maps that have no size in their object."""
    left = [f"{m.name} ({m.chosen})" for m in source.spec.maps.values() if m.chosen and m.name not in given]
    if left:
        say(f"{source.name}: maps without a size get one: {', '.join(left)}; --map-size MAP=ENTRIES")
