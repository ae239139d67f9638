# SPDX-License-Identifier: BSD-2-Clause
"""Options on registries: how they are asked, and whose signatures are accepted."""

from __future__ import annotations

from collections.abc import Sequence

from eunomia.cli.errors import UsageError
from eunomia.typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from eunomia.oci.settings import Settings

_GROUP = "trackers from a registry"


def add(parser: Any, *, trust: bool = True) -> None:
    """Declare the options; those on signatures only with ``trust``."""
    group = parser.add_argument_group(_GROUP)
    if trust:
        group.add_argument(
            "--key", action="append", default=[], metavar="FILE",
            help="accept signatures of this public key only, instead of those in /etc/eunomia/keys; may be repeated",
        )  # fmt: skip
        group.add_argument(
            "--insecure-unsigned", action="store_true", help="run what nobody signed, or somebody unknown"
        )
    group.add_argument("--ca-file", metavar="FILE", help="trust this CA too (PEM)")
    group.add_argument("--plain-http", action="store_true", help="ask without TLS: others can read and change it all")


def for_words(args: argparse.Namespace, words: Sequence[str]) -> Settings | None:
    """Return the settings for the sources in a registry; None if there are none. Raises :class:`UsageError`."""
    from eunomia.source import is_in_registry

    there = [word for word in words if is_in_registry(word)]
    if not there:
        for option in ("key", "insecure_unsigned", "ca_file", "plain_http"):
            if getattr(args, option):
                name = option.replace("_", "-")
                raise UsageError(f"--{name}: it is for trackers in a registry, as in oci://HOST/NAME")
        return None
    return settings(args, there)


def settings(args: argparse.Namespace, words: Sequence[str]) -> Settings:
    """Return the settings that the options ask for; ``words`` are names in registries."""
    from eunomia.oci import reference
    from eunomia.oci import settings as known

    if getattr(args, "insecure_unsigned", False) and args.key:
        raise UsageError("--insecure-unsigned: then no signature is verified, by no --key: give one of them")
    registries = [reference.parse(word).registry for word in words]
    return known.read(
        getattr(args, "key", ()),
        insecure_unsigned=getattr(args, "insecure_unsigned", False),
        plain_http=registries if args.plain_http else (),
        ca_file=args.ca_file or "",
    )
