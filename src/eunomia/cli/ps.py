# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia ps``: the trackers that a server runs."""

from __future__ import annotations

from eunomia.cli import host, options
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia ps                the trackers that run, and the latest that have ended
  sudo eunomia ps -o json        all that is known of each, one JSON object a line
  eunomia ps --host shop         those of another server
"""
_HEADINGS = ("ID", "KIND", "STATE", "GENERATION", "STARTED", "READERS", "STREAMS")
_SHORT = len("sha256:") + 12  # of a digest


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "ps",
        help="list the trackers of a server",
        description="List the trackers that a server runs, and the latest that have ended.",
        epilog=EXAMPLES,
    )
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    host.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print them; return 0."""
    from eunomia.cli.page import GREEN, RED, Page, write_json

    options.check_given(args)
    trackers = host.client(args).list()
    if args.format == "json":
        import msgspec

        for tracker in trackers:
            write_json(msgspec.to_builtins(tracker))
        return 0
    rows = [
        (
            one.id, one.kind or one.object[:_SHORT], one.state, str(one.generation), one.started, str(one.readers),
            ",".join(stream.name for stream in one.streams) or "-",
        )
        for one in trackers
    ]  # fmt: skip
    Page().table(_HEADINGS, rows, styles={"running": GREEN, "failed": RED})
    return 0
