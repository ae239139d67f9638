# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia containers``: lists running containers, and follows what happens to them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from eunomia.cli import cluster, selectors, stopping
from eunomia.cli.errors import UsageError, need_proc, say, say_fault, say_without_cgroups
from eunomia.cli.words import number, seconds, words
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers
    from eunomia.containers.registry import Registry
    from eunomia.identity import Identity
    from eunomia.sinks import StreamInfo

EXAMPLES = """\
examples:
  eunomia containers                             the containers that run now, of all runtimes
  sudo eunomia containers --watch                ... and what happens to them from then on
  eunomia containers -o json                     all that is known of each, one JSON object a line
  eunomia containers --image 'nginx*' --label tier=front
  eunomia containers -o csv --columns container.name,container.mounts
"""

_HEADINGS = ("NAME", "ID", "IMAGE", "RUNTIME", "STATE", "POD", "AGE", "PID", "RESTARTS")
_ALL = ("container.*", "pod.*", "identity")
_FLEXIBLE = tuple(_HEADINGS.index(name) for name in ("NAME", "IMAGE", "POD"))  # shortened to fit into a line
_NARROWEST = 8
_API_WITHIN = 3.0  # seconds for which a list waits for the Kubernetes API
_SHORT = 12  # digits of an id in tables


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "containers",
        help="list the containers that run now, and follow what happens to them",
        description="List the containers that run now, of all runtimes; with --watch, what happens to them afterwards.",
        epilog=EXAMPLES,
    )
    parser.add_argument("-o", dest="format", choices=("table", "json", "csv"), default="table", help="format (table)")
    parser.add_argument("--columns", metavar="A,B,...", help="show these columns, in this order")
    parser.add_argument("--watch", action="store_true", help="go on with what happens, until Ctrl-C (root)")
    parser.add_argument("--duration", metavar="TIME", help="end --watch after this time, as in 30s, 5m, 1h")
    parser.add_argument("--count", metavar="N", help="end --watch after N events")
    selectors.add(parser, host=False)
    cluster.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the containers; return 0."""
    from eunomia.cli.options import check_given

    check_given(args)
    if (args.duration or args.count) and not args.watch:
        raise UsageError(f"--{'duration' if args.duration else 'count'} goes with --watch")
    columns = words([args.columns]) if args.columns else None
    need_proc()
    say_without_cgroups()
    if args.watch:
        return _watch(args, columns)
    from eunomia.containers.registry import Registry
    from eunomia.faults import Faults

    registry = Registry(faults=Faults(say_fault))
    api = cluster.watcher(args)
    if api is not None:
        registry.enrich(api)
        api.start()
    registry.start()
    if api is not None:
        api.settle(_API_WITHIN)
        registry.refresh(api.news())
        api.close()
    found = _chosen(registry, args)
    _show(found, args.format, columns)
    _say_unnamed(found)
    return 0


def _chosen(registry: Registry, args: argparse.Namespace) -> list[Identity]:
    from eunomia.containers.running import running
    from eunomia.containers.selection import CHOSEN, CONTAINERS, Selection

    wanted = selectors.given(args)
    selection = Selection(wanted, CHOSEN) if any(wanted) else Selection((), CONTAINERS)
    registry.subscribe(selection)()
    return [identity for identity in running(registry) if selection.passes(identity)]


def _watch(args: argparse.Namespace, columns: Sequence[str] | None) -> int:
    from eunomia.cli.run import check_output, open_writer, say_ledger
    from eunomia.columns.joined import OWNER, is_of
    from eunomia.engine import Engine
    from eunomia.engine.output import Output
    from eunomia.faults import Faults
    from eunomia.filters import Filters
    from eunomia.sinks import Sink, open_sink
    from eunomia.source import open_source

    if args.format == "csv":
        raise UsageError("-o csv has one kind of rows: for events alone, eunomia run container -o csv")
    check_output()
    duration = seconds(args.duration, "--duration") if args.duration else None
    limit = number(args.count, "--count", 1) if args.count else None
    filters = Filters(selectors=selectors.given(args))
    api = cluster.watcher(args)
    engine = Engine(api, Faults(say_fault))

    def open_(streams: Sequence[StreamInfo]) -> Sink:
        """List the running containers, and then open the sink of events."""
        _check(columns, streams)
        registry = engine.registry
        assert registry is not None
        if api is not None:
            api.settle(_API_WITHIN)
            registry.refresh(api.news())
        listed = None if columns is None else [c for c in columns if is_of(OWNER, c)]
        if listed != []:
            _show(_chosen(registry, args), args.format, listed)
        return open_sink(args.format, open_writer(), streams, columns)

    with engine:
        stopping.by_signals(engine)
        engine.add(open_source("container"))
        engine.connect(Output(args.format, open_, filters, limit=limit))
        engine.start()
        engine.run(duration)
        say_ledger(engine, args.format)
    return 0


# What is shown


def _show(found: Sequence[Identity], kind: str, columns: Sequence[str] | None) -> None:
    if kind == "table" and columns is None:
        from eunomia.cli.page import GREEN, YELLOW, Page

        page = Page()
        rows = _fitted([_HEADINGS, *map(_row, found)], page.width)[1:]
        page.table(_HEADINGS, rows, styles={"running": GREEN, "paused": YELLOW})
        sys.stdout.flush()
        return
    from eunomia.batch import Batch
    from eunomia.python_schema import declare
    from eunomia.sinks import StreamInfo, open_sink

    schema = declare("running", "a container that runs", [])  # with the columns that all rows have
    info = StreamInfo("containers", "running", schema)
    _check(columns, [info])
    from eunomia.cli.run import open_writer

    sink = open_sink(kind, open_writer(), [info], columns or _ALL)
    batch = Batch.made(schema, [{}] * len(found), found)
    batch.tracker, batch.stream = "containers", "running"
    batch.taken = time.time_ns()
    sink.write([batch] if found else [])
    sink.close()


def _row(identity: Identity) -> tuple[str, ...]:
    from eunomia.meaning import duration

    container, pod = identity.container, identity.pod
    assert container is not None
    age = duration(max(0, time.time_ns() - container.started)) if container.started else ""
    return (
        container.name or f"({identity.state})",
        container.id[:_SHORT],
        container.image or "-",
        container.runtime or "-",
        container.state,
        "/".join(filter(None, (pod.namespace, pod.name))) if pod is not None else "-",
        age or "-",
        str(container.pid or "-"),
        "-" if container.restarts is None else str(container.restarts),
    )


def _fitted(rows: Sequence[Sequence[str]], width: int | None) -> Sequence[Sequence[str]]:
    """Return rows with texts cut to fit into a line; the headings come first and are not cut."""
    if width is None:
        return rows
    from eunomia.sinks.escape import escape
    from eunomia.sinks.layout import cut_to, measure

    table = [[escape(cell) for cell in row] for row in rows]
    sizes = [max(map(measure, column)) for column in zip(*table, strict=True)]
    over = sum(sizes) + 2 * (len(sizes) - 1) - width
    while over > 0:
        widest = max(_FLEXIBLE, key=lambda i: sizes[i])
        if sizes[widest] <= _NARROWEST:
            break
        sizes[widest] -= 1
        over -= 1
    return [[cut_to(cell, size) for cell, size in zip(row, sizes, strict=True)] for row in table]


def _check(columns: Sequence[str] | None, infos: Sequence[StreamInfo]) -> None:
    from eunomia.sinks.columns import checked

    try:
        checked(columns or _ALL, infos)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _say_unnamed(found: Sequence[Identity]) -> None:
    import os

    unnamed = sum(1 for i in found if i.container is not None and not i.container.name)
    if unnamed and os.geteuid():
        it = "its runtime's files" if unnamed == 1 else "their runtimes' files"
        say(f"{unnamed} of {len(found)} containers without a name: root may read {it}: sudo eunomia containers")
