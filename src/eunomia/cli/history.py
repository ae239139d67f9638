# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia history``: the objects that a tracker of a server has run."""

from __future__ import annotations

from eunomia.cli import host, options
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia history process             each object that it has run, the first one first
  sudo eunomia history process -o json     one JSON object a line
"""
_HEADINGS = ("GENERATION", "TIME", "OUTCOME", "OBJECT", "SETTINGS", "DETAIL")
_SHORT = len("sha256:") + 12  # of a digest


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "history",
        help="list the objects that a tracker of a server has run",
        description="List the objects that a tracker of a server has run; `eunomia rollback` goes back to one.",
        epilog=EXAMPLES,
    )
    parser.add_argument("tracker", metavar="ID", help="a tracker's id, as `eunomia ps` shows it")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    host.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print them; return 0."""
    from eunomia.cli.page import Page, write_json

    options.check_given(args)
    generations = host.client(args).history(args.tracker)
    if args.format == "json":
        import msgspec

        for generation in generations:
            write_json(msgspec.to_builtins(generation))
        return 0
    rows = [
        (
            str(one.number), one.time, one.outcome, one.object[:_SHORT],
            " ".join(f"{name}={value}" for name, value in one.settings.items()) or "-", one.detail,
        )
        for one in generations
    ]  # fmt: skip
    Page().table(_HEADINGS, rows)
    return 0
