# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia list``: the trackers, what they answer, and whether they run here."""

from __future__ import annotations

from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia list            each tracker is tried: loaded, attached and detached
  eunomia list -o json         one JSON object per line
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "list",
        help="list the trackers, and whether this kernel can run them",
        description="List the trackers, the question that each answers, and whether this kernel can run it.",
        epilog=EXAMPLES,
    )
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the trackers; return 0, even if some of them cannot run."""
    from eunomia import tracker
    from eunomia.cli.page import GREEN, RED, YELLOW, Page, write_json
    from eunomia.cli.tracker_check import NO, UNKNOWN, YES, trials

    tried = trials(tracker.every())
    if args.format == "json":
        for found, result in tried:
            write_json({"tracker": found.name, "question": found.tracker.title, **result._asdict()})
        return 0
    page = Page()
    rows = [
        (found.name, f"yes ({result.variant})" if result.runs == YES else result.runs, found.tracker.title)
        for found, result in tried
    ]
    styles = {said: GREEN for _, said, _ in rows} | {NO: RED, UNKNOWN: YELLOW}
    page.table(("TRACKER", "RUNS HERE", "QUESTION"), rows, styles=styles)
    for found, result in tried:
        if result.runs == NO:
            page.line(f"{found.name} cannot run here: {result.why}")
    if any(result.runs == UNKNOWN for _, result in tried):
        page.line("Only root can check whether they run here: sudo eunomia list")
    return 0
