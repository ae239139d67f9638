# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia start``: starts trackers and objects on a server, where they run until they are stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eunomia.cli import host, options
from eunomia.cli.errors import UsageError, say
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers
    from eunomia.cli.request import Wanted
    from eunomia.client import Client
    from eunomia.server.models import Tracker, TrackerRequest

EXAMPLES = """\
examples:
  sudo eunomia start process                          programs that start and end; eunomia attach process shows them
  sudo eunomia start opensnoop --container 'web*' --id web-files
  sudo eunomia start ./my.bpf.o --set min_us=100      an object is uploaded, and runs there
  sudo eunomia start process -o json:/var/log/process.json --rotate 100MB --duration 8h
  eunomia start process --host https://shop-1.example:7443 --token-file shop.token
"""
_TRIES = 100  # ids for objects of one name


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "start",
        help="start trackers and BPF objects on a server",
        description="Start trackers, or objects built with libbpf, on a server, and print their ids.",
        epilog=EXAMPLES,
    )
    parser.add_argument("what", nargs="+", metavar="TRACKER|OBJECT", help="a tracker's name, or an object's path")
    parser.add_argument("--id", metavar="ID", help="its name on the server; else the tracker's, or the object's")
    host.add(parser)
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o", dest="outputs", action="append", default=[], metavar="FORMAT:FILE",
        help="json or csv, to a file of the server's; may be repeated",
    )  # fmt: skip
    out.add_argument("--columns", metavar="A,B,...", help="write these columns to the files, in this order")
    out.add_argument(
        "--add", action="append", default=[], metavar="A,B,...", help="rows have these columns beside the usual ones"
    )
    out.add_argument("--rotate", metavar="SIZE", help="rotate files at this size, as in 100MB; five old ones are kept")
    options.add_end(parser)
    options.add_filters(parser)
    options.add_objects(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Start them, all or none; return 0."""
    options.check_given(args)
    if args.id and len(args.what) > 1:
        raise UsageError("--id: it is for one tracker")
    _check_words(args.what)
    if args.event and not any(map(options.is_object, args.what)):
        raise UsageError("--event: it is for objects; trackers declare their structs")
    if len(args.outputs) and len(args.what) > 1:
        raise UsageError("-o: a file is for one tracker: start them one by one")
    from eunomia.cli import request

    client = host.client(args)
    shared = request.common(args, host.is_here(client))
    wanted = _wanted(client, args)
    started: list[Tracker] = []
    try:
        for one in request.requests(args, wanted, shared):
            started.append(_start(client, one, chosen=bool(args.id)))
    except BaseException:
        for tracker in started:
            with suppress(Exception):
                client.stop(tracker.id)
        raise
    for tracker in started:
        sys.stdout.write(f"{tracker.id}\n")
        for note in tracker.notes:
            say(note)
    return 0


def _check_words(words: Sequence[str]) -> None:
    from eunomia.source import is_in_registry

    for word in words:
        if is_in_registry(word):
            raise UsageError(f"{word}: a server does not pull: `eunomia pull` it here, and start its object's file")


def _wanted(client: Client, args: argparse.Namespace) -> list[Wanted]:
    """Return what to start, with what is known of it as far as options need it; objects are uploaded."""
    from eunomia.cli.request import Wanted

    kinds = {}
    if args.set or args.map_size or args.streams:
        kinds = {k.kind: Wanted(k.kind, k.kind, "", k.streams, list(k.settings), k.maps) for k in client.kinds()}
    found = []
    for word in args.what:
        if not options.is_object(word):
            found.append(kinds.get(word, Wanted(word, word)))
            continue
        up = client.upload(read(word))
        found.append(Wanted(_id_of(word), "", up.object, up.streams, [*up.settings, *up.maps], up.maps, up.programs))
    return found


def read(path: str) -> bytes:
    """Return an object's bytes; raises :class:`OSError` or :class:`UsageError`."""
    from eunomia.source import LARGEST

    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise UsageError(f"{path} has more than {LARGEST >> 20} MiB, which no BPF object has")
    return data


def _id_of(path: str) -> str:
    """Return what an object is called on a server, by its file's name."""
    stem = Path(path).name.removesuffix(".o").removesuffix(".bpf").lower()
    safe = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in stem).lstrip("._-")
    return safe[:50] or "object"


def _start(client: Client, request: TrackerRequest, *, chosen: bool) -> Tracker:
    """Start one; if its id is not the user's choice and is taken, under another."""
    import msgspec

    from eunomia.client import ApiProblem

    for at in range(1, _TRIES):
        try:
            one = request if at == 1 else msgspec.structs.replace(request, id=f"{request.id}-{at}")
            return client.start(one)
        except ApiProblem as problem:
            if chosen or not request.id or problem.status != 409 or problem.field != "id":
                raise
    raise UsageError(f"there are too many trackers {request.id}: choose another name with --id")
