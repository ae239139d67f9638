# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia rollback``: has a tracker of a server run an earlier object."""

from __future__ import annotations

from eunomia.cli import host, options
from eunomia.cli.errors import say
from eunomia.cli.words import number
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia rollback process             to the generation before
  sudo eunomia rollback process --to 1      to the first; eunomia history process lists them
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "rollback",
        help="have a tracker of a server run an earlier object",
        description="Have a tracker of a server run the object and settings of an earlier generation, without a gap.",
        epilog=EXAMPLES,
    )
    parser.add_argument("tracker", metavar="ID", help="a tracker's id, as `eunomia ps` shows it")
    parser.add_argument("--to", metavar="N", help="the generation, as `eunomia history` shows it (the one before)")
    host.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Go back; return 0."""
    options.check_given(args)
    generation = number(args.to, "--to", 1) if args.to else 0
    tracker = host.client(args).rollback(args.tracker, generation)
    say(f"{tracker.id}: generation {tracker.generation} runs: {tracker.object}")
    return 0
