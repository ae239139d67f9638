# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia update``: replaces the object of a tracker of a server while it runs."""

from __future__ import annotations

from eunomia.cli import host, options
from eunomia.cli.errors import UsageError, say
from eunomia.cli.words import seconds, shown
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  sudo eunomia update my ./my.bpf.o               the new object takes over; no event is lost or seen twice
  sudo eunomia update my ./my.bpf.o --trial 10s   if it shows nothing for 10s where the old one did, the old one returns
  sudo eunomia update process                     opened again, as after an upgrade
  sudo eunomia update my --set min_us=50          the same object with another setting
"""
_LONGEST_TRIAL = 60  # seconds


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "update",
        help="replace the object of a tracker of a server while it runs",
        description="Replace the object of a tracker of a server. Its readers stay connected; its maps keep their "
        "content; if it fails, the old object goes on.",
        epilog=EXAMPLES,
    )
    parser.add_argument("tracker", metavar="ID", help="a tracker's id, as `eunomia ps` shows it")
    parser.add_argument("object", nargs="?", metavar="OBJECT", help="the new object's path; the same one without it")
    parser.add_argument(
        "--trial", metavar="TIME",
        help="go back to the old object if only that one shows rows, in this time before and after",
    )  # fmt: skip
    parser.add_argument("--fresh-maps", action="store_true", help="maps whose types have changed start empty")
    options.add_settings(parser)
    host.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Replace it; return 0."""
    options.check_given(args)
    trial = seconds(args.trial, "--trial") if args.trial else 0.0
    if trial > _LONGEST_TRIAL:
        raise UsageError(f"--trial: {shown(args.trial)} is more than {_LONGEST_TRIAL}s")
    from eunomia.cli.start import read
    from eunomia.kernel import entries
    from eunomia.server.models import UpdateRequest, Value

    settings: dict[str, Value] = {}
    for word in args.set:
        parts = entries.split(word)
        if parts is None:
            raise UsageError(f"--set: {shown(word)} is not of the form NAME=VALUE")
        settings[parts[0]] = parts[1]
    data = read(args.object) if args.object else None
    client = host.client(args)
    digest = client.upload(data).object if data is not None else ""
    tracker = client.update(args.tracker, UpdateRequest(digest, settings, trial, args.fresh_maps))
    last = client.history(args.tracker)[-1]
    say(f"{tracker.id}: generation {tracker.generation} runs: {tracker.object}")
    if last.number == tracker.generation and last.detail:
        say(f"{tracker.id}: {last.detail}")
    return 0
