# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia audit``: who did what through the server's API, and whether the log of it is whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from eunomia.cli.errors import UsageError, say
from eunomia.cli.words import number, seconds, shown
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from eunomia.cli.parser import Subparsers
    from eunomia.server.audit_chain import Head, Record
    from eunomia.server.audit_verify import Finding

EXAMPLES = """\
examples:
  sudo eunomia audit show --since 1d --action 'tracker.*'
  sudo eunomia audit show --who ci --last 20 -o json
  sudo eunomia audit verify
  sudo eunomia audit head                      note this on another machine ...
  sudo eunomia audit verify --head "$NOTED"    ... and compare later
"""

_FORM = "SEQUENCE:HASH"


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "audit",
        help="show and verify who did what through the server's API",
        description="Show the log of control actions, and find lines that were changed, removed or moved.",
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    show = actions.add_parser("show", help="show the records", description="Show the records, the oldest first.")
    show.add_argument("--since", metavar="TIME", help="from a time on, as in 1h, or 2026-11-27T12:00")
    show.add_argument("--who", metavar="WHO", help="of a token, by its id or name, or of a user, as in uid:1000")
    show.add_argument("--action", dest="wanted", metavar="PATTERN", help="with this action, as in 'tracker.*'")
    show.add_argument("--target", metavar="PATTERN", help="with this target")
    show.add_argument("--outcome", metavar="WORD", help="with this outcome: begun, done, failed")
    show.add_argument("--last", metavar="N", help="only the last N")
    verify = actions.add_parser(
        "verify",
        help="find lines that were changed, removed, inserted or moved; then the exit code is 1",
        description="Verify the chain of hashes. Without FILE the whole log is read, and compared with the last "
        "record's number and hash that are kept beside it.",
    )
    verify.add_argument("files", metavar="FILE", nargs="*", help="files of a log, in their order")
    verify.add_argument(
        "--head", action="append", default=[], metavar=_FORM, help="a record that was noted: it must be there"
    )
    verify.add_argument(
        "--after", metavar=_FORM, help="the record before the first one, if earlier files are elsewhere"
    )
    head = actions.add_parser(
        "head", help="print the last record's number and hash", description=f"Print the last record as {_FORM}."
    )
    for action in (show, verify):
        action.add_argument(
            "-o", dest="format", choices=("table", "json"), default="table", help="format (table)"
        )
    for action in (show, verify, head):
        action.add_argument(
            "--state", metavar="DIRECTORY", help="the server's state directory (/var/lib/eunomia)"
        )
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Do it; return 0, or 1 if the log was tampered with or there is none."""
    return {"show": _show, "verify": _verify, "head": _head}[args.action](args)


def _head(args: argparse.Namespace) -> int:
    from eunomia.server.audit import head

    found = head(_directory(args))
    if not found.sequence:
        raise FileNotFoundError(2, "there is no audit log", str(_directory(args)))
    sys.stdout.write(f"{found}\n")
    return 0


def _directory(args: argparse.Namespace) -> Path:
    from eunomia.server.audit import directory_of
    from eunomia.server.private_file import state_directory

    return directory_of(state_directory(args.state))


# Verify


def _verify(args: argparse.Namespace) -> int:
    from pathlib import Path

    from eunomia.cli.page import write_json
    from eunomia.server.audit_chain import Head
    from eunomia.server.audit_verify import verify, verify_directory

    heads = [_parsed(text, "--head") for text in args.head]
    after = _parsed(args.after, "--after") if args.after else Head()
    if args.files and args.state:
        raise UsageError("--state names the log of a server, so it goes without FILE")
    if args.files:
        paths = [Path(name) for name in args.files]
        result = verify([(path, path.stat().st_size) for path in paths], after, heads)
    else:
        result = verify_directory(_directory(args), after, heads)
    is_whole = not result.findings
    if args.format == "json":
        told: dict[str, object] = {"whole": is_whole, "records": result.records, "head": str(result.head)}
        for name, found in (("findings", result.findings), ("notes", result.notes)):
            told[name] = [finding._asdict() for finding in found]
        write_json(told)
        return 0 if is_whole else 1
    _write(result.findings)
    _write(result.notes, "note: ")
    if is_whole:
        sys.stdout.write(f"{result.records} records, none changed, removed or moved; the last is {result.head}\n")
        return 0
    count = len(result.findings)
    say(f"the audit log is not whole: {count} finding{'s' if count > 1 else ''} in {result.records} records")
    return 1


def _parsed(text: str, option: str) -> Head:
    from eunomia.server.audit_chain import parse_head

    try:
        return parse_head(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _write(findings: Iterable[Finding], before: str = "") -> None:
    from eunomia.sinks.escape import escape

    for finding in findings:
        sys.stdout.write(f"{before}{escape(str(finding))}\n")


# Show


def _show(args: argparse.Namespace) -> int:
    from collections import deque

    from eunomia.cli.page import GREEN, RED, Page
    from eunomia.server.audit import snapshot

    directory = _directory(args)
    wanted = _wanted(args)
    last = number(args.last, "--last", 1) if args.last else None
    files, _ = snapshot(directory)
    if not files:
        raise FileNotFoundError(2, "there is no audit log", str(directory))
    unreadable: list[str] = []
    records: Iterable[Record] = (record for record in _records(files, unreadable) if wanted(record))
    if last is not None:
        records = deque(records, maxlen=last)
    if args.format == "json":
        for record in records:
            sys.stdout.write(f"{_json(record.members())}\n")
    else:
        headings = ("TIME", "RECORD", "WHO", "ACTION", "TARGET", "OUTCOME", "DETAILS")
        Page().table(headings, [_row(record) for record in records], styles={"done": GREEN, "failed": RED})
    if unreadable:
        say(f"{len(unreadable)} lines are no records, the first is {unreadable[0]}: eunomia audit verify tells more")
    return 0


def _wanted(args: argparse.Namespace) -> Any:
    from fnmatch import fnmatchcase

    since = _since(args.since) if args.since else ""

    def wanted(record: Record) -> bool:
        return (
            record.time >= since
            and (not args.who or args.who in _names(record.who))
            and (not args.wanted or fnmatchcase(record.action, args.wanted))
            and (not args.target or fnmatchcase(record.target, args.target))
            and (not args.outcome or record.outcome == args.outcome)
        )

    return wanted


def _since(word: str) -> str:
    """Return a time as records have it, or its beginning."""
    import re
    import time

    if "-" not in word:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(max(0, time.time() - seconds(word, "--since"))))
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z?)?", word):
        raise UsageError(f"--since: {shown(word)} is no time; write it as in 1h, 7d or 2026-11-27T12:00 (UTC)")
    return word.removesuffix("Z")


def _names(who: Mapping[str, Any]) -> set[str]:
    return {str(who.get("token", "")), str(who.get("name", "")), f"uid:{who.get('uid', '')}"} - {"", "uid:"}


def _records(files: Sequence[tuple[Path, int]], unreadable: list[str]) -> Iterator[Record]:
    from eunomia.server.audit_chain import decode
    from eunomia.server.audit_verify import lines

    for path, size in files:
        for line in lines(path, size):
            record = decode(line.content)
            if isinstance(record, str):
                unreadable.append(f"{path}:{line.number}")
            else:
                yield record


def _row(record: Record) -> tuple[str, ...]:
    who = record.who
    if "token" in who:
        name = f"{who.get('name', '')} ({who['token']})"
    else:
        name = f"uid {who.get('uid', '?')}, pid {who.get('pid', '?')}"
    details = _json(record.details) if record.details else ""
    return f"{record.time[:19]}Z", str(record.sequence), name, record.action, record.target, record.outcome, details


def _json(members: Mapping[str, Any]) -> str:
    """Return JSON in ASCII; numbers may be of any size."""
    import json

    return json.dumps(members).replace("\x7f", "\\u007f")
