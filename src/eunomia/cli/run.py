# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia run``: runs trackers and objects and shows their rows, until it is stopped."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial

from eunomia.cli import cluster, options, ready, registries, settings, stopping, values
from eunomia.cli.errors import UsageError, need_proc, say, say_fault, say_without_cgroups
from eunomia.cli.words import byte_size, lists, number, seconds, shown, words
from eunomia.cli.words import events as read_events
from eunomia.typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.watch import Watch
    from eunomia.engine import Engine
    from eunomia.engine.output import Output
    from eunomia.filters import Filters
    from eunomia.kernel.foreign.choice import Wish
    from eunomia.sinks import Sink, StreamInfo
    from eunomia.sinks.writer import Writer
    from eunomia.source import Options, Source

_PRIORITY = -5  # nice
_LONGEST_TRIAL = 60  # seconds

EXAMPLES = """\
examples:
  eunomia run process                           programs that start and end, on the host and in containers
  eunomia run process opensnoop -o json         two trackers, one JSON object per line
  eunomia run opensnoop --container 'web*'      containers by name, also ones that start later
  eunomia run process --namespace shop --label tier=front
  eunomia run syscall --interval 5 --uid 1000   counted in the kernel, shown every 5 seconds
  eunomia run opensnoop --add process.argv,process.ancestors
  eunomia run ./my.bpf.o --set min_us=100       any libbpf object, with a setting
  eunomia run ./my.bpf.o --watch                the same, reloaded when the file changes
  eunomia run oci://registry.example.com/trackers/mine:1.0
  eunomia run process -o csv:p.csv --rotate 100MB --duration 1h
  eunomia run process -o table -o json:events.jsonl -o csv:p.csv
"""


def add(subparsers: Any) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "run",
        help="run trackers and BPF objects, and show their rows",
        description="Run trackers, or objects built with libbpf, and show their rows until Ctrl-C.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "what", nargs="+", metavar="TRACKER|OBJECT",
        help="a tracker's name, an object's path, or oci://REGISTRY/NAME[:TAG][@sha256:...]",
    )  # fmt: skip
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o", dest="outputs", action="append", default=[], metavar="FORMAT[:FILE]",
        help="table (the default), json or csv, to standard output or to a file; may be repeated",
    )  # fmt: skip
    out.add_argument("--columns", metavar="A,B,...", help="show these columns, in this order")
    out.add_argument(
        "--add", action="append", default=[], metavar="A,B,...", help="show these columns in addition to the usual ones"
    )
    out.add_argument("--output", metavar="FILE", help="the file for -o, if it does not name one")
    out.add_argument("--rotate", metavar="SIZE", help="rotate files at this size, as in 100MB; five old ones are kept")
    end = options.add_end(parser)
    end.add_argument("--count", metavar="N", help="stop after N rows")
    end.add_argument("--interval", metavar="TIME", default="1s", help="how often tables are shown (1s)")
    options.add_filters(parser)
    cluster.add(parser)
    more = options.add_objects(parser)
    values.add(more)
    registries.add(parser)
    author = parser.add_argument_group("for authors of objects")
    author.add_argument(
        "--watch", action="store_true", help="reload an object when its file changes, without losing an event"
    )
    author.add_argument(
        "--trial", metavar="TIME",
        help="with --watch: go back to the old object if only that one shows rows, in this time before and after",
    )  # fmt: skip
    author.add_argument(
        "--fresh-maps", action="store_true", help="with --watch: maps whose types have changed start empty"
    )
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Run until stopped; return 0."""
    from eunomia.source import open_source

    options.check_given(args)
    wanted = _outputs(args)
    filters = options.filters(args)
    streams, ring_size, window = options.streams(args), options.ring_size(args), options.window(args)
    duration = options.duration(args)
    interval = seconds(args.interval, "--interval")
    if words([args.columns or ""]) and words(args.add):
        raise UsageError("--add: it adds columns to the usual ones, but --columns names all of them")
    events = read_events(args.event)
    if events and not any(map(options.is_object, args.what)):
        raise UsageError("--event: it is for objects; trackers declare their structs")
    pulled = registries.for_words(args, args.what)
    sources = _distinct([open_source(word, events if options.is_object(word) else None, pulled) for word in args.what])
    values.choose(args, sources)
    _check_streams(sources, streams)
    if window:
        _check_coalesce(sources, streams)
    need_proc()
    loads = _loads(sources, args, streams, ring_size, window)
    outputs = [_output(one, filters, args, len(wanted) > 1) for one in wanted]
    watch = _watch(args, sources, events, has_csv=any(one.format == "csv" for one in wanted))
    from eunomia.engine import Engine
    from eunomia.faults import Faults

    with watch or nullcontext(), Engine(cluster.watcher(args), Faults(say_fault), ring_size=ring_size) as engine:
        for source in sources:
            engine.add(source, loads[source.name])
        for output in outputs:
            engine.connect(output)
        # before anything is attached: a Ctrl-C then ends the run like a later one
        stopping.by_signals(engine)
        _come_first()
        engine.start(lambda: _say_start(engine, sources, loads))
        if watch is not None:
            watch.start(engine)
        ready.notify()
        gc.freeze()  # what there is now stays
        engine.run(duration, interval)
        say_ledger(engine, wanted[0].format)
    return 0


def _watch(
    args: argparse.Namespace, sources: list[Source], events: Mapping[str, str], *, has_csv: bool
) -> Watch | None:
    """Return what follows the files of the sources; raises :class:`UsageError`."""
    trial = seconds(args.trial, "--trial") if args.trial else 0.0
    if not args.watch:
        for option, given in (("--trial", args.trial), ("--fresh-maps", args.fresh_maps)):
            if given:
                raise UsageError(f"{option}: it is for objects that change while they run: add --watch")
        return None
    from eunomia.cli.watch import Watch, Watched
    from eunomia.source import is_in_registry, open_source

    if any(map(is_in_registry, args.what)):
        raise UsageError("--watch: it is for files: what a registry has is not watched")
    if trial > _LONGEST_TRIAL:
        raise UsageError(f"--trial: {shown(args.trial)} is more than {_LONGEST_TRIAL}s")
    now = list(sources)

    def reopen(at: int) -> Source:
        word = args.what[at]
        source = open_source(word, events if options.is_object(word) else None)
        source.name = now[at].name
        values.choose(args, [*now[:at], source, *now[at + 1 :]])
        return source

    return Watch(
        [
            Watched(source, args.what[at] if source.found is None else source.found.object, partial(reopen, at))
            for at, source in enumerate(sources)
        ],
        trial,
        args.fresh_maps,
        has_csv=has_csv,
    )


def _say_start(engine: Engine, sources: Sequence[Source], loads: Mapping[str, Options]) -> None:
    _say_hints(sources, {name: load.map_sizes for name, load in loads.items()})
    for note in engine.notes:
        say(note)
    say_without_cgroups()


def _come_first() -> None:
    """Raise the loop's priority above that of watched programs, unless it was started with its own.

    Otherwise rows are lost on an overloaded machine. auditd does the same (priority_boost).
    """
    with suppress(OSError):  # it takes CAP_SYS_NICE
        if os.getpriority(os.PRIO_PROCESS, 0) == 0:
            os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)


# Outputs


class _Wanted(NamedTuple):
    """An output that the user named; ``file`` is empty for standard output."""

    format: str
    file: str

    @property
    def name(self) -> str:
        return f"{self.format}:{self.file}" if self.file else self.format


def _outputs(args: argparse.Namespace) -> list[_Wanted]:
    """Return the outputs that the user named; raises :class:`UsageError` if two write to the same file."""
    from eunomia.sinks import FORMATS

    wanted = []
    for word in args.outputs or ["table"]:
        kind, colon, file = word.partition(":")
        if kind not in FORMATS:
            raise UsageError(f"-o: there is no format {shown(kind)}: there are {', '.join(FORMATS)}")
        if colon and not file:
            raise UsageError(f"-o {shown(word)}: name the file after the colon, as in -o {kind}:events.{kind}")
        wanted.append(_Wanted(kind, "" if file == "-" else file))
    if args.output not in {None, "-"}:
        bare = [i for i, one in enumerate(wanted) if not one.file]
        if len(bare) != 1:
            raise UsageError("--output: it is for a single -o without a file; otherwise write -o FORMAT:FILE")
        wanted[bare[0]] = wanted[bare[0]]._replace(file=args.output)
    places = [os.path.realpath(one.file) if one.file else "" for one in wanted]
    for i, place in enumerate(places):
        if place in places[:i]:
            where = f"to {wanted[i].file}" if place else "to standard output: name a file, as in -o json:events.jsonl"
            raise UsageError(f"-o: two outputs {where}")
    if "" in places:
        check_output()
    if args.rotate and not any(places):
        raise UsageError("--rotate: only a file can be rotated: name it, as in -o json:events.jsonl")
    return wanted


def _output(wanted: _Wanted, filters: Filters, args: argparse.Namespace, is_one_of_several: bool) -> Output:
    from eunomia.columns.joined import ACTOR, is_of
    from eunomia.engine.output import Output, Queue

    columns = words([args.columns]) if args.columns else None
    added = words(args.add)
    rotate = byte_size(args.rotate, "--rotate") if args.rotate and wanted.file else 0

    def open_(streams: Sequence[StreamInfo]) -> Sink:
        from eunomia.sinks import open_sink
        from eunomia.sinks.columns import checked

        try:
            if columns is not None or added:
                checked(columns or added, streams)  # before an existing file is emptied
            return open_sink(wanted.format, open_writer(wanted.file, rotate), streams, columns, added=added)
        except ValueError as error:
            raise UsageError(str(error)) from None

    try:
        return Output(
            wanted.name,
            open_,
            filters,
            limit=number(args.count, "--count", 1) if args.count else None,
            queue=Queue() if is_one_of_several and wanted.file else None,  # a disk may stall
            processes=any(is_of(ACTOR, name) for name in [*(columns or ()), *added]),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def open_writer(file: str = "", rotate: int = 0) -> Writer:
    """Return a writer to a file, or to standard output; raises :class:`UsageError` or :class:`OSError`."""
    from eunomia.sinks import writer

    try:
        return writer.open_writer(file or None, rotate)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise OSError(error.strerror) from None  # without the errno in front


# Sources


def _loads(
    sources: list[Source], args: argparse.Namespace, streams: tuple[str, ...], ring_size: int | None, window: int
) -> dict[str, Options]:
    from eunomia.source import Options

    given = settings.by_source(sources, args.set)
    sizes = settings.map_sizes(sources, args.map_size)
    wishes = _wishes(sources, args)
    return {
        s.name: Options(given.get(s.name, {}), sizes.get(s.name, {}), wishes.get(s.name), streams, ring_size, window)
        for s in sources
    }


def check_output() -> None:
    """Refuse a closed standard output, which is now /dev/null for reading: every row would be lost."""
    import fcntl
    import os

    if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError("standard output is closed: redirect it, or name a file with --output")


def _distinct(sources: list[Source]) -> list[Source]:
    """Give sources of the same name, such as objects in two directories, different names."""
    seen: dict[str, int] = {}
    for source in sources:
        seen[source.name] = seen.get(source.name, 0) + 1
        if seen[source.name] > 1:
            if source.found is not None:
                raise UsageError(f"tracker {source.name} is named twice")
            source.name = f"{source.name}-{seen[source.name]}"
    return sources


def _check_streams(sources: Sequence[Source], streams: Sequence[str]) -> None:
    have = {name for source in sources for name in source.spec.streams}
    for name in streams:
        if name not in have:
            raise UsageError(f"there is no stream '{name}': there are {', '.join(sorted(have)) or 'none'}")


def _check_coalesce(sources: Sequence[Source], streams: Sequence[str]) -> None:
    """Refuse to count equal events where no stream that is shown says what equal means."""
    shown_ = [(s.name, stream) for s in sources for stream in s.spec.streams.values()]
    shown_ = [(name, stream) for name, stream in shown_ if not streams or stream.name in streams]
    if not any(stream.coalescing for _, stream in shown_):
        names = ", ".join(f"{name}/{stream.name}" for name, stream in shown_) or "nothing"
        raise UsageError(
            f"--coalesce: none of these streams says which of its events are equal: {names}; opensnoop's does, and "
            "`eunomia info` says it of each"
        )


def _say_hints(sources: Sequence[Source], sized: Mapping[str, Mapping[str, int]]) -> None:
    for source in sources:
        if source.origin:
            say(f"{source.name}: {source.origin}")
        for sentence in source.left_out:
            say(f"{source.name}: {sentence}")
        if not source.spec.streams:
            sys.stderr.write(
                f"eunomia: {source.name} has no ring buffer, perf buffer or table to show, and prints nothing: "
                "it runs without rows\n"
            )
        settings.say_sizes(source, [*sized[source.name]])
        for stream in source.spec.streams.values():
            if stream.hint:
                say(f"{source.name}/{stream.name}: {stream.hint}")


def _wishes(sources: Sequence[Source], args: argparse.Namespace) -> dict[str, Wish]:
    """Return the user's choice of programs and targets for each source; empty if there is none."""
    if not (args.attach or args.program or args.skip_program):
        return {}
    from fnmatch import filter as matching

    from eunomia.kernel.foreign.choice import Wish

    targets = lists(args.attach, "--attach", "PROGRAM=TARGET")
    only, skip = words(args.program), words(args.skip_program)
    objects = [s for s in sources if s.found is None]
    known = {s.name: [p.name for p in s.spec.programs] for s in sources}
    every = [name for s in objects for name in known[s.name]]
    for option, patterns in (("--program", only), ("--skip-program", skip)):
        if patterns and not objects:
            raise UsageError(f"{option}: it is for objects; trackers choose their programs")
        for pattern in patterns:
            if not matching(every, pattern):
                raise UsageError(f"{option}: there is no program {pattern!r}: there are {', '.join(every)}")
    for name in targets:
        holders = [s for s in sources if name in known[s.name]]
        if not holders:
            names = [n for s in sources for n in known[s.name]]
            raise UsageError(f"--attach: there is no program {name!r}: there are {', '.join(names)}")
        if any(s.found is not None for s in holders):
            raise UsageError(f"--attach: {name} belongs to a tracker, which chooses its targets")
    return {
        s.name: Wish(
            [p for p in only if matching(known[s.name], p)] if s in objects else (),
            [p for p in skip if matching(known[s.name], p)] if s in objects else (),
            {n: t for n, t in targets.items() if n in known[s.name]},
        )
        for s in sources
    }


def say_ledger(engine: Engine, kind: str) -> None:
    """Write the ledger and the remarks on the run to stderr."""
    from eunomia.ledger import combined

    for entry in [*combined(engine.ledger(), engine.accounts()), *engine.remarks()]:
        sys.stderr.write((entry.json() if kind == "json" else f"eunomia: {entry.line()}") + "\n")
