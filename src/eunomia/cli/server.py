# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia server``: runs trackers for clients of its API."""

from __future__ import annotations

import sys

from eunomia.cli import ready
from eunomia.cli.errors import UsageError, need_proc, say, say_fault, say_without_cgroups
from eunomia.cli.words import seconds, words
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers
    from eunomia.server.config import Config

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
    parser.add_argument("--config", metavar="FILE", help="what to listen on and what to run: docs/configuration.md")
    parser.add_argument("--check-config", action="store_true", help="say what is wrong with the file, and end")
    parser.add_argument("--socket", metavar="FILE", help="the API's Unix socket (/run/eunomia/eunomia.sock)")
    parser.add_argument(
        "--listen", action="append", default=[], metavar="ADDRESS:PORT",
        help="also TCP: on 127.0.0.1 with a token, elsewhere with --tls too; may be repeated",
    )  # fmt: skip
    parser.add_argument("--tls", metavar="CERTIFICATE,KEY", help="files of the certificate and its key, for --listen")
    parser.add_argument("--state", metavar="DIRECTORY", help="where it remembers what runs (/var/lib/eunomia)")
    parser.add_argument("--interval", metavar="TIME", help="how often tables are read (1s)")
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
    """Serve until stopped; return 0, or 1 if the engine failed or the configuration is wrong."""
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError("the server needs more packages: pip install 'eunomia[server]'") from None
    import gc
    import signal

    from eunomia.faults import Faults
    from eunomia.server import privileges
    from eunomia.server.service import service
    from eunomia.server.state import StateError

    if args.check_config:
        return _check(args)
    config = _configured(args)
    keep = _kept(args.keep_capability)
    need_proc()
    say_without_cgroups()
    try:
        with service(config, Faults(say_fault), say, lambda: privileges.drop(keep)) as (hub, listener, where):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: listener.stop())
            gc.freeze()

            def started() -> None:
                sys.stderr.write(f"eunomia: the API is on {', '.join(where)}\n")
                ready.notify()

            listener.run(started)
            if hub.error is not None:
                say(f"the engine has ended: {hub.error}")
                return 1
    except StateError as error:
        say(str(error))
        return 1
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise OSError(f"{what}{error.strerror or error}") from None
    return 0


def _check(args: argparse.Namespace) -> int:
    from eunomia.server.config import check

    if not args.config:
        raise UsageError("--check-config: name the file with --config")
    found = check(args.config)
    for sentence in found:
        say(sentence)
    return 1 if found else 0


def _configured(args: argparse.Namespace) -> Config:
    """Return what the file says, changed by the options. Raises :class:`UsageError`."""
    import msgspec

    from eunomia.server.config import Config, ConfigError, Tls, address, is_loopback, read

    config = Config()
    if args.config:
        try:
            found = read(args.config)
        except ConfigError as error:
            for sentence in error.problems[:-1]:
                say(sentence)
            raise UsageError(error.problems[-1]) from None
        if found.translated:
            say(f"{args.config} has the original's form; this is it in ours, to be saved:")
            sys.stderr.write(found.translated)
        config = found.config
    server = config.server
    changed: dict[str, object] = {name: value for name in ("socket", "state") if (value := getattr(args, name))}
    if args.interval:
        changed["interval"] = seconds(args.interval, "--interval")
    if args.tls:
        certificate, _, key = args.tls.partition(",")
        changed["tls"] = Tls(certificate, key or certificate)
    if args.listen:
        changed["listen"] = words(args.listen)
    server = msgspec.structs.replace(server, **changed)
    for word in server.listen:
        try:
            host, _ = address(word)
        except ValueError as error:
            raise UsageError(f"--listen: {error}") from None
        if server.tls is None and not is_loopback(host):
            raise UsageError(f"--listen: {word} can be reached from other machines: add --tls CERTIFICATE,KEY")
    if server.pin:
        raise UsageError("pin: probes that stay while the server is away are not supported yet")
    return msgspec.structs.replace(config, server=server)
