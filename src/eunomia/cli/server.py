# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia server``: runs trackers for clients of its API."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from eunomia.cli import ready
from eunomia.cli.errors import UsageError, need_proc, say, say_fault, say_without_cgroups
from eunomia.cli.words import seconds
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

SOCKET = "/run/eunomia/eunomia.sock"
STATE = "/var/lib/eunomia"

EXAMPLES = """\
examples:
  sudo eunomia server                                  the API on /run/eunomia/eunomia.sock
  sudo curl --unix-socket /run/eunomia/eunomia.sock http://localhost/v1/kinds
  sudo curl --unix-socket /run/eunomia/eunomia.sock http://localhost/v1/trackers -d '{"kind": "process"}'
  sudo curl --unix-socket /run/eunomia/eunomia.sock -N http://localhost/v1/trackers/process/events
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "server",
        help="run trackers for clients of an HTTP API",
        description="Run trackers that clients start, change and stop by an HTTP API, until SIGTERM.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--socket", metavar="FILE", default=SOCKET, help=f"the API's Unix socket ({SOCKET})")
    parser.add_argument("--state", metavar="DIRECTORY", default=STATE, help=f"where it keeps objects ({STATE})")
    parser.add_argument("--interval", metavar="TIME", default="1s", help="how often tables are read (1s)")
    parser.add_argument(
        "--keep-capability", metavar="NAME", action="append", default=[],
        help="one that is not given up after the start, as SYS_ADMIN for objects with uprobes; may be repeated",
    )  # fmt: skip
    parser.set_defaults(go=go)


def _kept(names: list[str]) -> frozenset[str]:
    from eunomia.server import privileges

    for name in names:
        try:
            privileges.number(name)
        except ValueError as error:
            raise UsageError(f"--keep-capability: {error}") from None
    return privileges.SERVER | frozenset(names)


def go(args: argparse.Namespace) -> int:
    """Serve until stopped; return 0, or 1 if the engine failed."""
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError("the server needs more packages: pip install 'eunomia[server]'") from None
    import gc
    import signal

    from eunomia.faults import Faults
    from eunomia.server import privileges
    from eunomia.server.app import application
    from eunomia.server.hub import Hub
    from eunomia.server.objects import Objects
    from eunomia.server.serve import Listener, Place, on_unix

    interval = seconds(args.interval, "--interval")
    keep = _kept(args.keep_capability)
    need_proc()
    path = Path(args.socket)
    try:
        objects = Objects(Path(args.state) / "objects")
        place = on_unix(path)
    except OSError as error:
        raise OSError(f"{error.filename or args.socket}: {error.strerror or error}") from None
    say_without_cgroups()
    try:
        privileges.drop(keep)
        with Hub(objects, faults=Faults(say_fault), interval=interval) as hub:
            listener = Listener(application(hub), [Place(place)], hub.end_streams)
            hub.failed = listener.stop
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: listener.stop())
            gc.freeze()

            def started() -> None:
                sys.stderr.write(f"eunomia: the API is on {path}\n")
                ready.notify()

            listener.run(started)
            if hub.error is not None:
                say(f"the engine has ended: {hub.error}")
                return 1
    finally:
        place.close()
        with suppress(OSError):
            os.unlink(path)
    return 0
