# SPDX-License-Identifier: BSD-2-Clause
"""The command line: one module a command, imported when it is chosen.

A command's module has ``add(subparsers)``, which declares its parser and sets ``go``, and ``go(args)``, which
returns the exit code. What a user can get wrong ends here, as one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from eunomia import __version__

COMMANDS = ("run", "list", "info", "doctor", "completion")

EXAMPLES = """\
examples:
  sudo eunomia run process              every program that starts and ends, and whose container it is
  sudo eunomia run opensnoop -o json    which files are opened, one JSON object a line
  sudo eunomia run ./my.bpf.o           any program built with libbpf
  sudo eunomia list                     the trackers, and which of them this kernel can run
  eunomia info process                  what a tracker shows, field by field
  sudo eunomia doctor                   what is missing on this machine, and what to do

exit codes: 0 done, 1 failed, 2 wrong usage. EUNOMIA_DEBUG=1 shows all there is to an error.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line. ``asked`` is the command whose help tells more."""

    asked = ""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)  # a new option must not change what a script means
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        from eunomia.cli.errors import say

        say(f"{message} (see {self.asked or self.prog} --help)")
        raise SystemExit(2)


def parser(commands: Sequence[str] = COMMANDS) -> Parser:
    """Return the parser of all commands, or only of those named: the others' modules are not imported."""
    top = Parser(
        prog="eunomia",
        description="See what containers do on Linux, by eBPF.",
        epilog=EXAMPLES,
    )
    top.add_argument("--version", action="version", version=f"eunomia {__version__}")
    subparsers = top.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name in commands:
        import_module(f"eunomia.cli.{name}").add(subparsers)
    if len(commands) == 1:
        top.asked = f"{top.prog} {commands[0]}"
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given as ``argv`` or else in ``sys.argv``; return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if "_ARGCOMPLETE" in os.environ:
        from eunomia.cli import complete

        complete.answer(parser())
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from eunomia.cli.errors import failed

        return failed(error)
    return code


def _run(words: list[str]) -> int:
    if not words:
        parser().print_help(sys.stderr)
        return 2
    if words[0] in COMMANDS:
        args = parser(words[:1]).parse_args(words)
    elif words[0].startswith("-"):
        args = parser().parse_args(words)
    else:
        from eunomia.cli.errors import no_such_command

        raise no_such_command(words[0], COMMANDS)
    return int(args.go(args))
