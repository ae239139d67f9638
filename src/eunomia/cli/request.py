# SPDX-License-Identifier: BSD-2-Clause
"""From options to requests to a server: which of the trackers named each option is for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import filter as matching
from typing import NamedTuple

from eunomia.cli import options
from eunomia.cli.errors import UsageError
from eunomia.cli.words import byte_size, lists, number, pairs, shown, words
from eunomia.cli.words import events as read_events
from eunomia.server.models import Filters, OutputRequest, TrackerRequest, Value
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

_ON_SERVER = ("json", "csv")


class Wanted(NamedTuple):
    """A tracker to start, and what is known of it: a kind of the server's, or an object that was uploaded."""

    name: str
    kind: str = ""
    object: str = ""
    streams: Sequence[str] = ()
    settings: Sequence[str] = ()
    maps: Sequence[str] = ()
    programs: Sequence[str] = ()


class Common(NamedTuple):
    """What is asked of all trackers of a command line."""

    filters: Filters
    outputs: list[OutputRequest]
    add: list[str]
    duration: float
    coalesce: float
    ring_size: int
    events: dict[str, str]


def common(args: argparse.Namespace, is_here: bool) -> Common:
    """Read the options that are the same for all trackers; raises :class:`UsageError`."""
    wanted = options.filters(args)
    chosen = wanted.selectors
    filters = Filters(
        list(wanted.pids), list(wanted.comms), list(wanted.uids), list(chosen.containers), list(chosen.images),
        list(chosen.pods), list(chosen.namespaces), list(chosen.labels), list(chosen.runtimes), wanted.host_only,
        wanted.containers_only, wanted.traces_itself,
    )  # fmt: skip
    return Common(
        filters,
        outputs(args, is_here),
        words(args.add),
        options.duration(args) or 0,
        options.window(args) / 1e9,
        options.ring_size(args) or 0,
        read_events(args.event),
    )


def outputs(args: argparse.Namespace, is_here: bool) -> list[OutputRequest]:
    """Return the files that the server writes rows to; raises :class:`UsageError`."""
    found: list[OutputRequest] = []
    for word in args.outputs:
        kind, _, file = word.partition(":")
        if kind not in _ON_SERVER:
            raise UsageError(f"-o: the server writes {' or '.join(_ON_SERVER)}, not {shown(kind)}")
        if not file or file == "-":
            raise UsageError(f"-o {shown(word)}: name a file of the server's, as in -o {kind}:/var/log/rows.{kind}")
        if not os.path.isabs(file):
            if not is_here:
                raise UsageError(f"-o {shown(word)}: name the whole path of the file on the server")
            file = os.path.abspath(file)
        if any(one.file == file for one in found):
            raise UsageError(f"-o: two outputs to {file}")
        rotate = byte_size(args.rotate, "--rotate") if args.rotate else 0
        found.append(OutputRequest(file, kind, words([args.columns or ""]), rotate))
    for option, given in (("--rotate", args.rotate), ("--columns", args.columns)):
        if given and not found:
            raise UsageError(f"{option}: it is for files: name one, as in -o json:/var/log/rows.json")
    return found


def requests(args: argparse.Namespace, wanted: Sequence[Wanted], shared: Common) -> list[TrackerRequest]:
    """Return what to ask for each tracker; raises :class:`UsageError`."""
    given = settings(wanted, args.set)
    sizes = _map_sizes(wanted, args.map_size)
    only, skip = _programs(wanted, args.program, "--program"), _programs(wanted, args.skip_program, "--skip-program")
    targets = _targets(wanted, args.attach)
    streams = _streams(wanted, options.streams(args))
    return [
        TrackerRequest(
            kind=one.kind, object=one.object, id=args.id or ("" if one.kind else one.name), settings=given[at],
            filters=shared.filters, streams=streams[at], outputs=shared.outputs, add=shared.add,
            duration=shared.duration, coalesce=shared.coalesce, programs=only[at], skip_programs=skip[at],
            attach=targets[at], map_sizes=sizes[at], events=shared.events if one.object else {},
            ring_size=shared.ring_size,
        )
        for at, one in enumerate(wanted)
    ]  # fmt: skip


def settings(wanted: Sequence[Wanted], given: Sequence[str]) -> list[dict[str, Value]]:
    """Assign ``NAME=VALUE`` to each tracker that has it, ``TRACKER.NAME=VALUE`` to that one."""
    from eunomia.kernel import entries

    result: list[dict[str, Value]] = [{} for _ in wanted]
    for word in given:
        parts = entries.split(word)
        if parts is None:
            raise UsageError(f"--set: {shown(word)} is not of the form NAME=VALUE")
        path, value = parts
        holders = _holders(wanted, path)
        if not holders:
            known = ", ".join(dict.fromkeys(name for one in wanted for name in one.settings)) or "none"
            raise UsageError(f"--set: no setting {shown(path)}: there are {known}")
        for at, rest in holders:
            result[at].pop(rest, None)  # a repeated setting comes last
            result[at][rest] = value
    return result


def _holders(wanted: Sequence[Wanted], path: str) -> list[tuple[int, str]]:
    """Return which trackers have a setting, with its path there."""
    roots = [{_root(name) for name in one.settings} for one in wanted]
    named = [(at, path[len(one.name) + 1 :]) for at, one in enumerate(wanted) if path.startswith(f"{one.name}.")]
    found = [(at, rest) for at, rest in named if _root(rest) in roots[at]]
    return found or [(at, path) for at in range(len(wanted)) if _root(path) in roots[at]]


def _root(path: str) -> str:
    return path.partition("[")[0].partition(".")[0]


def _map_sizes(wanted: Sequence[Wanted], given: Sequence[str]) -> list[dict[str, int]]:
    result: list[dict[str, int]] = [{} for _ in wanted]
    for path, word in pairs(given, "--map-size", "MAP=ENTRIES").items():
        entries = number(word, "--map-size", 1)
        owner, _, name = path.rpartition(".")
        holders = [at for at, one in enumerate(wanted) if owner in {"", one.name} and name in one.maps]
        if not holders:
            known = ", ".join(name for one in wanted for name in one.maps) or "none"
            raise UsageError(f"--map-size: there is no map {shown(path)}: there are {known}")
        for at in holders:
            result[at][name] = entries
    return result


def _programs(wanted: Sequence[Wanted], given: Sequence[str], option: str) -> list[list[str]]:
    patterns = words(given)
    every = [name for one in wanted for name in one.programs]
    if patterns and not any(one.object for one in wanted):
        raise UsageError(f"{option}: it is for objects; trackers choose their programs")
    for pattern in patterns:
        if not matching(every, pattern):
            raise UsageError(f"{option}: there is no program {pattern!r}: there are {', '.join(every) or 'none'}")
    return [[p for p in patterns if matching(one.programs, p)] for one in wanted]


def _targets(wanted: Sequence[Wanted], given: Sequence[str]) -> list[dict[str, list[str]]]:
    targets = lists(given, "--attach", "PROGRAM=TARGET")
    every = [name for one in wanted for name in one.programs]
    for name in targets:
        if name not in every:
            there = ", ".join(every) or "none that may be chosen: trackers choose their targets"
            raise UsageError(f"--attach: there is no program {name!r}: there are {there}")
    return [{name: found for name, found in targets.items() if name in one.programs} for one in wanted]


def _streams(wanted: Sequence[Wanted], names: Sequence[str]) -> list[list[str]]:
    have = [name for one in wanted for name in one.streams]
    for name in names:
        if name not in have:
            raise UsageError(f"there is no stream '{name}': there are {', '.join(sorted(have)) or 'none'}")
    chosen = [[name for name in names if name in one.streams] for one in wanted]
    for one, some in zip(wanted, chosen, strict=True):
        if names and not some:
            raise UsageError(f"--streams: {one.name} has none of these: it has {', '.join(one.streams) or 'none'}")
    return chosen
