# SPDX-License-Identifier: BSD-2-Clause
"""``eunomia build``: compiles probes with clang, as Eunomia's own are compiled."""

from __future__ import annotations

import os
import sys

from eunomia.cli.errors import UsageError
from eunomia.typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from eunomia.cli.parser import Subparsers

EXAMPLES = """\
examples:
  eunomia build foo.bpf.c                   makes foo.bpf.o beside it
  eunomia build foo.bpf.c -o out/foo.bpf.o
  eunomia build ./foo                       every *.bpf.c of a tracker's folder
  eunomia build foo.bpf.c -I . -D LIMIT=5   with your own headers (vmlinux.h, say) and macros

it takes clang 14 or later and the headers of libbpf: apt install clang libbpf-dev
"""


def add(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = subparsers.add_parser(
        "build",
        help="compile a probe",
        description="Compile a probe, or those in a tracker's folder, with clang and Eunomia's headers.",
        epilog=EXAMPLES,
    )
    parser.add_argument("source", metavar="FILE.bpf.c|FOLDER", help="a source, or a folder that has some")
    parser.add_argument("-o", dest="output", metavar="FILE", help="the object (FILE.bpf.o beside the source)")
    parser.add_argument(
        "-I", dest="include", action="append", default=[], metavar="FOLDER", help="look for headers here too"
    )
    parser.add_argument("-D", dest="define", action="append", default=[], metavar="NAME[=VALUE]", help="define a macro")
    parser.add_argument("--werror", action="store_true", help="clang's warnings are errors, as for Eunomia's own")
    parser.set_defaults(go=go)


def go(args: argparse.Namespace) -> int:
    """Compile; return 0, or 1 if clang refused a source."""
    from eunomia.cli import tracker_folder
    from eunomia.cli.errors import say
    from eunomia.oci import compiler
    from eunomia.sinks.escape import escape

    found = compiler.sources(args.source)
    if args.output and len(found) > 1:
        raise UsageError(f"-o: {args.source} has {len(found)} sources: each object is made beside its source")
    clang = compiler.compiler()
    more = [f"-I{folder}" for folder in args.include] + [f"-D{macro}" for macro in args.define]
    more += ["-Werror"] if args.werror else []
    code = 0
    for source in found:
        target = args.output or compiler.target_of(source)
        try:
            compiler.compile_probe(clang, source, target, more, warn=_repeat)
        except compiler.Refusal as error:
            _repeat(error.said)
            say(str(error))
            code = 1
            continue
        sys.stdout.write(f"{escape(target)}\n")
    if not code and os.path.isdir(args.source):
        tracker_folder.check(args.source)
    return code


def _repeat(said: str) -> None:
    from eunomia.sinks.escape import escape

    sys.stderr.write("".join(f"{escape(line.expandtabs())}\n" for line in said.splitlines()))
