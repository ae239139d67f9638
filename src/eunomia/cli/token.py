# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia token``: who may use the server's API, and for what."""

from __future__ import annotations

import sys

from eunomia.cli.errors import UsageError, say
from eunomia.cli.words import seconds, words
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from eunomia.cli.parser import Subparsers
    from eunomia.server.tokens import Token

EXAMPLES = """\
examples:
  sudo eunomia token create ci --scope run --expires 30d
  sudo eunomia token create dashboard          to read only, for 90 days
  sudo eunomia token list
  sudo eunomia token revoke 4be0643f1d98

scopes: read (see everything), run (and start and stop trackers of the server), load (and load objects
into the kernel), admin (everything)
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "token",
        help="create, list and revoke tokens for the server's API",
        description="Create, list and revoke tokens for the API of eunomia server, on the machine where it runs.",
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    create = actions.add_parser(
        "create",
        help="create a token and print it, this once",
        description="Create a token and print it. It is kept as a hash alone and cannot be shown again.",
    )
    create.add_argument("name", metavar="NAME", help="what it is for, as in ci; the audit log shows it")
    create.add_argument(
        "--scope", action="append", default=[], metavar="SCOPE,...", help="read, run, load or admin (read)"
    )
    create.add_argument(
        "--expires", default="90d", metavar="TIME", help="how long it can be used, as in 12h, 30d, never (90d)"
    )
    listed = actions.add_parser(
        "list", help="list the tokens", description="List the tokens, those that ended for 90 more days."
    )
    revoke = actions.add_parser(
        "revoke", help="end tokens at once", description="End tokens: the server refuses them from the next request on."
    )
    revoke.add_argument("ids", metavar="ID", nargs="+", help="as eunomia token list shows it")
    for action in (create, listed):
        action.add_argument(
            "-o", dest="format", choices=("table", "json"), default="table", help="format (table)"
        )
    for action in (create, listed, revoke):
        action.add_argument(
            "--state", metavar="DIRECTORY", help="the server's state directory (/var/lib/eunomia)"
        )
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Do it; return 0, or 1 if there is no such token or the file of tokens cannot be used."""
    from eunomia.server.tokens import BadTokens

    try:
        return {"create": _create, "list": _list, "revoke": _revoke}[args.action](args)
    except BadTokens as error:
        say(str(error))
        return 1


def _create(args: argparse.Namespace) -> int:
    from datetime import timedelta

    from eunomia.cli.page import write_json
    from eunomia.server.audit import AuditLog, directory_of, local
    from eunomia.server.private_file import state_directory
    from eunomia.server.tokens import Tokens, check_name, scopes_of

    lifetime = None if args.expires == "never" else timedelta(seconds=seconds(args.expires, "--expires"))
    scopes = words(args.scope) or ["read"]
    try:
        check_name(args.name)
        scopes_of(scopes)
    except ValueError as error:
        raise UsageError(str(error)) from None
    state = state_directory(args.state)
    tokens = Tokens(state)
    tokens.all()  # before anything is recorded: a file that cannot be used
    with AuditLog(directory_of(state)).action(local(), "token.create", args.name, {"scopes": scopes}) as action:
        token, text = tokens.create(args.name, scopes, lifetime)
        action.details |= {"token": token.id, "expires": _time(token.expires, "never")}
    if args.format == "json":
        write_json({**_told(token), "token": text})
        return 0
    sys.stdout.write(f"{text}\n")
    until = f"until {_time(token.expires)}" if token.expires else "without end"
    say(f"token {token.id} ({token.name}): {', '.join(token.scopes)}, {until}; it is not shown again")
    return 0


def _list(args: argparse.Namespace) -> int:
    from eunomia.cli.page import DIM, GREEN, Page, write_json
    from eunomia.server.private_file import state_directory
    from eunomia.server.tokens import Tokens

    tokens = Tokens(state_directory(args.state))
    used = tokens.last_used()
    if args.format == "json":
        for token in tokens.all():
            write_json({**_told(token), "last_used": _time(used.get(token.id)) or None})
        return 0
    rows = [
        (
            token.id,
            token.name,
            ",".join(token.scopes),
            token.state(),
            _time(token.created),
            _time(token.expires, "never"),
            _time(used.get(token.id), "never"),
        )
        for token in tokens.all()
    ]
    page = Page()
    headings = ("ID", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES", "LAST USED")
    page.table(headings, rows, styles={"valid": GREEN, "revoked": DIM, "expired": DIM})
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from eunomia.server.audit import AuditLog, directory_of, local
    from eunomia.server.private_file import state_directory
    from eunomia.server.tokens import Tokens

    state = state_directory(args.state)
    tokens = Tokens(state)
    known = {token.id for token in tokens.all()}
    unknown = [number for number in args.ids if number not in known]
    if unknown:
        say(f"there is no token with the id {unknown[0][:40]!r}: eunomia token list shows them; none was revoked")
        return 1
    for number in args.ids:
        with AuditLog(directory_of(state)).action(local(), "token.revoke", number):
            token = tokens.revoke(number)
        sys.stdout.write(f"token {token.id} ({token.name}) is revoked\n")
    return 0


def _told(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": [scope.value for scope in token.scopes],
        "state": token.state(),
        "created": _time(token.created),
        "expires": _time(token.expires) or None,
        "revoked": _time(token.revoked) or None,
    }


def _time(at: datetime | None, without: str = "") -> str:
    from datetime import UTC

    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else without
