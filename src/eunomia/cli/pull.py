# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia pull``: gets a tracker from a registry, if its signature is good."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from eunomia.cli import registries
from eunomia.cli.errors import say
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  eunomia pull registry.example.com/trackers/foo:1.0                  writes foo.bpf.o
  eunomia pull registry.example.com/trackers/foo@sha256:... -o out/foo.bpf.o
  eunomia pull localhost:5000/foo:1.0 --key eunomia.pub --files .     its source and README too

it must be signed by a key in /etc/eunomia/keys/*.pub, or that --key names; --insecure-unsigned takes it unsigned
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "pull",
        help="get a tracker from a registry",
        description="Verify a tracker in a registry, and write its object to a file.",
        epilog=EXAMPLES,
    )
    parser.add_argument("reference", metavar="REGISTRY/NAME[:TAG][@sha256:...]", help="what to get")
    parser.add_argument("-o", dest="output", metavar="FILE", help="the object (NAME.bpf.o here, if there is none yet)")
    parser.add_argument("--files", metavar="FOLDER", help="write its source and README there")
    registries.add(parser)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Pull; print the file and digest; return 0."""
    from eunomia.oci import fetch, reference
    from eunomia.oci.errors import DistributionError
    from eunomia.sinks.escape import escape

    where = reference.parse(args.reference)
    pulled = fetch.fetch(where, registries.settings(args, [args.reference]), files=args.files is not None)
    path = args.output or f"{pulled.config.name}.bpf.o"
    others = {os.path.join(args.files or "", name): data for name, data in pulled.files.items()}
    for name in [*([] if args.output else [path]), *others]:
        if os.path.lexists(name):
            raise DistributionError(f"{name}: it exists, and is not overwritten; -o names a file that may be")
    for name, data in {path: pulled.object, **others}.items():
        _write(name, data)
    say(f"{pulled.reference}: {pulled.decision.why}")
    for name in (path, *others):
        sys.stdout.write(f"{escape(name)}\n")
    return 0


def _write(path: str, data: bytes) -> None:
    """Write a file; nothing of it is there if that fails."""
    from eunomia.oci.errors import DistributionError

    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        with open(unfinished, "xb") as file:
            file.write(data)
        os.replace(unfinished, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(unfinished)
        raise DistributionError(f"{path}: {error.strerror}") from None
