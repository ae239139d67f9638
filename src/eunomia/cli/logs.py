# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia logs``: what happened to a tracker of a server."""

from __future__ import annotations

from eunomia.cli import host, options
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia logs process              starts, notes, changes, failures
  sudo eunomia logs process -o json      one JSON object a line
"""
_HEADINGS = ("TIME", "WHAT", "DETAIL")


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "logs",
        help="show what happened to a tracker of a server",
        description="Show what happened to a tracker of a server: its start, notes, changes and failures.",
        epilog=EXAMPLES,
    )
    parser.add_argument("tracker", metavar="ID", help="a tracker's id, as `eunomia ps` shows it")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    host.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print it; return 0."""
    from eunomia.cli.page import RED, Page, write_json

    options.check_given(args)
    lines = host.client(args).logs(args.tracker)
    if args.format == "json":
        import msgspec

        for line in lines:
            write_json(msgspec.to_builtins(line))
        return 0
    Page().table(_HEADINGS, [(line.time, line.kind, line.text) for line in lines], styles={"failed": RED})
    return 0
