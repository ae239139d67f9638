# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia sign``: signs a tracker in a registry, or a file, as cosign does."""

from __future__ import annotations

import os
import sys

from eunomia.cli import bounded_file, registries
from eunomia.cli.errors import UsageError, say
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  eunomia sign registry.example.com/trackers/foo@sha256:... --key eunomia.key
  COSIGN_PASSWORD=... eunomia sign registry.example.com/trackers/foo:1.0 --key cosign.key
  eunomia sign ./foo.bpf.o --key eunomia.key       a file: writes foo.bpf.o.sig, as cosign sign-blob

a key is made by cosign generate-key-pair, or by
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out eunomia.key
  openssl pkey -in eunomia.key -pubout -out eunomia.pub
what a tag names may change between your look at it and the signature: sign a digest, which push prints
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "sign",
        help="sign a tracker in a registry, or a file",
        description="Sign an artefact in a registry, or a file, so that cosign and `eunomia verify` accept it.",
        epilog=EXAMPLES,
    )
    parser.add_argument("what", metavar="REGISTRY/NAME@sha256:...|FILE", help="an artefact, or a file")
    parser.add_argument(
        "--key", dest="private", required=True, metavar="FILE", help="the private key (PEM, ECDSA P-256)"
    )
    parser.add_argument("--output", metavar="FILE", help="the signature of a file (FILE.sig)")
    registries.add(parser, trust=False)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Sign; return 0."""
    from eunomia.oci import fetch, keys, reference, signatures

    if is_file(args.what):
        return _sign_file(args)
    if args.output:
        raise UsageError("--output: it is for files: the signature of an artefact goes to its registry")
    where = reference.parse(args.what)
    key = keys.read_private(args.private, password)
    with fetch.opened(where, registries.settings(args, [args.what])) as registry:
        digest = registry.manifest(where.digest or where.tag).digest
        is_new = signatures.sign(registry, digest, key)
    say(f"{'signed' if is_new else 'it was signed before by this key'}: {signatures.tag_of(digest)}")
    sys.stdout.write(f"{where.name}@{digest}\n")
    return 0


def is_file(word: str) -> bool:
    """Whether a word is the path of a file, not the name of an artefact."""
    return not word.startswith("oci://") and (
        word.startswith(("/", "./", "../")) or word.endswith(".o") or "/" not in word
    )


def password() -> str:
    """Return the password of a key: from COSIGN_PASSWORD, or else typed."""
    given = os.environ.get("COSIGN_PASSWORD")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError("--key: it is encrypted: set COSIGN_PASSWORD")
    from getpass import getpass

    return getpass("password of the key: ")


def _sign_file(args: argparse.Namespace) -> int:
    import base64

    from eunomia.oci import keys
    from eunomia.oci.artefact import MOST_OBJECT
    from eunomia.sinks.escape import escape

    data = bounded_file.read(args.what, MOST_OBJECT)
    key = keys.read_private(args.private, password)
    path = args.output or f"{args.what}.sig"
    with open(path, "w", encoding="ascii") as file:
        file.write(base64.b64encode(key.sign(data)).decode())
    sys.stdout.write(f"{escape(path)}\n")
    return 0
