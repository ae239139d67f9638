# SPDX-License-Identifier: BSD-2-Clause
"""The command line: one module for each command, imported when it is used.

A command's module has ``add(subparsers)``, which declares its parser and sets ``go``, and ``go(args)``, which
returns the exit code. Users' mistakes are reported here, as one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn, TypeAlias

from eunomia import __version__

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

COMMANDS = ("run", "containers", "tree", "list", "info", "doctor", "completion")

EXAMPLES = """\
examples:
  sudo eunomia run process              every program that starts and ends, and its container
  sudo eunomia run opensnoop -o json    opened files, one JSON object per line
  sudo eunomia run ./my.bpf.o           any program built with libbpf
  sudo eunomia containers --watch       the running containers, and their lifecycle events
  sudo eunomia tree                     the running processes, and the container of each
  sudo eunomia list                     the trackers, and which of them this kernel can run
  eunomia info process                  what a tracker shows, field by field
  sudo eunomia doctor                   what is missing on this machine, and what to do

exit codes: 0 done, 1 failed, 2 wrong usage. EUNOMIA_DEBUG=1 shows all there is to an error.
"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Fits the terminal's width. argparse would import shutil for this at each argument that it declares: 12 ms."""

    def __init__(self, prog: str) -> None:
        """Take the program's name."""
        columns = os.environ.get("COLUMNS", "")
        try:
            width = int(columns) if columns.isdecimal() and len(columns) < 6 else os.get_terminal_size(1).columns
        except OSError:
            width = 0
        super().__init__(prog, max_help_position=30, width=max(width or 80, 40) - 2)


_MOST = 500  # characters of an error that repeats an argument


class Parser(argparse.ArgumentParser):
    """Reports errors in one line. ``asked`` is the command of which the help has more."""

    asked = ""

    def __init__(self, **options: Any) -> None:
        """Take what argparse takes."""
        # A new option must not change what a script means.
        super().__init__(**options | {"formatter_class": Formatter, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        from eunomia.cli.errors import say

        if len(message) > _MOST:
            message = f"{message[:_MOST]}..."
        say(f"{message} (see {self.asked or self.prog} --help)")
        raise SystemExit(2)


def parser(commands: Sequence[str] = COMMANDS) -> Parser:
    """Return the parser of all commands, or only of those named, without importing the others' modules."""
    top = Parser(
        prog="eunomia",
        description="See what containers do on Linux, by eBPF.",
        epilog=EXAMPLES,
    )
    top.add_argument("--version", action="version", version=f"eunomia {__version__}")
    subparsers = top.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=top.prog
    )
    for name in commands:
        import_module(f"eunomia.cli.{name}").add(subparsers)
    if len(commands) == 1:
        top.asked = f"{top.prog} {commands[0]}"
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, given as ``argv`` or else in ``sys.argv``; return its exit code."""
    # for numpy, on first use of a column: no threads that wait actively for work
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = sys.argv[1:] if argv is None else [*argv]  # `list` is a command here
    _check_standard_files()
    if "_ARGCOMPLETE" in os.environ:
        from eunomia.cli import complete

        complete.answer(parser())
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        from eunomia.cli.errors import failed

        code = failed(error)
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try to write again at exit, and report an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _check_standard_files() -> None:
    """Open 0, 1 and 2 if they are closed, so that no probe gets these descriptors; allow any text to be written."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free descriptor; writing to it fails, which is reported
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(words: list[str]) -> int:
    if not words:
        parser().print_help(sys.stderr)
        return 2
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        from eunomia.cli.errors import no_such_command

        raise no_such_command(words[0], COMMANDS)
    chosen = words[:1] if words[0] in COMMANDS else COMMANDS
    try:
        args = parser(chosen).parse_args(words)
    except SystemExit as leaving:  # after --help, --version, or a reported error
        return int(leaving.code or 0)
    return int(args.go(args))
