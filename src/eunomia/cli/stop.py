# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia stop``: stops trackers of a server."""

from __future__ import annotations

import sys

from eunomia.cli import host, options
from eunomia.cli.errors import say
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia stop process          its remaining rows are passed on
  sudo eunomia stop web-files my     several
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "stop",
        help="stop trackers of a server",
        description="Stop trackers of a server, and print their ids.",
        epilog=EXAMPLES,
    )
    parser.add_argument("trackers", nargs="+", metavar="ID", help="a tracker's id, as `eunomia ps` shows it")
    host.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Stop them; return 0, or 1 if some cannot be stopped."""
    from eunomia.client import ApiProblem

    options.check_given(args)
    client = host.client(args)
    code = 0
    for id_ in args.trackers:
        try:
            client.stop(id_)
        except ApiProblem as problem:
            say(host.told(problem))
            code = 1
            continue
        sys.stdout.write(f"{id_}\n")
    return code
