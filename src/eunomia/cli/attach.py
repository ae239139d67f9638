# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia attach``: shows the rows of a tracker that a server runs, as ``eunomia run`` shows those of its own."""

from __future__ import annotations

from collections.abc import Mapping

from eunomia.cli import host, options, stopping
from eunomia.cli.errors import UsageError, say
from eunomia.cli.words import number, words
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.attached import Shown
    from eunomia.cli.parser import Subparsers
    from eunomia.client import Event, Events
    from eunomia.server.models import Tracker

EXAMPLES = """\
examples:
  sudo eunomia attach process                       the rows of tracker process, until Ctrl-C; the tracker goes on
  sudo eunomia attach process -o json               one JSON object per line
  sudo eunomia attach process --streams exec --comm nginx,php-fpm
  sudo eunomia attach process -o csv --columns time,pid,comm,container.name
  eunomia attach process --host https://shop-1.example:7443
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "attach",
        help="show the rows of a tracker that a server runs",
        description="Show the rows of a tracker that a server runs, from now on, until Ctrl-C. The tracker goes on.",
        epilog=EXAMPLES,
    )
    parser.add_argument("tracker", metavar="ID", help="a tracker's id, as `eunomia ps` shows it")
    host.add(parser)
    out = parser.add_argument_group("output")
    out.add_argument("-o", dest="format", choices=("table", "json", "csv"), default="table", help="format (table)")
    out.add_argument("--columns", metavar="A,B,...", help="show these columns, in this order")
    end = parser.add_argument_group("when")
    end.add_argument("--count", metavar="N", help="end after N rows")
    only = parser.add_argument_group("only selected rows; options may be repeated, or take several values by comma")
    only.add_argument("--streams", metavar="A,B,...", help="only these streams")
    only.add_argument("--pid", action="append", default=[], metavar="PID", help="processes, as the host sees them")
    only.add_argument("--comm", action="append", default=[], metavar="NAME", help="command names")
    only.add_argument("--uid", action="append", default=[], metavar="UID", help="user ids, as the host sees them")
    only.add_argument("--container", action="append", default=[], metavar="NAME|ID", help="containers; as in 'web*'")
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Show rows until the tracker ends, or Ctrl-C; return 0, or 1 if it failed."""
    options.check_given(args)
    from eunomia.cli.attached import Shown
    from eunomia.cli.run import check_output

    filters = _filters(args)
    columns = words([args.columns]) if args.columns else None
    limit = number(args.count, "--count", 1) if args.count else None
    check_output()
    client = host.client(args)
    tracker = client.get(args.tracker)
    if tracker.state != "running":
        raise OSError(f"tracker {tracker.id} has {tracker.state}: eunomia logs {tracker.id} says why")
    streams = options.streams(args)
    _check_streams(tracker, streams)
    shown = Shown(tracker, args.format, columns, streams, limit)
    with client.events(args.tracker, filters=filters) as events:
        stopping.by_signals(_Reading(events, shown))
        try:
            failed = _follow(events, shown)
        finally:
            shown.close()
            shown.say_account(events.drops)
    return 1 if failed else 0


class _Reading:
    def __init__(self, events: Events, shown: Shown) -> None:
        self._events, self._shown = events, shown

    def stop(self) -> None:
        self._shown.is_stopped = True
        self._events.close()


def _follow(events: Events, shown: Shown) -> bool:
    """Pass on what comes; return whether the tracker failed."""
    from eunomia.client import events as kinds

    told = 0
    for some in events.batches():
        rows: list[bytes] = []
        if events.drops > told:
            told = events.drops
            say(f"{shown.id}: the connection had dropped, and goes on")
        for event in some:
            if event.kind == kinds.ROW:
                rows.append(event.text)
                continue
            shown.write(rows)
            rows = []
            if event.kind == kinds.END:
                return _ended(event, shown)
            shown.tell(event)
        shown.write(rows)
        if shown.is_done:
            return False
    return False


def _ended(event: Event, shown: Shown) -> bool:
    state, detail = str(event.data.get("state", "")), str(event.data.get("detail", ""))
    say(f"{shown.id}: it has {state}" + (f": {detail}" if detail else ""))
    return state == "failed"


def _filters(args: argparse.Namespace) -> Mapping[str, str]:
    """Return what the server is to leave out; raises :class:`UsageError`."""
    given = {
        "stream": options.streams(args),
        "pid": [str(number(p, "--pid", 1)) for p in words(args.pid)],
        "uid": [str(number(u, "--uid", 0)) for u in words(args.uid)],
        "comm": words(args.comm),
        "container": words(args.container),
    }
    return {name: ",".join(values) for name, values in given.items() if values}


def _check_streams(tracker: Tracker, streams: tuple[str, ...]) -> None:
    have = [stream.name for stream in tracker.streams]
    for name in streams:
        if name not in have:
            raise UsageError(f"there is no stream '{name}': there are {', '.join(have) or 'none'}")
