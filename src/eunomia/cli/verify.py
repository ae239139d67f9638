# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia verify``: says whether a tracker in a registry, or a file, is signed by a known key."""

from __future__ import annotations

import sys

from eunomia.cli import bounded_file, registries
from eunomia.cli.errors import UsageError
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers
    from eunomia.oci.signatures import Signature

EXAMPLES = """\
examples:
  eunomia verify registry.example.com/trackers/foo:1.0                     by the keys in /etc/eunomia/keys
  eunomia verify registry.example.com/trackers/foo@sha256:... --key eunomia.pub
  eunomia verify ./foo.bpf.o --signature foo.bpf.o.sig --key eunomia.pub   a file, signed by `cosign sign-blob` too

exit codes: 0 signed by one of the keys, 1 not
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "verify",
        help="check who signed a tracker in a registry, or a file",
        description="Check whether an artefact in a registry, or a file, is signed by one of the keys, as cosign does.",
        epilog=EXAMPLES,
    )
    parser.add_argument("what", metavar="REGISTRY/NAME[:TAG][@sha256:...]|FILE", help="an artefact, or a file")
    parser.add_argument(
        "--key", action="append", default=[], metavar="FILE",
        help="a public key (those in /etc/eunomia/keys); may be repeated",
    )  # fmt: skip
    parser.add_argument("--signature", metavar="FILE", help="the signature of a file (FILE.sig)")
    registries.add(parser, trust=False)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Verify; return 0 if it is signed by one of the keys."""
    from eunomia.cli.sign import is_file
    from eunomia.oci import fetch, policy, reference, settings, signatures
    from eunomia.sinks.escape import escape

    if is_file(args.what):
        name, digest, found = _of_file(args)
        known = settings.read(args.key)
    else:
        if args.signature:
            raise UsageError("--signature: it is for files: an artefact's signatures are in its registry")
        where = reference.parse(args.what)
        known = registries.settings(args, [args.what])
        with fetch.opened(where, known) as registry:
            digest = registry.manifest(where.digest or where.tag).digest
            found = signatures.fetch(registry, digest)
        name = where.name
    asked = known.policy._replace(require_signed=True, allow=())
    decision = policy.decide(asked, policy.Subject(name, digest), found)
    if not decision.allowed:
        raise fetch.refusal(f"{name}@{digest}", asked, decision)
    signed_as = f", as {decision.identity}" if decision.identity else ""
    sys.stdout.write(escape(f"{name}@{digest}: {decision.why}{signed_as}") + "\n")
    return 0


def _of_file(args: argparse.Namespace) -> tuple[str, str, list[Signature]]:
    import base64
    import binascii

    from eunomia.oci.artefact import MOST_OBJECT
    from eunomia.oci.errors import DistributionError
    from eunomia.oci.reference import digest_of
    from eunomia.oci.signatures import Signature

    data = bounded_file.read(args.what, MOST_OBJECT)
    path = args.signature or f"{args.what}.sig"
    try:
        signature = base64.b64decode(b"".join(bounded_file.read(path, 1 << 16).split()), validate=True)
    except binascii.Error:
        raise DistributionError(f"{path}: it is not a signature in base64") from None
    return args.what, digest_of(data), [Signature(data, signature)]
