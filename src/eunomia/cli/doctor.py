# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia doctor``: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from eunomia.cli.checks import Finding
    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia doctor                           everything; hooks are tried briefly
  eunomia doctor                                what can be checked without root
  sudo eunomia doctor -o json | jq 'select(.state != "ok")'

exit code: 1 if something fails, else 0.
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="find out what is missing on this machine, and what to do",
        description="Check kernel, privileges, hooks and container runtimes, and say what to do about problems.",
        epilog=EXAMPLES,
    )
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="format (table)")
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Print the findings; return 1 if one of them is a failure."""
    from eunomia.cli.checks import FAIL, OK, UNKNOWN, WARN
    from eunomia.cli.page import GREEN, RED, YELLOW, Page, write_json

    found = list(_findings())
    if args.format == "json":
        for finding in found:
            write_json(finding._asdict())
    else:
        page = Page()
        styles = {OK: GREEN, WARN: YELLOW, UNKNOWN: YELLOW, FAIL: RED}
        rows: list[tuple[str, str, str]] = []
        for finding in found:
            rows.append((finding.state, finding.subject, finding.found))
            if finding.do:
                rows.append(("", "", f"-> {finding.do}"))
        page.table(("STATE", "WHAT", "FOUND"), rows, styles=styles)
        counts = {state: sum(f.state == state for f in found) for state in (OK, WARN, FAIL, UNKNOWN)}
        page.line(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return int(any(finding.state == FAIL for finding in found))


def _findings() -> Iterator[Finding]:
    from eunomia.cli.checks import containers, hooks, kernel, rights

    for part in (kernel, rights, hooks, containers):
        yield from part.findings()
