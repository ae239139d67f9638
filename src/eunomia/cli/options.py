# SPDX-License-Identifier: BSD-2-Clause
"""The options of what runs a tracker, here or on a server: which rows, how long, and how objects are loaded."""

from __future__ import annotations

from eunomia.cli import selectors
from eunomia.cli.errors import UsageError
from eunomia.cli.words import byte_size, number, seconds, shown, words
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from eunomia.filters import Filters

_SHORTEST, _LONGEST = 10**7, 60 * 10**9  # ns of a window in which equal events are counted


def add_end(parser: Any) -> Any:
    """Declare how long it runs, and how its rows come; return the group."""
    end = parser.add_argument_group("when")
    end.add_argument("--duration", metavar="TIME", help="stop after this time, as in 30s, 5m, 1h")
    end.add_argument(
        "--coalesce", metavar="TIME",
        help="show the first of equal events at once, and of those that follow within this time (10ms to 1m) one row "
        "with their count; `eunomia info` says which streams can have it, and what is equal",
    )  # fmt: skip
    return end


def add_filters(parser: Any) -> None:
    """Declare which rows are wanted."""
    only = parser.add_argument_group("only selected rows; options may be repeated, or take several values by comma")
    only.add_argument("--pid", action="append", default=[], metavar="PID", help="processes, as the host sees them")
    only.add_argument("--comm", action="append", default=[], metavar="NAME", help="command names")
    only.add_argument("--uid", action="append", default=[], metavar="UID", help="user ids, as the host sees them")
    selectors.add(parser)
    only.add_argument("--self", action="store_true", dest="itself", help="also Eunomia's own events")


def add_settings(group: Any) -> None:
    """Declare the settings of objects."""
    group.add_argument(
        "--set", action="append", default=[], metavar="[OBJECT.]NAME=VALUE",
        help="a setting: a global, a member of one (cfg.min_ns=5, ports[2]=80), an entry of a map (map[KEY]=VALUE)",
    )  # fmt: skip


def add_objects(parser: Any) -> Any:
    """Declare how objects are loaded; return the group."""
    more = parser.add_argument_group("objects")
    add_settings(more)
    more.add_argument(
        "--event", action="append", default=[], metavar="MAP=[FIELD:VALUE=]STRUCT",
        help="the struct of a buffer's records, of all or of those in which FIELD has this VALUE",
    )
    more.add_argument(
        "--attach", action="append", default=[], metavar="PROGRAM=TARGET",
        help="what to attach a program to: DEVICE[:ingress], BINARY:FUNCTION, EVENT:RATE, FUNCTION, CATEGORY/NAME, "
        "a cgroup's directory; may be repeated",
    )  # fmt: skip
    more.add_argument(
        "--program", action="append", default=[], metavar="NAME",
        help="run only these programs of an object; patterns as in 'on_*'; also those that their sections disable",
    )  # fmt: skip
    more.add_argument("--skip-program", action="append", default=[], metavar="NAME", help="... all except these")
    more.add_argument(
        "--map-size", action="append", default=[], metavar="[OBJECT.]MAP=ENTRIES",
        help="the size of a map, in entries",
    )  # fmt: skip
    more.add_argument("--streams", metavar="A,B,...", help="only these streams")
    more.add_argument("--ring-size", metavar="SIZE", help="the size of each ring, as in 8MiB")
    return more


def duration(args: argparse.Namespace) -> float | None:
    """Return the time after which it stops, in seconds; None for none."""
    return seconds(args.duration, "--duration") if args.duration else None


def streams(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the streams that are wanted; empty for all."""
    return tuple(words([args.streams])) if args.streams else ()


def ring_size(args: argparse.Namespace) -> int | None:
    """Return the size of each ring, in bytes; None for the usual one."""
    from eunomia.kernel.wait import ring_size

    if not args.ring_size:
        return None
    wanted = byte_size(args.ring_size, "--ring-size")
    if wanted > 1 << 30:
        raise UsageError(f"--ring-size: {shown(args.ring_size)} is more than 1GiB")
    return ring_size(wanted)


def window(args: argparse.Namespace) -> int:
    """Return the window in which equal events are counted, in ns; 0 where they are not."""
    if not args.coalesce:
        return 0
    found = round(seconds(args.coalesce, "--coalesce") * 1e9)
    if not _SHORTEST <= found <= _LONGEST:
        raise UsageError(f"--coalesce: {shown(args.coalesce)} is not between 10ms and 1m")
    return found


def filters(args: argparse.Namespace) -> Filters:
    """Return which rows are wanted; raises :class:`UsageError`."""
    from eunomia.filters import Filters

    return Filters(
        pids=tuple(number(p, "--pid", 1) for p in words(args.pid)),
        comms=tuple(words(args.comm)),
        uids=tuple(number(u, "--uid", 0) for u in words(args.uid)),
        selectors=selectors.given(args),
        host_only=args.host_only,
        containers_only=args.containers_only,
        traces_itself=args.itself,
    )


def check_given(args: argparse.Namespace) -> None:
    """Refuse options with an empty value, as ``--container "$UNSET"``: all rows would be shown."""
    for name, value in vars(args).items():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not word.strip(" ,"):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{'TRACKER|OBJECT' if name == 'what' else option}: it is empty")


def is_object(word: str) -> bool:
    """Whether a word names an object's file, not a tracker."""
    return "/" in word or word.endswith(".o")
