# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia push``: stores a tracker in a registry."""

from __future__ import annotations

import os
import sys

from eunomia.cli import bounded_file, registries
from eunomia.cli.errors import UsageError, say
from eunomia.cli.words import pairs, words
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers
    from eunomia.oci import artefact
    from eunomia.source import Source
    from eunomia.tracker import Tracker

EXAMPLES = """\
examples:
  eunomia push foo.bpf.o registry.example.com/trackers/foo:1.0
  eunomia push ./foo registry.example.com/trackers/foo:1.0    a tracker's folder: what it declares, README.md, source
  eunomia push foo.bpf.o localhost:5000/foo:1.0 --file foo.bpf.c --description "Who opens what?"
  eunomia push foo.bpf.o registry.example.com/foo:1.0 --object aarch64=foo.arm64.bpf.o

credentials: docker login, podman login, or EUNOMIA_REGISTRY_USERNAME and EUNOMIA_REGISTRY_PASSWORD
the digest is printed; sign it next: eunomia sign registry.example.com/trackers/foo@sha256:... --key eunomia.key
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "push",
        help="store a tracker in a registry",
        description="Store an object, or a tracker's folder, in a registry as an OCI artefact.",
        epilog=EXAMPLES,
    )
    parser.add_argument("object", metavar="OBJECT|FOLDER", help="an object, or the folder of a tracker")
    parser.add_argument("reference", metavar="REGISTRY/NAME:TAG", help="where to store it")
    parser.add_argument("--name", help="the tracker's name (the object's)")
    parser.add_argument("--description", metavar="TEXT", help="one line (what the tracker declares)")
    parser.add_argument(
        "--architecture", action="append", default=[], metavar="A,B,...",
        help="the machines on which the object runs, as uname -m has them (this one)",
    )  # fmt: skip
    parser.add_argument(
        "--object", dest="others", action="append", default=[], metavar="ARCHITECTURE=FILE",
        help="the object for other machines; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--file", action="append", default=[], metavar="FILE", help="store a source or README too; may be repeated"
    )
    registries.add(parser, trust=False)
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Push; print the digest; return 0."""
    from eunomia.oci import artefact, fetch, reference
    from eunomia.oci.reference import digest_of

    where = reference.parse(args.reference)
    if where.digest:
        raise UsageError(f"{args.reference}: name a tag to store it under; the digest follows from the content")
    config, objects, files = _described(args)
    packed = artefact.pack(config, objects, files)
    with fetch.opened(where, registries.settings(args, [args.reference])) as registry:
        for data in packed.blobs.values():
            registry.push_blob(data)
        digest = registry.push_manifest(packed.manifest, where.tag)
    assert digest == digest_of(packed.manifest)
    say(f"pushed {where}")
    sys.stdout.write(f"{where.name}@{digest}\n")
    return 0


def _described(
    args: argparse.Namespace,
) -> tuple[artefact.Config, list[bytes], dict[str, tuple[str, bytes]]]:
    from eunomia.cli import tracker_folder
    from eunomia.oci import artefact
    from eunomia.oci.errors import DistributionError
    from eunomia.source import open_source

    paths, known = list(args.file), None
    path = args.object
    if os.path.isdir(path):
        known = tracker_folder.declared(path)
        if known is not None and (known.derive or known.derived):
            raise DistributionError(f"{path}: its rows are made in Python, and code in Python is not distributed")
        paths = [*tracker_folder.texts(path), *paths]
        path = tracker_folder.object_of(path)
    path = path if "/" in path else f"./{path}"
    source = open_source(path)
    name = args.name or source.name
    if not artefact.NAME.fullmatch(name):
        raise UsageError(f"--name: {name!r} has other characters than letters, digits, and . _ -, or more than 64")
    if known is not None and (missing := sorted(tracker_folder.named(known) - {p.name for p in source.spec.programs})):
        raise DistributionError(f"{path}: it has no program {', '.join(missing)}, which tracker.py declares")
    machines = words(args.architecture) or [os.uname().machine]
    objects = [bounded_file.read(path, artefact.MOST_OBJECT)]
    described = [_object(objects[0], machines)]
    for machine, file in pairs(args.others, "--object", "ARCHITECTURE=FILE").items():
        open_source(file if "/" in file else f"./{file}").spec.close()
        objects.append(bounded_file.read(file, artefact.MOST_OBJECT))
        described.append(_object(objects[-1], [machine]))
    config = artefact.Config(
        name=name,
        description=args.description or (known.title if known else ""),
        objects=described,
        kernel=_needs(source),
        tracker=_declared(known) if known else None,
    )
    source.spec.close()
    return config, objects, _files(paths)


def _object(data: bytes, machines: list[str]) -> artefact.Object:
    from eunomia.oci import artefact
    from eunomia.oci.reference import digest_of

    return artefact.Object(digest=digest_of(data), size=len(data), architectures=machines)


def _needs(source: Source) -> artefact.Needs:
    from eunomia.oci import artefact

    return artefact.Needs(
        programs=sorted({program.section for program in source.spec.programs}),
        maps=sorted({one.type_name for one in source.spec.maps.values() if not one.internal}),
    )


def _declared(known: Tracker) -> artefact.Declared:
    from eunomia.oci import artefact

    return artefact.Declared(
        title=known.title,
        variants=[artefact.Variant(name=variant.name, programs=[*variant.programs]) for variant in known.variants],
        always=[*known.always],
        columns={stream: [*names] for stream, names in known.columns.items()},
        whole=known.whole,
    )


def _files(paths: list[str]) -> dict[str, tuple[str, bytes]]:
    from eunomia.oci import artefact

    found = {}
    for path in paths:
        name = os.path.basename(path)
        if not artefact.FILE.fullmatch(name):
            raise UsageError(f"--file: {name!r} has other characters than letters, digits, and . _ -")
        kind = artefact.README if name.lower().startswith("readme") else artefact.SOURCE
        found[name] = kind, bounded_file.read(path, artefact.MOST_FILE)
    return found
